// Files that guests of this host boot from directly, where its operator wants that: only those in
// one folder that he configured, known by their name alone.
#pragma once

#include <string>

#include "common/base/result.h"

namespace farside::agent::libvirt {

// The path of `name` in `folder`.  `name` may come from a peer.  Errors: kForbidden (no such folder
// is configured, or the name leads out of it), kNotFound.
Result<std::string> boot_file(const std::string& folder, const std::string& name);

}  // namespace farside::agent::libvirt
