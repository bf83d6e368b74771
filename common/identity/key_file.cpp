#include "common/identity/key_file.h"

#include <fmt/format.h>

#include <limits>

#include "common/base/config.h"
#include "common/base/secret_file.h"

namespace farside::identity {
namespace {

constexpr std::size_t kKeyFileBytesMax = 16'384;
constexpr std::size_t kZ85KeyLength = 40;
constexpr std::string_view kAdvice = "use the file exactly as `farside key create` wrote it";

}  // namespace

std::string to_toml(const msg::RegistrationKey& key) {
  // Literal strings ('…') because Z85 has no apostrophe but does have braces and ampersands.
  return fmt::format(
      "# Farside registration key. Keep it secret; it admits one {} once.\n"
      "name = '{}'\nrole = '{}'\nsite = '{}'\nhost = '{}'\nissuer = '{}'\nendpoint = '{}'\n"
      "server_key = '{}'\nsecret = '{}'\npublic_key = '{}'\nsecret_key = '{}'\n"
      "created_at = '{}'\nexpires_at = '{}'\n",
      msg::to_text(key.role), key.name, msg::to_text(key.role), key.site, key.host, key.issuer,
      key.endpoint, key.server_key, key.secret, key.public_key, key.secret_key,
      to_iso(Time{key.created_at}), to_iso(Time{key.expires_at}));
}

Result<msg::RegistrationKey> key_from_toml(std::string_view text, const std::string& name) {
  if (text.size() > kKeyFileBytesMax) {
    return fail(ErrorCode::kInvalidArgument, "'" + name + "' is too large for a registration key",
                std::string(kAdvice));
  }
  auto parsed = Config::from_text(text, name);
  if (!parsed) return fail(parsed.error().code, parsed.error().what, std::string(kAdvice));
  auto& config = *parsed;
  msg::RegistrationKey key;
  key.name = config.required_text("name");
  const auto role = config.required_text("role");
  key.site = config.text("site", "");
  key.host = config.text("host", "");
  key.issuer = config.required_text("issuer");
  key.endpoint = config.required_text("endpoint");
  key.server_key = config.required_text("server_key");
  key.secret = config.required_text("secret");
  key.public_key = config.required_text("public_key");
  key.secret_key = config.required_text("secret_key");
  const auto created = config.required_text("created_at");
  const auto expires = config.required_text("expires_at");
  if (const auto finished = config.finish(); !finished) {
    return fail(finished.error().code, finished.error().what, std::string(kAdvice));
  }

  const auto parsed_role = msg::enum_from_text<msg::Role>(role);
  if (!parsed_role) {
    return fail(ErrorCode::kInvalidArgument, "'" + name + "': no such role '" + role + "'",
                std::string(kAdvice));
  }
  key.role = *parsed_role;
  FARSIDE_ASSIGN(const auto created_at, time_from_iso(created));
  FARSIDE_ASSIGN(const auto expires_at, time_from_iso(expires));
  key.created_at = created_at.micros;
  key.expires_at = expires_at.micros;
  for (const auto* z85 : {&key.server_key, &key.public_key, &key.secret_key}) {
    if (z85->size() != kZ85KeyLength) {
      return fail(ErrorCode::kInvalidArgument, "'" + name + "': a key in it is cut short",
                  std::string(kAdvice));
    }
  }
  return key;
}

Result<msg::RegistrationKey> load_key(const std::string& path, Time now) {
  auto text = read_secret_file(path, "registration key file");
  if (!text) {
    if (text.error().code != ErrorCode::kNotFound) return fail(text.error());
    return fail(ErrorCode::kNotFound, "registration key file '" + path + "' cannot be read",
                "create one with `farside key create` and name it in the configuration");
  }
  FARSIDE_ASSIGN(auto key, key_from_toml(*text, path));
  if (key.expires_at <= now.micros) {
    return fail(ErrorCode::kExpired,
                "registration key '" + path + "' expired at " + to_iso(Time{key.expires_at}),
                "create a new one with `farside key create`");
  }
  return key;
}

}  // namespace farside::identity
