// Whose a VM is that Farside made: ours while it is a test or not whole, somebody's production
// else.
#pragma once

#include <string>

#include "common/base/result.h"

namespace farside::agent {

// kForbidden.
Status refuse_to_remove(const std::string& vm_name);
// kConflict.
Status refuse_to_release(const std::string& vm_name);

}  // namespace farside::agent
