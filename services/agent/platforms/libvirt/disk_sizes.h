// How big the disks of a VM are, from their files.
//
// QEMU is not asked: QEMU 7.2 may end on such a question while an image is being made for it, or
// while one of its disks ends being copied from a view.
#pragma once

#include "common/schema/types.plain.h"

namespace farside::agent::libvirt {

// Fills in the sizes that are not known, and the problem if a file cannot be read.
void measure_disks(msg::Vm& vm);

}  // namespace farside::agent::libvirt
