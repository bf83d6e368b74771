#include "services/provider/vmm/winrm.h"

#include "common/base/log.h"
#include "common/base/secret_file.h"
#include "common/wsman/login_channel.h"
#include "common/wsman/shell.h"

namespace farside::provider::vmm {
namespace {

constexpr Micros kScriptWithin = std::chrono::minutes{2};
constexpr std::size_t kWordsMax = 500;

Result<std::string> password_of(const std::string& path) {
  auto password = read_secret_line(path, "password file");
  if (!password && password.error().code == ErrorCode::kNotFound) {
    return fail(ErrorCode::kNotFound, password.error().what,
                "check vmm.password_file in the configuration");
  }
  return password;
}

Result<Answers> run_all(wsman::Shell& shell, std::span<const Script> scripts) {
  Answers answers;
  for (const Script& script : scripts) {
    auto result = shell.run(wsman::powershell(script.text), kScriptWithin);
    if (!result) return fail(result.error().in("ask VMM for its " + script.name));
    if (result->exit_code != 0) {
      return fail(ErrorCode::kPlatform,
                  "ask VMM for its " + script.name + ": PowerShell ended with " +
                      std::to_string(result->exit_code) + ": " +
                      result->errors.substr(0, kWordsMax),
                  "run Get-SCVMMServer as the same user on the VMM server");
    }
    answers[script.name] = std::move(result->output);
  }
  return answers;
}

}  // namespace

RunScripts by_winrm(Server server, const Clock& clock, Random& random) {
  return [server = std::move(server), &clock,
          &random](std::span<const Script> scripts) -> Result<Answers> {
    FARSIDE_ASSIGN(std::string password, password_of(server.password_file));
    FARSIDE_ASSIGN(
        auto channel,
        wsman::LoginChannel::open(
            {.url = server.url, .ca_file = server.ca_file, .fingerprint = server.fingerprint},
            wsman::LoginKind::kNegotiate,
            {.user = server.user, .password = password, .mechanism = server.mechanism}));
    wsman::Shell shell({.url = server.url}, std::move(channel), clock, random);
    auto answers = run_all(shell, scripts);
    const Status closed = shell.close();
    if (!closed)
      log::warn("vmm_shell_not_closed", {{"url", server.url}, {"cause", closed.error()}});
    return answers;
  };
}

}  // namespace farside::provider::vmm
