// Every workflow this release can run; the generated tests take their rows from here.
#pragma once

#include <vector>

#include "common/flow/step.h"

namespace farside::orchestrator {

flow::Workflow enable_protection();
flow::Workflow test_failover();
flow::Workflow test_failover_cleanup();
flow::Workflow planned_failover();
flow::Workflow commit_failover();
flow::Workflow disable_protection();

inline std::vector<flow::Workflow> all_workflows() {
  return {enable_protection(), test_failover(),   test_failover_cleanup(),
          planned_failover(),  commit_failover(), disable_protection()};
}

}  // namespace farside::orchestrator
