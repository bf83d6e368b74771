// What libvirt's embedded driver had only half begun when its process was killed.
//
// Backup jobs: it notes that a VM has one before it notes the backup.  Killed in between, it finds
// the job without a backup when it starts again ("backup job data missing"), and neither ends it
// nor lets another begin, for as long as the guest runs; nor does QEMU, which may have begun it
// (half_backup.h).  Starts: it notes that a VM is starting
// before it knows the process of its QEMU.  Killed in between, it takes the VM for one that runs
// and is still being started, for ever: each call about it waits for half a minute and fails.
// Source: seen with libvirt 9.0; the notes are the attributes `async` of <job>, and `reason` and
// `pid` of <domstatus> in <root>/run/qemu/<VM>.xml, the backup a <domainbackup> in the same file.
#pragma once

#include <string>

namespace farside::agent::libvirt {

// Takes the notes back, with what QEMU has of such a backup, and ends a QEMU of such a start, whose
// guest has never run.  Before the driver of `root` is opened: then nobody else writes there.
// Thread: any.  Does nothing if this or another process has it open.  What cannot be taken back is
// told of in the log.
void forget_half_begun(const std::string& root);

}  // namespace farside::agent::libvirt
