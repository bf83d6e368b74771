// How a VM will be made at the target, as far as every platform understands it.
#pragma once

#include <vector>

#include "common/schema/types.plain.h"

namespace farside::agent {

// Rows for memory, processors, firmware, disks and cards: what a platform keeps that knows no more
// of the source VM than `shape`, whose NICs name networks of this host.
std::vector<msg::PlanRow> plan_of_shape(const msg::Vm& shape);

}  // namespace farside::agent
