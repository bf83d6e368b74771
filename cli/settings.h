// Which vault, and as whom: options, else the environment, else the configuration file.
#pragma once

#include <string>

#include "common/base/result.h"

namespace farside::cli {

struct Settings {
  std::string url;         // --vault-url, FARSIDE_URL, `url`: "https://vault:8443"
  std::string ca_file;     // --ca, FARSIDE_CA, `ca`; empty: the system's authorities.
  std::string token_file;  // --token-file, FARSIDE_TOKEN_FILE, `token_file`
  std::string subscription;
  std::string group;
  std::string vault;
  bool json = false;
};

// Fills what `given` leaves empty.  The file is $XDG_CONFIG_HOME/farside/cli.toml, by default
// ~/.config/farside/cli.toml; it need not exist.
// Errors: kInvalidArgument (a mistake in the file, or no vault is named anywhere).
Result<Settings> complete(Settings given);

// The bearer token.  Errors: kNotFound, kInvalidArgument (empty), kUnauthorized (no file named).
Result<std::string> read_token(const Settings& settings);

}  // namespace farside::cli
