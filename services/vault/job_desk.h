// Starts jobs at the orchestrator and keeps what it says of them.
//
// Thread: the reactor's.
// Invariants: a job is recorded before it is asked for, and asked for until the orchestrator has
// accepted it; an item has at most one job at a time.
#pragma once

#include <string>

#include "common/reactor/effects.h"
#include "services/vault/catalog.h"

namespace farside::vault {

// As ARM clients know a workflow.
struct Scenario {
  std::string_view workflow;
  std::string_view scenario;       // "PlannedFailover"
  std::string_view friendly_name;  // "Planned failover"
  bool may_be_given_up = false;    // While it waits for an operator: see flow::Definition.
};
const Scenario& scenario_of(std::string_view workflow);

class JobDesk final {
 public:
  explicit JobDesk(Catalog& catalog) : catalog_(catalog) {}

  struct Order {
    std::string workflow;
    msg::ItemState meanwhile;  // The item's state while the job runs.
    msg::WorkflowInput input;  // Without its spec, which is made here.
  };
  // Records job and item.  Errors: kConflict (the item has a job already), kNotFound.
  Result<std::string> start(msg::ProtectedItem item, Order order, reactor::Effects& effects);

  // Asks again for every job not accepted yet.
  void ask(reactor::Effects& effects);
  void accepted(const std::string& job, reactor::Effects& effects);
  void refused(const std::string& job, const Error& error, reactor::Effects& effects);

  // The orchestrator has sent a job on: whoever looks before it tells how far it is must not find
  // it waiting for an operator still.
  void restarted(const std::string& job, reactor::Effects& effects);

  void changed(const msg::JobChanged& changed, reactor::Effects& effects);
  Status record(const msg::ItemChange& change, reactor::Effects& effects);

 private:
  void ended(const msg::FlowRecord& flow, reactor::Effects& effects);

  Catalog& catalog_;
};

}  // namespace farside::vault
