// Folders of files that QEMU opens, which runs as another user than the agent (qemu_user.h).
#pragma once

#include <optional>
#include <string>

#include "common/base/result.h"
#include "services/agent/platforms/libvirt/qemu_user.h"

namespace farside::agent::libvirt {

// Made as make_folders() does.  The agent keeps what it makes to itself; of these the last
// `levels` let QEMU's group pass, which can neither list them nor, by that, read the files in them:
// those libvirt gives to QEMU.  What somebody has set to other rights stays as it is.  Without a
// user, or where this process may not give folders away, nothing is changed but for the latter:
// there anybody may pass.  Errors: those of from_errno().
Status make_qemu_folder(const std::string& path, const std::optional<QemuUser>& user,
                        int levels = 1);

// One in which QEMU makes its own files, the sockets it listens at, whatever rights it had. Nothing
// of the agent's may lie in it.  The folder above is made by make_qemu_folder().
Status make_qemu_drop(const std::string& path, const std::optional<QemuUser>& user);

// A file that QEMU is to read and write, a socket too; it stays ours.
Status share_with_qemu(const std::string& path, const QemuUser& user);

// How many of the last levels of `path` are in or are `own`, the agent's own folder; 1 if it lies
// elsewhere or there is none.
int levels_within(const std::string& path, const std::string& own);

}  // namespace farside::agent::libvirt
