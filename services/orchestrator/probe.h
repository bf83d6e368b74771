// What the orchestrator shows to Prometheus of its workflows.
//
// Thread: the reactor's.
#pragma once

#include "common/flow/engine.h"
#include "common/metrics/registry.h"

namespace farside::orchestrator {

class Probe final {
 public:
  explicit Probe(metrics::Registry& registry) : registry_(registry) {}

  void ended(const flow::Engine::Ended& ended);
  void running(const flow::Engine::Running& running);

 private:
  metrics::Registry& registry_;
};

}  // namespace farside::orchestrator
