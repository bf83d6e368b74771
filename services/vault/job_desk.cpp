#include "services/vault/job_desk.h"

#include <array>

#include "common/base/log.h"
#include "common/flow/fault.h"

namespace farside::vault {
namespace {

using msg::FlowPhase;
using msg::ItemState;

constexpr std::array kScenarios{
    Scenario{"enable_protection", "EnableDr", "Enable replication"},
    Scenario{"test_failover", "TestFailover", "Test failover"},
    Scenario{"test_failover_cleanup", "TestFailoverCleanup", "Clean up test failover"},
    Scenario{"planned_failover", "PlannedFailover", "Planned failover"},
    Scenario{"commit_failover", "CommitFailover", "Commit failover", true},
    Scenario{"disable_protection", "DisableDr", "Disable replication", true},
};
constexpr Scenario kOther{"", "Other", "Job"};

constexpr std::string_view kAskPrefix = "job/";

bool has_ended(FlowPhase phase) {
  return phase == FlowPhase::succeeded || phase == FlowPhase::failed ||
         phase == FlowPhase::cancelled;
}

}  // namespace

const Scenario& scenario_of(std::string_view workflow) {
  for (const auto& scenario : kScenarios) {
    if (scenario.workflow == workflow) return scenario;
  }
  return kOther;
}

Result<std::string> JobDesk::start(msg::ProtectedItem item, Order order,
                                   reactor::Effects& effects) {
  if (!item.job.empty()) {
    return fail(ErrorCode::kConflict,
                "VM '" + item.vm_name + "' is busy with job '" + item.job + "'",
                "wait for its end, or cancel it: `farside jobs show " + item.job + "`");
  }
  FARSIDE_ASSIGN(order.input.spec, catalog_.spec(effects.store(), item));
  const auto id = effects.fresh_id();
  msg::JobRecord job{.flow = msg::FlowRecord{.id = id,
                                             .workflow = order.workflow,
                                             .phase = FlowPhase::running,
                                             .started_at = effects.now().micros,
                                             .item = item.id},
                     .vm_name = item.vm_name,
                     .input = msg::encode(msg::StartWorkflow{
                         .job = id, .workflow = order.workflow, .input = order.input}),
                     .site = item.source_site};
  item.job = id;
  item.state = order.meanwhile;
  catalog_.items.put(effects.writes, item.id, item);
  catalog_.jobs.put(effects.writes, id, job);
  effects.writes.put("job_unaccepted", id, "");
  log::info("job ordered", {{"job", id}, {"workflow", order.workflow}, {"vm", item.vm_name}});
  ask(effects);
  return id;
}

void JobDesk::ask(reactor::Effects& effects) {
  std::vector<std::string> ids;
  const auto scanned =
      effects.store().scan("job_unaccepted", "", "", [&](std::string_view key, std::string_view) {
        ids.emplace_back(key);
        return true;
      });
  if (!scanned) return;
  for (const auto& id : ids) {
    const auto job = catalog_.jobs.get(effects.store(), id);
    if (!job || !*job) continue;
    auto order = msg::decode<msg::StartWorkflow>((*job)->input);
    if (!order) continue;
    effects.request("orchestrator", "orchestrator", std::string(kAskPrefix) + id,
                    std::move(*order));
  }
}

void JobDesk::accepted(const std::string& id, reactor::Effects& effects) {
  auto job = catalog_.jobs.get(effects.store(), id);
  if (!job || !*job) return;
  (*job)->accepted = true;
  (*job)->input.clear();
  catalog_.jobs.put(effects.writes, id, **job);
  effects.writes.erase("job_unaccepted", id);
}

void JobDesk::refused(const std::string& id, const Error& error, reactor::Effects& effects) {
  if (error.is_retryable()) return;  // It is asked for again.
  auto job = catalog_.jobs.get(effects.store(), id);
  if (!job || !*job) return;
  auto flow = (*job)->flow;
  flow.phase = FlowPhase::failed;
  flow.fault = flow::to_fault(error);
  flow.ended_at = effects.now().micros;
  flow.revision += 1;
  effects.writes.erase("job_unaccepted", id);
  (*job)->flow = flow;
  catalog_.jobs.put(effects.writes, id, **job);
  ended(flow, effects);
}

void JobDesk::restarted(const std::string& id, reactor::Effects& effects) {
  auto job = catalog_.jobs.get(effects.store(), id);
  if (!job || !*job || (*job)->flow.phase != FlowPhase::needsOperator) return;
  auto& flow = (*job)->flow;
  const bool was_undoing =
      flow.step < flow.steps.size() && flow.steps[flow.step].state == msg::StepState::undoFailed;
  flow.phase = was_undoing ? FlowPhase::unwinding : FlowPhase::running;
  catalog_.jobs.put(effects.writes, id, **job);
}

void JobDesk::changed(const msg::JobChanged& changed, reactor::Effects& effects) {
  const auto& flow = changed.flow;
  auto job = catalog_.jobs.get(effects.store(), flow.id);
  if (!job) return;  // Unreadable: not noted, so it is told again.
  effects.report("orchestrator", msg::JobNoted{.job = flow.id, .revision = flow.revision});
  if (!*job || flow.revision <= (*job)->flow.revision) return;
  const bool had_ended = has_ended((*job)->flow.phase);
  (*job)->flow = flow;
  (*job)->accepted = true;
  (*job)->input.clear();
  catalog_.jobs.put(effects.writes, flow.id, **job);
  effects.writes.erase("job_unaccepted", flow.id);
  if (has_ended(flow.phase) && !had_ended) ended(flow, effects);
}

// What the end of a job means for its item, beyond what its steps recorded.
void JobDesk::ended(const msg::FlowRecord& flow, reactor::Effects& effects) {
  auto found = catalog_.items.get(effects.store(), flow.item);
  if (!found || !*found || (*found)->job != flow.id) return;
  auto& item = **found;
  item.job.clear();
  const bool succeeded = flow.phase == FlowPhase::succeeded;
  if (flow.workflow == "disable_protection" && succeeded) {
    catalog_.items.erase(effects.writes, item.id);
    catalog_.live.sources.erase(item.id);
    catalog_.live.replicas.erase(item.id);
    return;
  }
  if (!succeeded) {
    if (flow.workflow == "enable_protection") {
      item.state = ItemState::enableFailed;
    } else if (flow.workflow == "planned_failover" || flow.workflow == "test_failover") {
      item.state = ItemState::protected_;  // Everything was undone.
    } else if (flow.workflow == "commit_failover" && item.state != ItemState::committed) {
      item.state = ItemState::commitRequired;
    }
  }
  catalog_.items.put(effects.writes, item.id, item);
}

Status JobDesk::record(const msg::ItemChange& change, reactor::Effects& effects) {
  FARSIDE_ASSIGN(auto item, catalog_.item_by_id(effects.store(), change.item));
  item.state = change.state;
  if (change.source_agent) item.source_agent = *change.source_agent;
  if (change.target_agent) item.target_agent = *change.target_agent;
  if (change.replica_vm) item.replica_vm = *change.replica_vm;
  if (change.active_location) item.active_location = *change.active_location;
  if (change.notes) item.notes = *change.notes;
  if (change.test_vm) {
    item.test_vm = *change.test_vm;
    item.test_seq = change.test_seq;
  }
  if (change.epoch > item.epoch) item.epoch = change.epoch;
  if (change.drilled_at != 0) {
    item.drilled_at = effects.now().micros;
    item.drill_sign.clear();  // What an earlier one showed says nothing of this one.
  }
  if (change.failed_over_at != 0) item.failed_over_at = effects.now().micros;
  if (change.drill_sign) item.drill_sign = *change.drill_sign;
  if (change.drill_boot_millis != 0) item.drill_boot_millis = change.drill_boot_millis;
  if (change.failover_seq != 0) item.failover_seq = change.failover_seq;
  catalog_.items.put(effects.writes, item.id, item);
  return {};
}

}  // namespace farside::vault
