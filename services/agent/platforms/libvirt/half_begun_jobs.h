// Backup jobs that libvirt's embedded driver had only half begun when its process was killed.
//
// It notes that a VM has a backup job before it notes the backup.  Killed in between, it finds the
// job without a backup when it starts again ("backup job data missing"), and neither ends it nor
// lets another begin, for as long as the guest runs.
// Source: seen with libvirt 9.0; the note is the attribute `async` of <job> in
// <root>/run/qemu/<VM>.xml, the backup a <domainbackup> in the same file.
#pragma once

#include <string>

#include "common/base/result.h"

namespace farside::agent::libvirt {

// Takes the notes back.  Before the driver of `root` is opened: then nobody else writes there.
// Thread: any.  Does nothing if this or another process has it open.  Errors: kIo.
Status forget_half_begun_jobs(const std::string& root);

}  // namespace farside::agent::libvirt
