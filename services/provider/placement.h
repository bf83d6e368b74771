// Chooses where a replica lives: pure, so that every refusal can be tested and explained.
#pragma once

#include <vector>

#include "common/base/result.h"
#include "common/schema/control.plain.h"

namespace farside::provider {

// A connected host of a host group of the cloud that has memory and room, a path of the storage
// class and every mapped network; of several the one with most free space.  `placed` counts what
// is promised already.  Errors: kNotFound (no such cloud, network or class), kNoSpace (no host
// fits; the text says of each host why).
Result<msg::Placement> place(const msg::PlaceReplica& wanted, const msg::Inventory& inventory,
                             const std::vector<msg::Placement>& placed);

// Name of a VM network on the hosts; "" stays "".  Errors: kNotFound.
Result<std::string> host_network(const msg::Inventory& inventory, const std::string& network);

}  // namespace farside::provider
