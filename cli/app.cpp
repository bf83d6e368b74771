#include "cli/app.h"

#include <algorithm>

#include "cli/commands.h"

namespace farside::cli {
namespace {

void report(const Error& error, bool as_json, std::ostream& err) {
  if (as_json) {
    err << Json{{"error",
                 {{"code", std::string(to_text(error.code))},
                  {"message", error.what},
                  {"advice", error.advice}}}}
               .dump(2, ' ', false, Json::error_handler_t::replace)
        << "\n";
    return;
  }
  err << "farside: " << error.what << "\n";
  if (!error.advice.empty()) err << "next: " << error.advice << "\n";
}

Status execute(Commands& commands, const Settings& given, bool no_wait, Screen& screen) {
  FARSIDE_ASSIGN(const Settings settings, complete(given));
  FARSIDE_ASSIGN(std::string token, read_token(settings));
  VaultClient vault(settings, std::move(token));
  const SystemClock clock;
  Session session{.settings = settings,
                  .vault = vault,
                  .paths = Paths(settings),
                  .screen = screen,
                  .clock = clock,
                  .wait = !no_wait};
  return commands.chosen(session);
}

}  // namespace

int exit_code(ErrorCode code) {
  switch (code) {
    case ErrorCode::kInvalidArgument:
      return kUsage;
    case ErrorCode::kUnavailable:
      return kUnreachable;
    case ErrorCode::kUnauthorized:
    case ErrorCode::kForbidden:
      return kNotAuthorised;
    case ErrorCode::kNotFound:
      return kMissing;
    default:
      return kFailed;
  }
}

int run(std::vector<std::string> arguments, std::ostream& out, std::ostream& err,
        bool is_terminal) {
  CLI::App app("farside: keep a second site ready to take over the virtual machines of the first");
  app.name("farside");
  app.require_subcommand(1);
  app.fallthrough();  // Global options may stand after the command too.
  Settings given;
  bool no_wait = false;
  app.add_option("--vault-url", given.url, "https://HOST:PORT of the vault [FARSIDE_URL]");
  app.add_option("--ca", given.ca_file, "The vault's ca.pem [FARSIDE_CA]");
  app.add_option("--token-file", given.token_file,
                 "File with the bearer token [FARSIDE_TOKEN_FILE]");
  app.add_option("--subscription", given.subscription, "Default: farside");
  app.add_option("--group", given.group, "Resource group; default: farside");
  app.add_option("--vault", given.vault, "The vault's name; default: farside");
  app.add_flag("--json", given.json, "Results and errors as JSON");
  app.add_flag("--no-wait", no_wait, "Start the job and return its id");
  app.footer(
      "Exit codes: 0 done, 1 operation or job failed, 2 wrong usage, 3 vault unreachable,\n"
      "4 not authorised, 5 not found.");
  Commands commands(app);
  add_setup_commands(commands);
  add_policy_commands(commands);
  add_protect_commands(commands);
  add_job_commands(commands);
  add_completion_command(commands);

  std::ranges::reverse(arguments);  // CLI11 takes them last first.
  try {
    app.parse(std::move(arguments));
  } catch (const CLI::ParseError& problem) {
    return app.exit(problem, out, err) == 0 ? kDone : kUsage;
  }
  if (commands.chosen_local) {
    commands.chosen_local(out);
    return kDone;
  }
  Screen screen(out, is_terminal && !given.json);
  const Status done = execute(commands, given, no_wait, screen);
  if (done) return kDone;
  out << std::flush;
  report(done.error(), given.json, err);
  return exit_code(done.error().code);
}

}  // namespace farside::cli
