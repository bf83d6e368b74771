#include "services/vault/item_health.h"

#include <algorithm>

#include "common/flow/fault.h"
#include "common/identity/registrar.h"

namespace farside::vault {
namespace {

using msg::Health;
using msg::ItemState;

// An agent is heard through its provider: with that gone, nothing is known of it.
bool is_heard(const std::string& agent, const Live& live) {
  return live.is_connected(agent) && live.is_connected(identity::neighbour_of(agent));
}

bool replicates(const msg::ProtectedItem& item) {
  return item.state == ItemState::protected_ || item.state == ItemState::initialReplication;
}

// Its source is fenced.
bool is_failed_over(const msg::ProtectedItem& item) {
  return item.active_location == "Recovery";
}

using Reasons = std::vector<HealthReason>;

void add(Reasons& out, Reason kind, bool is_critical, bool is_at_target, msg::Fault fault) {
  out.push_back({.kind = kind,
                 .is_critical = is_critical,
                 .is_at_target = is_at_target,
                 .fault = std::move(fault)});
}

void add_silence(const std::string& agent, bool is_at_target, Reasons& out) {
  add(out, Reason::silent_agent, !is_at_target, is_at_target,
      flow::to_fault(Error{.code = ErrorCode::kUnavailable,
                           .what = "'" + agent + "' is not heard of",
                           .advice = "check that its host, its agent and the provider of its site "
                                     "run and reach each other"}));
}

HealthReason reason_of(const msg::VmTrouble& trouble, const std::string& agent) {
  const bool is_stray = trouble.kind == msg::VmTroubleKind::stray;
  return {.kind = is_stray ? Reason::stray_vm : Reason::unclean_vm,
          .is_critical = true,
          .is_at_target = false,
          .fault = flow::to_fault(
              Error{.code = is_stray ? ErrorCode::kConflict : ErrorCode::kPlatform,
                    .what = "'" + agent + "': " + trouble.what,
                    .advice = is_stray ? "it is active at the other site: find out who or what "
                                         "starts it here, and end that"
                                       : "it is tried again; look at that host's hypervisor"})};
}

HealthReason reason_of(const std::string& problem, const std::string& agent) {
  return {.kind = Reason::host,
          .is_critical = true,
          .fault = flow::to_fault(Error{.code = ErrorCode::kPlatform,
                                        .what = "'" + agent + "': " + problem,
                                        .advice = "look at that host and its hypervisor"})};
}

bool concerns(const msg::VmTrouble& trouble, const std::string& agent,
              const msg::ProtectedItem& item) {
  return (agent == item.source_agent && trouble.vm == item.vm) ||
         (agent == item.target_agent && trouble.vm == item.replica_vm);
}

// What is wrong with a whole host is wrong with all items on it.
void add_hosts(const msg::ProtectedItem& item, const Live& live, Reasons& out) {
  if (replicates(item) && !is_heard(item.source_agent, live)) {
    add_silence(item.source_agent, false, out);
  }
  if (replicates(item) && !item.target_agent.empty() && !is_heard(item.target_agent, live)) {
    add_silence(item.target_agent, true, out);
  }
  if (is_failed_over(item) && item.state != ItemState::committed && !item.target_agent.empty() &&
      !is_heard(item.target_agent, live)) {
    add_silence(item.target_agent, true, out);
  }
  if (is_failed_over(item) && !is_heard(item.source_agent, live)) {
    add(out, Reason::host, true, false,
        flow::to_fault(
            Error{.code = ErrorCode::kUnavailable,
                  .what = "'" + item.source_agent +
                          "' is not heard of: whether the VM that was failed over is off "
                          "there cannot be checked",
                  .advice = "bring that agent back; if its host is gone for good, commit "
                            "and end the protection with `farside unprotect " +
                            item.vm_name + " --force`"}));
  }
  for (const auto& agent : {item.source_agent, item.target_agent}) {
    for (const auto* problems : {&live.host_problems, &live.key_problems}) {
      const auto problem = problems->find(agent);
      if (problem == problems->end() || agent.empty()) continue;
      out.push_back(reason_of(problem->second, agent));
      out.back().is_at_target = agent == item.target_agent;
    }
  }
  for (const auto& [agent, troubles] : live.troubles) {
    for (const auto& trouble : troubles) {
      if (!concerns(trouble, agent, item)) continue;
      out.push_back(reason_of(trouble, agent));
      out.back().is_at_target = agent == item.target_agent;
    }
  }
}

void add_job(const msg::ProtectedItem& item, const Live& live, Reasons& out) {
  if (item.state == ItemState::disabling && item.job.empty()) {
    add(out, Reason::job_waits, true, true,
        flow::to_fault(Error{.code = ErrorCode::kCancelled,
                             .what = "the end of its protection was given up half-way: it is "
                                     "replicated no more",
                             .advice = "end it with `farside unprotect " + item.vm_name +
                                       "`, and --force if a site is gone"}));
  }
  if (item.state == ItemState::enableFailed && item.job.empty()) {
    add(out, Reason::job_waits, true, true,
        flow::to_fault(Error{.code = ErrorCode::kCancelled,
                             .what = "enabling its protection failed: it is not replicated",
                             .advice = "see why with `farside jobs`, then protect it again or end "
                                       "it with `farside unprotect " +
                                       item.vm_name + "`"}));
  }
  const auto stuck = live.stuck.find(item.id);
  if (stuck == live.stuck.end() || item.job.empty()) return;
  auto fault = stuck->second.fault;
  fault.what = "its job waits for an operator: " + fault.what;
  fault.advice = (fault.advice.empty() ? "remove the cause" : fault.advice) +
                 ", then restart the job: `farside jobs restart " + stuck->second.job + "`";
  add(out, Reason::job_waits, true, true, std::move(fault));
}

void add_lateness(const msg::ProtectedItem& item, const Live& live, Reasons& out) {
  const auto found = live.points.find(item.id);
  if (found == live.points.end() || !found->second.is_missed) return;
  const auto& point = found->second;
  const auto seconds = [](std::int64_t micros) { return std::to_string(micros / 1'000'000); };
  add(out, Reason::missed_rpo, true, false,
      flow::to_fault(
          Error{.code = ErrorCode::kTimeout,
                .what = "no recovery point has arrived since " + to_iso(Time{point.arrived_at}) +
                        ": the policy asks for one every " + seconds(point.interval) +
                        " s, and more than " + seconds(point.allowed) + " s are a missed RPO",
                .advice = "see what keeps it with `farside item show " + item.vm_name +
                          "` and `farside host list`"}));
}

void add_source(const msg::ProtectedItem& item, const Live& live, Reasons& out) {
  if (replicates(item) && item.paused_at != 0) {
    add(out, Reason::paused, false, false,
        flow::to_fault(Error{.code = ErrorCode::kCancelled,
                             .what = "Paused by an operator since " + to_iso(Time{item.paused_at}),
                             .advice = "let it go on with `farside resume " + item.vm_name + "`"}));
  }
  const auto source = live.sources.find(item.id);
  if (source == live.sources.end()) return;
  const auto& status = source->second;
  if (status.fault && !(status.paused && item.paused_at != 0)) {
    add(out, Reason::replication, status.health == Health::critical, false, *status.fault);
  }
  if (status.phase == msg::ReplicationPhase::stopped && item.state == ItemState::protected_ &&
      item.job.empty()) {
    add(out, Reason::stopped, true, false,
        flow::to_fault(
            Error{.code = ErrorCode::kConflict,
                  .what = "replication is stopped although no job is under way",
                  .advice = "start a planned failover again, or disable and enable protection"}));
  }
}

void add_replica(const msg::ProtectedItem& item, const Live& live, Reasons& out) {
  const auto found = live.replicas.find(item.id);
  if (found == live.replicas.end()) return;
  const auto& replica = found->second;
  if (replica.fault) add(out, Reason::replica, true, true, *replica.fault);
  for (const auto& fault : replica.faults) add(out, Reason::replica, true, true, fault);
  for (const auto& fault : replica.warnings) add(out, Reason::replica, false, true, fault);
  if (replica.proof_fault) {
    auto fault = *replica.proof_fault;
    fault.what = "could not be failed over now: " + fault.what;
    add(out, Reason::proof, true, true, std::move(fault));
  }
  if (replica.damaged > 0) {
    add(out, Reason::damage, false, true,
        flow::to_fault(Error{
            .code = ErrorCode::kCorrupt,
            .what = std::to_string(replica.damaged) +
                    " stored blocks of the replica are damaged: recovery points that need them "
                    "cannot be read there",
            .advice = "check the target's disks; the newest point is repaired by itself, and "
                      "the damage goes with the points that have it"}));
  }
}

Health level_of(bool is_critical) {
  return is_critical ? Health::critical : Health::warning;
}

}  // namespace

std::string_view to_text(Reason reason) {
  switch (reason) {
    case Reason::silent_agent:
      return "silent_agent";
    case Reason::host:
      return "host";
    case Reason::job_waits:
      return "job_waits";
    case Reason::missed_rpo:
      return "missed_rpo";
    case Reason::stray_vm:
      return "stray_vm";
    case Reason::unclean_vm:
      return "unclean_vm";
    case Reason::paused:
      return "paused";
    case Reason::replication:
      return "replication";
    case Reason::stopped:
      return "stopped";
    case Reason::replica:
      return "replica";
    case Reason::proof:
      return "proof";
    case Reason::damage:
      return "damage";
    case Reason::orchestrator:
      return "orchestrator";
  }
  return "other";
}

ItemHealth health_of(const msg::ProtectedItem& item, const Live& live) {
  ItemHealth out;
  add_hosts(item, live, out.reasons);
  add_job(item, live, out.reasons);
  add_lateness(item, live, out.reasons);
  add_source(item, live, out.reasons);
  add_replica(item, live, out.reasons);
  for (const auto& reason : out.reasons) {
    out.health = std::max(out.health, level_of(reason.is_critical));
  }
  return out;
}

VaultHealth health_of(const std::vector<msg::ProtectedItem>& items, const Live& live) {
  VaultHealth out;
  for (const auto& item : items) {
    for (auto& reason : health_of(item, live).reasons) {
      out.reasons.push_back({.item = item.name, .vm = item.vm_name, .reason = std::move(reason)});
    }
  }
  for (const auto& [agent, troubles] : live.troubles) {
    for (const auto& trouble : troubles) {
      const bool is_told = std::ranges::any_of(
          items, [&](const auto& item) { return concerns(trouble, agent, item); });
      if (!is_told)
        out.reasons.push_back({.item = {}, .vm = {}, .reason = reason_of(trouble, agent)});
    }
  }
  // A fence outlives its item: a host in trouble is told of, whoever is on it.
  for (const auto& [agent, names] : live.fences) {
    const bool is_told = std::ranges::any_of(items, [&](const auto& item) {
      return is_failed_over(item) && agent == item.source_agent;
    });
    if (is_told || is_heard(agent, live)) continue;
    out.reasons.push_back(
        {.item = {},
         .vm = {},
         .reason = {.kind = Reason::host,
                    .is_critical = true,
                    .fault = flow::to_fault(
                        Error{.code = ErrorCode::kUnavailable,
                              .what = "'" + agent + "' is not heard of: whether " + names +
                                      ", which must not run there any more, is off cannot be "
                                      "checked",
                              .advice = "bring that agent back; if its host is gone for good, "
                                        "`farside identity revoke " +
                                        agent + "`"})}});
  }
  for (const auto* problems : {&live.host_problems, &live.key_problems}) {
    for (const auto& [agent, problem] : *problems) {
      const bool is_told = std::ranges::any_of(items, [&](const auto& item) {
        return agent == item.source_agent || agent == item.target_agent;
      });
      if (!is_told) {
        out.reasons.push_back({.item = {}, .vm = {}, .reason = reason_of(problem, agent)});
      }
    }
  }
  const auto orchestrator = live.connected.find("orchestrator");
  if (orchestrator != live.connected.end() && !orchestrator->second) {
    const auto fault =
        flow::to_fault(Error{.code = ErrorCode::kUnavailable,
                             .what = "the orchestrator is not heard of: no job begins or goes on",
                             .advice = "check that it runs and reaches the vault"});
    out.reasons.push_back(
        {.item = {},
         .vm = {},
         .reason = {.kind = Reason::orchestrator, .is_critical = true, .fault = fault}});
  }
  for (const auto& one : out.reasons) {
    out.health = std::max(out.health, level_of(one.reason.is_critical));
  }
  std::ranges::stable_partition(out.reasons,
                                [](const auto& one) { return one.reason.is_critical; });
  return out;
}

std::string critical_lines(const VaultHealth& health) {
  std::string out;
  std::size_t lines = 0;
  std::size_t more = 0;
  for (const auto& one : health.reasons) {
    if (!one.reason.is_critical) break;
    if (++lines > kLinesMax) {
      ++more;
      continue;
    }
    out +=
        (out.empty() ? "" : "\n") + (one.vm.empty() ? "" : one.vm + ": ") + one.reason.fault.what;
  }
  if (more > 0) out += "\nand " + std::to_string(more) + " more";
  return out;
}

}  // namespace farside::vault
