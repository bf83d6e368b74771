// How long each kind of job of an agent's workers may take before it is a problem of the host.
//
// Thread: any.
#pragma once

#include "common/reactor/worker_pool.h"

namespace farside::agent {

reactor::Patience patience_for(const msg::Message& job);

}  // namespace farside::agent
