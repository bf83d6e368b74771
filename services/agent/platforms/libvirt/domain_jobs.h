// What is being done to a domain: backup jobs of ours and of others, and whatever else excludes a
// point.  An answer that libvirt could not give is an error, never "nothing".
//
// Thread: any.
#pragma once

#include <string>

#include "services/agent/platforms/libvirt/connection.h"
#include "services/agent/platforms/libvirt/domain_xml.h"

namespace farside::agent::libvirt {

std::string uuid_of(virDomainPtr domain);
std::string name_of(virDomainPtr domain);

// Errors: kNotFound, kUnavailable, kPlatform.
Result<bool> is_active(virDomainPtr domain);

// A number of its own for each time that it was started; -1 while it is off, or is not to be asked.
int run_of(virDomainPtr domain);

// Whether a backup job of ours, that is one with its files in `scratch_dir`, is under way.  Errors:
// kBusy (somebody else's is).
Result<bool> has_backup_of_ours(virDomainPtr domain, const std::string& scratch_dir);

// Ends it.  None: success.  Errors: kBusy (it is not ours, and left alone), kTimeout.
Status end_backup_of_ours(virDomainPtr domain, const std::string& scratch_dir);

// Whether anything long is being done to the domain.
Result<bool> has_job(virDomainPtr domain);

// Errors: kBusy, with who and what.
Status refuse_snapshots(virDomainPtr domain);
Status refuse_writers(virDomainPtr domain, const DomainShape& shape);  // Of a VM that is off.
Status refuse_jobs(virDomainPtr domain, const DomainShape& shape);

// A VM that was saved goes on from its memory when it is started; made of its disks alone elsewhere
// it would not, and nothing would be left of what it was doing.  Errors: kConflict.
Status refuse_saved(virDomainPtr domain);

}  // namespace farside::agent::libvirt
