#include "services/vault/item_health.h"

#include "common/flow/fault.h"
#include "common/identity/registrar.h"

namespace farside::vault {
namespace {

using msg::ItemState;

// An agent is heard through its provider: with that gone, nothing is known of it.
bool is_heard(const std::string& agent, const Live& live) {
  const auto is_up = [&](const std::string& principal) {
    const auto found = live.connected.find(principal);
    return found != live.connected.end() && found->second;
  };
  return is_up(agent) && is_up(identity::neighbour_of(agent));
}

HealthReason silent(const std::string& agent, bool is_at_target) {
  return {.is_critical = !is_at_target,
          .is_at_target = is_at_target,
          .fault = flow::to_fault(Error{.code = ErrorCode::kUnavailable,
                                        .what = "'" + agent + "' is not heard of",
                                        .advice = "check that its host, its agent and the provider "
                                                  "of its site run and reach each other"})};
}

}  // namespace

ItemHealth health_of(const msg::ProtectedItem& item, const Live& live) {
  ItemHealth out;
  const auto add = [&](HealthReason reason) {
    const auto health = reason.is_critical ? msg::Health::critical : msg::Health::warning;
    out.health = std::max(out.health, health);
    out.reasons.push_back(std::move(reason));
  };
  const bool replicates =
      item.state == ItemState::protected_ || item.state == ItemState::initialReplication;
  if (replicates && !is_heard(item.source_agent, live)) add(silent(item.source_agent, false));
  if (replicates && !item.target_agent.empty() && !is_heard(item.target_agent, live)) {
    add(silent(item.target_agent, true));
  }
  // What is wrong with a whole host is wrong with all items on it.
  for (const auto& agent : {item.source_agent, item.target_agent}) {
    const auto problem = live.host_problems.find(agent);
    if (problem == live.host_problems.end() || agent.empty()) continue;
    add({.is_critical = true,
         .is_at_target = agent == item.target_agent,
         .fault = flow::to_fault(Error{.code = ErrorCode::kPlatform,
                                       .what = "'" + agent + "': " + problem->second,
                                       .advice = "look at that host and its hypervisor"})});
  }
  if (const auto stuck = live.stuck.find(item.id); stuck != live.stuck.end() && !item.job.empty()) {
    auto fault = stuck->second;
    fault.what = "its job waits for an operator: " + fault.what;
    if (fault.advice.empty()) fault.advice = "remove the cause, then restart the job";
    add({.is_critical = true, .is_at_target = true, .fault = std::move(fault)});
  }
  if (replicates && item.paused_at != 0) {
    add({.is_critical = false,
         .is_at_target = false,
         .fault = flow::to_fault(
             Error{.code = ErrorCode::kCancelled,
                   .what = "Paused by an operator since " + to_iso(Time{item.paused_at}),
                   .advice = "let it go on with `farside resume " + item.vm_name + "`"})});
  }
  if (const auto source = live.sources.find(item.id); source != live.sources.end()) {
    const auto& status = source->second;
    if (status.fault && !(status.paused && item.paused_at != 0)) {
      add({.is_critical = status.health == msg::Health::critical,
           .is_at_target = false,
           .fault = *status.fault});
    }
    if (status.phase == msg::ReplicationPhase::stopped && item.state == ItemState::protected_ &&
        item.job.empty()) {
      add({.is_critical = true,
           .is_at_target = false,
           .fault = flow::to_fault(Error{
               .code = ErrorCode::kConflict,
               .what = "replication is stopped although no job is under way",
               .advice = "start a planned failover again, or disable and enable protection"})});
    }
  }
  if (const auto replica = live.replicas.find(item.id); replica != live.replicas.end()) {
    if (replica->second.fault) {
      add({.is_critical = true, .is_at_target = true, .fault = *replica->second.fault});
    }
    for (const auto& fault : replica->second.faults) {
      add({.is_critical = true, .is_at_target = true, .fault = fault});
    }
    for (const auto& fault : replica->second.warnings) {
      add({.is_critical = false, .is_at_target = true, .fault = fault});
    }
    if (replica->second.proof_fault) {
      auto fault = *replica->second.proof_fault;
      fault.what = "could not be failed over now: " + fault.what;
      add({.is_critical = true, .is_at_target = true, .fault = std::move(fault)});
    }
    if (replica->second.damaged > 0) {
      add({.is_critical = false,
           .is_at_target = true,
           .fault = flow::to_fault(Error{
               .code = ErrorCode::kCorrupt,
               .what = std::to_string(replica->second.damaged) +
                       " stored blocks of the replica are damaged: recovery points that need them "
                       "cannot be read there",
               .advice = "check the target's disks; the newest point is repaired by itself, and "
                         "the damage goes with the points that have it"})});
    }
  }
  return out;
}

}  // namespace farside::vault
