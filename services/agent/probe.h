// What an agent shows to Prometheus of the items it replicates and the replicas it keeps.
//
// Owns: the figures, by item; all are gone with forget_*().  Thread: the reactor's.
// Times are timestamps, so that an age goes on growing when its agent does not.
#pragma once

#include <string>

#include "common/base/clock.h"
#include "common/metrics/problems.h"
#include "common/metrics/registry.h"
#include "common/schema/agent.plain.h"
#include "services/agent/data_plane/figures.h"

namespace farside::agent {

class Probe final {
 public:
  Probe(metrics::Registry& registry, metrics::Problems& problems);

  // Once a second for each: the state as it is reported to the vault.
  void source(const msg::SourceItem& item, const msg::ReplicationStatus& status, bool is_stalled);
  void replica(const msg::ReplicaStatus& status);

  void cycle_ended(const msg::CycleDone& done, bool is_final);
  void cycle_failed(const std::string& item);

  void fences_held(Time at);
  void fenced_vm_stopped();
  // After each turn; figures since the start.
  void data_port(const data::ReceiverFigures& figures);

  void forget_source(const std::string& item);
  void forget_replica(const std::string& item);

  // Empty when it is well again; see metrics::Problems.
  void problem(const std::string& part, const std::string& what);

 private:
  metrics::Registry& registry_;
  metrics::Problems& problems_;
};

}  // namespace farside::agent
