// Whether this host has the memory that a VM needs: with more than it has, the kernel ends other
// guests.
#pragma once

#include <libvirt/libvirt.h>

#include "common/base/result.h"

namespace farside::agent::libvirt {

// Judges what libvirt made of the VM's definition, modules of memory included.
// Errors: kNoSpace, kPlatform.
Status check_memory(virConnectPtr connection, virDomainPtr domain);

}  // namespace farside::agent::libvirt
