// What shows from outside that a guest lives.
#pragma once

#include <libvirt/libvirt.h>

#include <string>

#include "services/agent/platforms/libvirt/domain_xml.h"

namespace farside::agent::libvirt {

// See Platform::sign_of_life().  `shape` is that of the running domain.  Asks QEMU for counters
// only, never about the nodes of its disks.  Errors: kConflict (it does not run).
Result<std::string> sign_of_life(virDomainPtr domain, const DomainShape& shape);

}  // namespace farside::agent::libvirt
