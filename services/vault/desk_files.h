// Files that the vault writes for its operator at its first start.
#pragma once

#include <string>

#include "common/base/random.h"
#include "common/base/result.h"

namespace farside::vault {

// The owner's bearer token, made once and kept in `path` (0600).  Errors: kIo, kCorrupt, and
// those of read_secret_line().
Result<std::string> load_or_create_token(const std::string& path, Random& random);

// Replaces `path` with `text`, mode 0600.  Errors: kIo.
Status write_private(const std::string& path, const std::string& text);

}  // namespace farside::vault
