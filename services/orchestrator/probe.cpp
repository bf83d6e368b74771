#include "services/orchestrator/probe.h"

namespace farside::orchestrator {

void Probe::ended(const flow::Engine::Ended& ended) {
  const double seconds = static_cast<double>(ended.took.count()) / 1'000'000.0;
  metrics::Labels labels{{"workflow", std::string(ended.workflow)},
                         {"result", std::string(ended.result)}};
  if (ended.step.empty()) {
    registry_
        .histogram("farside_workflow_seconds", "Workflows that ended, by how long they took.",
                   metrics::seconds_buckets(), labels)
        .observe(seconds);
    return;
  }
  labels["step"] = std::string(ended.step);
  registry_
      .histogram("farside_workflow_step_seconds",
                 "Steps that ended, by how long they took, retries included.",
                 metrics::seconds_buckets(), labels)
      .observe(seconds);
}

void Probe::running(const flow::Engine::Running& running) {
  registry_.gauge("farside_workflows_running", "Workflows that have not ended.")
      .set(static_cast<double>(running.flows));
  registry_
      .gauge("farside_workflows_waiting_for_operator",
             "Those of them that go on only when an operator restarts their job.")
      .set(static_cast<double>(running.need_operator));
}

}  // namespace farside::orchestrator
