// Registration keys and join tokens as files: a small TOML document, valid once and for days.
#pragma once

#include <string>
#include <string_view>

#include "common/base/clock.h"
#include "common/base/result.h"
#include "common/schema/control.plain.h"

namespace farside::identity {

std::string to_toml(const msg::RegistrationKey& key);

// Errors: kInvalidArgument (not such a file, with line and cause).
Result<msg::RegistrationKey> key_from_toml(std::string_view text, const std::string& name);

// As above, from a file that nobody else can read, and still valid.  Errors: also kExpired, and
// those of read_secret_file().
Result<msg::RegistrationKey> load_key(const std::string& path, Time now);

}  // namespace farside::identity
