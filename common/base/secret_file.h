// Files that hold a password, a token or a private key: read only if nobody else can.
#pragma once

#include <cstddef>
#include <string>

#include "common/base/result.h"

namespace farside {

inline constexpr std::size_t kSecretBytesMax = std::size_t{64} << 10U;

// Who may own the file.  Commands that an operator runs as root read the files of services, too.
enum class SecretOwner { kUsOrRoot, kUsOrRootOrAnyoneForRoot };

// All of the file.  `what` names it in errors: "token file".
// Errors: kNotFound, kForbidden (others can read or change it, somebody else owns it, we may not
// read it), kInvalidArgument (not a regular file), kTooLarge, and those of from_errno().
Result<std::string> read_secret_file(const std::string& path, const std::string& what,
                                     SecretOwner owner = SecretOwner::kUsOrRoot);

// As above, without the line's end: for a file that holds one line.  Errors: also kInvalidArgument
// (nothing, or more than a line).
Result<std::string> read_secret_line(const std::string& path, const std::string& what,
                                     SecretOwner owner = SecretOwner::kUsOrRoot);

}  // namespace farside
