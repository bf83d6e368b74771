// The platform of a host in memory (sim_host.h), for tests of everything above platforms.
//
// Nothing in it waits: what takes time on a real host is done when the call returns.
#pragma once

#include <memory>

#include "services/agent/platforms/platform.h"
#include "services/agent/platforms/sim/sim_host.h"

namespace farside::agent::sim {

// `host` outlives the platform and its points.
std::unique_ptr<Platform> open_platform(Host& host);

}  // namespace farside::agent::sim
