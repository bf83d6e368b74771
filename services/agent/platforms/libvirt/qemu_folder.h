// Folders of files that QEMU opens, which may run as another user than the agent.
#pragma once

#include <string>

#include "common/base/result.h"

namespace farside::agent::libvirt {

// Made as make_folders() does.  The agent keeps what it makes to itself; of these the last
// `levels` let others pass, who can neither list them nor, by that, read the files in them: those
// libvirt gives to QEMU.  What somebody has set to other rights stays as it is.
// Errors: those of from_errno().
Status make_qemu_folder(const std::string& path, int levels = 1);

}  // namespace farside::agent::libvirt
