// What QEMU has of a backup that libvirt was killed in before it noted it: jobs, the NBD server,
// our scratch images, bitmaps.  Left there, no further backup of the guest can begin.
//
// Thread: one.  Source: seen with libvirt 9.0 and QEMU 7.2; libvirt's names are "backup-..." for
// jobs and bitmaps, "libvirt-N-storage" and "libvirt-N-format" for an image (qemu_backup.c).
#pragma once

#include <string>

#include "common/base/result.h"

namespace farside::agent::libvirt {

// At the monitor socket `monitor` of a QEMU that nobody else talks to.  `checkpoints`: libvirt's
// folder of this VM's; bitmaps of ours that it does not know go.  Errors: as QemuMonitor's; then
// the rest of it may be there still.
Status take_back_half_backup(const std::string& monitor, const std::string& checkpoints);

}  // namespace farside::agent::libvirt
