// The implementations that the contract is run on; a new one is a row in bus_worlds.cpp.
#pragma once

#include <vector>

#include "tests/contract/bus/bus_world.h"

namespace farside::reactor {

std::vector<BusWorldMaker> bus_worlds();

}  // namespace farside::reactor
