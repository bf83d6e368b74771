// Folders of files that QEMU opens, which runs as another user than the agent (qemu_user.h).
#pragma once

#include <optional>
#include <string>

#include "common/base/result.h"
#include "services/agent/platforms/libvirt/qemu_user.h"

namespace farside::agent::libvirt {

// Made as make_folders() does.  The agent keeps what it makes to itself; of these the last
// `levels` let QEMU's group pass, which can neither list them nor, by that, read the files in them:
// those libvirt gives to QEMU.  Where this process may not give folders away, anybody may pass.
// Without a user nothing is changed, and what somebody has set to other rights than 0700 never is.
// Errors: those of from_errno().
Status make_qemu_folder(const std::string& path, const std::optional<QemuUser>& user,
                        int levels = 1);

// One in which QEMU makes its own files, the sockets it listens at: it becomes QEMU's, whatever it
// was, and nothing of the agent's may lie in it.  An agent that is not root's leaves it to its
// operator.  The folder above is made by make_qemu_folder().
Status make_qemu_drop(const std::string& path, const std::optional<QemuUser>& user);

// A socket of ours that QEMU is to use: it becomes QEMU's.  Where the agent is not root's, its
// operator sees to that.
Status share_with_qemu(const std::string& path, const QemuUser& user);

// How many of the last levels of `path` are in or are `own`, the agent's own folder; 1 if it lies
// elsewhere or there is none.
int levels_within(const std::string& path, const std::string& own);

}  // namespace farside::agent::libvirt
