#include "cli/settings.h"

#include <cstdlib>
#include <filesystem>

#include "common/base/config.h"
#include "common/base/secret_file.h"

namespace farside::cli {
namespace {

std::string environment(const char* name) {
  const char* value = std::getenv(name);
  return value == nullptr ? "" : value;
}

std::string config_path() {
  if (const std::string base = environment("XDG_CONFIG_HOME"); !base.empty()) {
    return base + "/farside/cli.toml";
  }
  const std::string home = environment("HOME");
  return home.empty() ? "" : home + "/.config/farside/cli.toml";
}

void fill(std::string& value, const std::string& fallback) {
  if (value.empty()) value = fallback;
}

}  // namespace

Result<Settings> complete(Settings given) {
  fill(given.url, environment("FARSIDE_URL"));
  fill(given.ca_file, environment("FARSIDE_CA"));
  fill(given.token_file, environment("FARSIDE_TOKEN_FILE"));
  const std::string path = config_path();
  if (std::error_code ignored; !path.empty() && std::filesystem::exists(path, ignored)) {
    FARSIDE_ASSIGN(Config config, Config::from_file(path));
    fill(given.url, config.text("url", ""));
    fill(given.ca_file, config.text("ca", ""));
    fill(given.token_file, config.text("token_file", ""));
    fill(given.subscription, config.text("subscription", ""));
    fill(given.group, config.text("group", ""));
    fill(given.vault, config.text("vault", ""));
    FARSIDE_TRY(config.finish());
  }
  fill(given.subscription, "farside");
  fill(given.group, "farside");
  fill(given.vault, "farside");
  if (given.url.empty()) {
    return fail(ErrorCode::kInvalidArgument, "no vault is named",
                "give --vault-url, set FARSIDE_URL, or write `url` into " + path);
  }
  if (!given.url.starts_with("https://")) {
    return fail(ErrorCode::kInvalidArgument, "the vault's URL '" + given.url + "' is not https",
                "write it as https://HOST:8443");
  }
  while (given.url.ends_with('/')) given.url.pop_back();
  return given;
}

Result<std::string> read_token(const Settings& settings) {
  if (settings.token_file.empty()) {
    return fail(ErrorCode::kUnauthorized, "no token file is named",
                "give --token-file or set FARSIDE_TOKEN_FILE; the vault wrote the first token when "
                "it started");
  }
  auto text =
      read_secret_file(settings.token_file, "token file", SecretOwner::kUsOrRootOrAnyoneForRoot);
  if (!text) {
    return fail(ErrorCode::kUnauthorized, text.error().what,
                text.error().advice.empty() ? "check its path and that you may read it"
                                            : text.error().advice);
  }
  std::string token = std::move(*text);
  token.erase(token.find_last_not_of(" \r\n\t") + 1);
  token.erase(0, token.find_first_not_of(" \r\n\t"));
  if (token.empty() || token.find_first_of("\r\n") != std::string::npos) {
    return fail(ErrorCode::kUnauthorized,
                "token file '" + settings.token_file + "' does not hold one token",
                "put the token alone into the file");
  }
  return token;
}

}  // namespace farside::cli
