#include "services/agent/agent_core.h"

#include <fmt/format.h>

#include <algorithm>
#include <set>

#include "common/base/log.h"
#include "common/flow/fault.h"
#include "services/agent/health.h"

namespace farside::agent {
namespace {

constexpr std::string_view kObserve = "observe";
constexpr std::string_view kFences = "fences";
constexpr std::string_view kStatus = "status";
constexpr std::string_view kMaintain = "maintain";
constexpr std::string_view kReconcile = "reconcile";
constexpr std::string_view kProgress = "progress";
constexpr Micros kStrayTold = std::chrono::hours{1};
constexpr std::string_view kCyclePrefix = "cycle/";
constexpr std::string_view kOrderPrefix = "order/";
constexpr std::string_view kSettingsPrefix = "settings/";
constexpr std::string_view kMaintainPrefix = "maintain/";
constexpr std::string_view kLifePrefix = "life/";
constexpr Micros kReconcileAgain = std::chrono::seconds{5};

std::string after(const std::string& text, std::string_view prefix) {
  return text.substr(prefix.size());
}

// Nothing of it is left to be kept in order.
bool is_over(const msg::ReplicaItem& replica) {
  return replica.committed && replica.kept_until == 0;
}

}  // namespace

AgentCore::AgentCore(std::string provider, std::string data_public_key, Probe& probe,
                     AgentLimits limits)
    : provider_(std::move(provider)),
      data_public_key_(std::move(data_public_key)),
      probe_(probe),
      limits_(limits) {}

void AgentCore::start(reactor::Effects& effects) {
  membership_.start(effects);
  fences_checked_ = effects.monotonic();
  on_timer(std::string(kReconcile), effects);
  for (const auto name : {kObserve, kFences, kStatus, kMaintain}) {
    effects.set_timer(std::string(name), Micros{0});
  }
}

void AgentCore::on_peer(const reactor::PeerChange& change, reactor::Effects&) {
  log::info(change.connected ? "peer connected" : "peer silent", {{"peer", change.peer.principal}});
}

void AgentCore::on_message(const reactor::PeerId& peer, const msg::Envelope& envelope,
                           reactor::Effects& effects) {
  if (membership_.on_message(peer, envelope, effects)) return;
  const bool entitled = envelope.from == "orchestrator" || envelope.from == "vault";
  if (peer.principal != provider_ || envelope.to != effects.self() || !entitled) {
    log::warn("message refused", {{"peer", peer.principal},
                                  {"from", envelope.from},
                                  {"message", msg::name_of(envelope.body)}});
    return;
  }
  if (const auto* settings = std::get_if<msg::ItemSettings>(&envelope.body.value)) {
    if (envelope.from == "vault") on_settings(*settings, effects);
  } else if (!envelope.reply && !envelope.id.empty()) {
    on_order(envelope, effects);
  }
}

void AgentCore::on_timer(const std::string& name, reactor::Effects& effects) {
  if (name.starts_with(kCyclePrefix)) {
    on_cycle_timer(after(name, kCyclePrefix), effects);
  } else if (name == kReconcile) {
    reconcile(effects);
  } else if (name.starts_with(kLifePrefix)) {
    look_for_life(after(name, kLifePrefix), effects);
  } else if (name == kObserve) {
    effects.start(std::string(kObserve), reactor::message(msg::ObserveHost{}));
  } else if (name == kFences) {
    // Again and again, whatever became of the last try; one that is at work is not doubled.
    effects.start(std::string(kFences), reactor::message(msg::EnforceFences{}));
    effects.set_timer(std::string(kFences), limits_.fence_every);
    const auto unknown_for = effects.monotonic() - fences_checked_;
    if (fence_problem_.empty() && unknown_for > limits_.unfenced_max) {
      fence_problem("the hypervisor has not answered for " +
                        std::to_string(
                            std::chrono::duration_cast<std::chrono::seconds>(unknown_for).count()) +
                        " s",
                    effects);
    }
  } else if (name == kStatus) {
    report_status(effects);
    effects.set_timer(std::string(kStatus), limits_.status_every);
  } else if (name == kMaintain) {
    maintain(effects);
    effects.set_timer(std::string(kMaintain), limits_.maintain_every);
  }
}

void AgentCore::on_job(const std::string& id, const Result<msg::Message>& result,
                       reactor::Effects& effects) {
  if (id == kProgress) {
    if (!result) return;
    if (const auto* progress = std::get_if<msg::Progress>(&result->value)) {
      on_progress(*progress, effects);
    }
  } else if (id.starts_with(kCyclePrefix)) {
    on_cycle_done(after(id, kCyclePrefix), result, effects);
  } else if (id.starts_with(kOrderPrefix)) {
    on_order_done(after(id, kOrderPrefix), result, effects);
  } else if (id.starts_with(kSettingsPrefix)) {
    on_settings_applied(after(id, kSettingsPrefix), result, effects);
  } else if (id.starts_with(kMaintainPrefix)) {
    on_maintained(after(id, kMaintainPrefix), result, effects);
  } else if (id.starts_with(kLifePrefix)) {
    on_life(after(id, kLifePrefix), result, effects);
  } else if (id == kReconcile) {
    on_reconciled(result, effects);
  } else if (id == kObserve) {
    on_observed(result, effects);
  } else if (id == kFences) {
    on_fences(result, effects);
  }
}

void AgentCore::on_observed(const Result<msg::Message>& result, reactor::Effects& effects) {
  effects.set_timer(std::string(kObserve), limits_.observe_every);
  host_problem_ = result ? "" : result.error().what;
  probe_.problem("host", host_problem_);
  if (!result) {
    log::warn("host not observed", {{"cause", result.error()}});
  } else if (const auto* report = std::get_if<msg::HostReport>(&result->value)) {
    host_ = *report;
  }
  report_host(effects);
}

// What is known of the host, and what is wrong with it, also while it does not answer.  If it never
// has, that is its name alone; without a platform, so that the provider forgets nothing for it.
void AgentCore::report_host(reactor::Effects& effects) {
  auto report = host_.value_or(
      msg::HostReport{.host = {.name = effects.self().substr(effects.self().rfind('/') + 1)}});
  report.host.problem = host_problems();
  add_strays(report);
  if (!host_ && report.host.problem.empty() && report.host.troubles.empty()) return;
  for (auto& vm : report.vms) {
    const auto fence = fence_of(vm.id, effects.store());
    vm.fenced = !fence || *fence;  // A record that cannot be read is not one that is not there.
    if (fence && *fence) vm.active_at = (*fence)->active_at;
  }
  effects.send(provider_, msg::Envelope{.from = effects.self(),
                                        .to = provider_,
                                        .body = reactor::message(std::move(report))});
}

// What is wrong with the host as a whole.
std::string AgentCore::host_problems() const {
  std::string text;
  for (const auto* problem : {&fence_problem_, &reconcile_problem_, &host_problem_}) {
    if (!problem->empty()) text += (text.empty() ? "" : "; ") + *problem;
  }
  return text;
}

// What is wrong with single VMs beyond what the platform knows.
void AgentCore::add_strays(msg::HostReport& report) const {
  for (const auto& [vm, at] : strays_) {
    const auto known = std::ranges::find(report.vms, vm, &msg::Vm::id);
    const auto& name = known == report.vms.end() ? vm : known->name;
    report.host.troubles.push_back(
        msg::VmTrouble{.vm = vm,
                       .kind = msg::VmTroubleKind::stray,
                       .what = "fenced VM '" + name + "' was found running at " + to_iso(at) +
                               " and was turned off: its active side is the other site",
                       .at = at.micros});
  }
}

void AgentCore::on_fences(const Result<msg::Message>& result, reactor::Effects& effects) {
  if (!result) {
    fence_problem(result.error().what, effects);
    return;
  }
  fences_checked_ = effects.monotonic();
  fence_problem("", effects);
  probe_.fences_held(effects.now());
  if (const auto* enforced = std::get_if<msg::FencesEnforced>(&result->value)) {
    note_strays(enforced->stopped, effects);
  }
}

// Somebody or something starts what must not run: told for an hour after it was last seen.
void AgentCore::note_strays(const std::vector<std::string>& stopped, reactor::Effects& effects) {
  auto now_known = strays_;
  std::erase_if(now_known, [&](const auto& stray) {
    return effects.now() - stray.second > kStrayTold || stray.second > effects.now();
  });
  for (const auto& vm : stopped) {
    log::error("fenced VM turned off",
               {{"vm", vm}, {"cause", "its active side is the other site"}});
    probe_.fenced_vm_stopped();
    now_known[vm] = effects.now();
  }
  if (now_known == strays_) return;
  strays_ = std::move(now_known);
  report_host(effects);
}

// A VM whose active side is the other site might be running here, unseen.
void AgentCore::fence_problem(const std::string& problem, reactor::Effects& effects) {
  const auto text =
      problem.empty() ? problem : "whether fenced VMs are off cannot be checked: " + problem;
  if (text == fence_problem_) return;
  fence_problem_ = text;
  probe_.problem("fences", text);
  if (text.empty()) {
    log::info("fences enforced again");
  } else {
    log::error("fences not enforced", {{"cause", problem}});
  }
  report_host(effects);
}

void AgentCore::upwards(const std::string& to, msg::Message body, reactor::Effects& effects) const {
  effects.send(provider_, msg::Envelope{.from = effects.self(), .to = to, .body = std::move(body)});
}

void AgentCore::on_progress(const msg::Progress& progress, reactor::Effects& effects) {
  if (progress.request.starts_with(kOrderPrefix)) {
    const auto order = orders_.find(after(progress.request, kOrderPrefix));
    if (order == orders_.end()) return;
    auto told = progress;
    told.request = order->first;
    upwards(order->second.from, reactor::message(std::move(told)), effects);
    return;
  }
  const auto cycle = cycles_.find(after(progress.request, kCyclePrefix));
  if (cycle == cycles_.end()) return;
  cycle->second.done = progress.done;
  cycle->second.total = progress.total;
  cycle->second.moved = effects.monotonic();
}

bool AgentCore::is_stalled(const std::string& item, const reactor::Effects& effects) const {
  const auto cycle = cycles_.find(item);
  return cycle != cycles_.end() &&
         effects.monotonic() - cycle->second.moved > limits_.stalled_after;
}

// The stored status with what is only known now: progress, health, and why if it is not good.
msg::ReplicationStatus AgentCore::status_of(const msg::SourceItem& source,
                                            reactor::Effects& effects) {
  auto status = source.status;
  if (const auto cycle = cycles_.find(source.item); cycle != cycles_.end()) {
    status.bytes_done = cycle->second.done;
    status.bytes_total = cycle->second.total;
  }
  status.health = health_of(status, source.policy, effects.now());
  if (is_stalled(source.item, effects)) {
    status.health = msg::Health::critical;
    status.fault = flow::to_fault(
        Error{.code = ErrorCode::kTimeout,
              .what = fmt::format("a cycle is under way that has not moved for {} minutes",
                                  limits_.stalled_after.count()),
              .advice = "look at the host's storage and at the link to the other site"});
  } else if (status.paused) {
    status.fault = flow::to_fault(Error{.code = ErrorCode::kCancelled,
                                        .what = "replication is paused by an operator",
                                        .advice = "let it go on with `farside resume`"});
  } else if (status.health != msg::Health::normal && !status.fault) {
    status.fault = flow::to_fault(late_point(status, source.policy, effects.now()));
  }
  return status;
}

// Tells who waits for the first or last point of the item that it is worked on.  Whoever hears
// nothing asks again and then gives up, so a cycle that hangs is not called alive.
void AgentCore::still_alive(const msg::SourceItem& source, const msg::ReplicationStatus& status,
                            reactor::Effects& effects) {
  if (is_stalled(source.item, effects)) return;
  for (const auto* waiting : {&initial_, &final_, &synced_}) {
    const auto envelope = waiting->find(source.item);
    if (envelope == waiting->end()) continue;
    upwards(envelope->second.from,
            reactor::message(msg::Progress{.request = envelope->second.id,
                                           .done = status.bytes_done,
                                           .total = status.bytes_total,
                                           .note = status.fault ? status.fault->what : ""}),
            effects);
  }
}

// Once a second: the vault's view of every source item, and signs of life for who waits.
void AgentCore::report_status(reactor::Effects& effects) {
  const auto items = sources_.all(effects.store());
  probe_.problem("state", items ? "" : items.error().what);
  if (!items) return;
  msg::StatusReport report;
  for (const auto& [id, source] : *items) {
    auto status = status_of(source, effects);
    probe_.source(source, status, is_stalled(id, effects));
    still_alive(source, status, effects);
    report.statuses.push_back(std::move(status));
  }
  if (!report.statuses.empty()) {
    upwards("vault", reactor::message(std::move(report)), effects);
  }
  msg::ReplicaReport replicas;
  for (const auto& [id, status] : replica_status_) {
    probe_.replica(status);
    replicas.replicas.push_back(status);
  }
  if (!replicas.replicas.empty()) {
    upwards("vault", reactor::message(std::move(replicas)), effects);
  }
}

// ---- What a crash left behind ----

void AgentCore::reconcile(reactor::Effects& effects) {
  msg::Reconcile wanted;
  const auto replicas = replicas_.all(effects.store());
  if (!replicas) {
    on_reconciled(fail(replicas.error()), effects);
    return;
  }
  for (const auto& [id, replica] : *replicas) {
    for (const auto& vm : {replica.replica_vm, replica.test_vm}) {
      if (!vm.empty()) wanted.keep_vms.push_back(vm);
    }
    wanted.replicas.push_back(replica);
  }
  effects.start(std::string(kReconcile), reactor::message(std::move(wanted)));
}

// Until the host is in order no cycle and no order is begun; the health check says so.  Replicas
// are received and maintained meanwhile.
void AgentCore::on_reconciled(const Result<msg::Message>& result, reactor::Effects& effects) {
  const auto items = sources_.all(effects.store());
  std::optional<Error> error;
  if (!result) error = result.error();
  if (!items) error = items.error();
  if (const auto* done = result ? std::get_if<msg::Reconciled>(&result->value) : nullptr) {
    replicas_open_ = true;
    if (done->platform_fault) error = flow::to_error(*done->platform_fault);
  }
  if (error) {
    log::error("reconcile failed", {{"cause", *error}});
    not_reconciled_ = error->what;
    reconcile_problem_ = "what was left on this host is not cleaned up: " + error->what;
    probe_.problem("reconcile", error->what);
    report_host(effects);
    effects.set_timer(std::string(kReconcile), kReconcileAgain);
    return;
  }
  reconciled_ = true;
  probe_.problem("reconcile", "");
  if (!std::exchange(reconcile_problem_, {}).empty()) report_host(effects);
  for (const auto& [item, source] : *items) schedule(item, Micros{0}, effects);
}

void AgentCore::on_maintained(const std::string& item, const Result<msg::Message>& result,
                              reactor::Effects& effects) {
  upkeep_.erase(item);
  take_upkeep(item, result, effects);
  start_upkeep(effects);
}

void AgentCore::take_upkeep(const std::string& item, const Result<msg::Message>& result,
                            reactor::Effects& effects) {
  auto found = replicas_.get(effects.store(), item);
  if (!found || !*found) return;  // Gone meanwhile.
  auto& replica = **found;
  if (!result) {
    log::warn("maintenance failed", {{"replica", item}, {"cause", result.error()}});
    if (result.error().code == ErrorCode::kBusy) return;  // An order is under way.
    replica_status_[item].item = item;
    replica_status_[item].fault = flow::to_fault(result.error());
    return;
  }
  if (!std::holds_alternative<msg::ReplicaMaintained>(result->value)) return;
  const auto& done = std::get<msg::ReplicaMaintained>(result->value);
  if (replica.committed) {
    take_kept(replica, done.status, effects);
    return;
  }
  auto& status = replica_status_[item];
  status = done.status;
  status.settings = replica.settings;
  const auto before = replica;
  replica.proven_at = status.proven_at;
  replica.proven_definition = done.proven_definition;
  replica.proof_fault = status.proof_fault;
  replica.scrub_cursor = done.scrub_cursor;
  replica.scrubbed_at = status.scrubbed_at;
  replica.scrub_mismatches = status.scrub_mismatches;
  if (replica != before) replicas_.put(effects.writes, item, replica);
}

// Of a replica that stays for a while after its failover was committed.  A job that began before
// the commit tells of no time.
void AgentCore::take_kept(msg::ReplicaItem& replica, const msg::ReplicaStatus& status,
                          reactor::Effects& effects) {
  if (status.kept_until != 0) {
    replica_status_[replica.item] = status;
  } else if (effects.now().micros >= replica.kept_until) {
    replica_status_.erase(replica.item);
    probe_.forget_replica(replica.item);
    replica.kept_until = 0;
    replicas_.put(effects.writes, replica.item, replica);
  }
}

void AgentCore::maintain(reactor::Effects& effects) {
  prune_replies(effects);
  if (!replicas_open_) return;
  const auto replicas = replicas_.all(effects.store());
  if (!replicas) return;
  for (const auto& [id, replica] : *replicas) {
    const bool is_queued = upkeep_.contains(id) ||
                           std::ranges::find(upkeep_due_, id, &Upkeep::item) != upkeep_due_.end();
    if (is_over(replica) || is_queued) continue;
    upkeep_due_.push_back({.item = id, .path = replica.storage_path});
  }
  start_upkeep(effects);
}

// One replica of each volume at a time: orders and deltas find a worker and a volume that is not
// busy with what can wait.
void AgentCore::start_upkeep(reactor::Effects& effects) {
  std::set<std::string> busy;
  for (const auto& [item, upkeep] : upkeep_) {
    if (effects.monotonic() - upkeep.since < limits_.maintain_hung) busy.insert(upkeep.path);
  }
  for (auto due = upkeep_due_.begin(); due != upkeep_due_.end();) {
    if (busy.contains(due->path)) {
      ++due;
      continue;
    }
    auto upkeep = std::move(*due);
    due = upkeep_due_.erase(due);
    auto replica = replicas_.get(effects.store(), upkeep.item);
    if (!replica || !*replica || is_over(**replica)) continue;
    upkeep.since = effects.monotonic();
    busy.insert(upkeep.path);
    effects.start(std::string(kMaintainPrefix) + upkeep.item,
                  reactor::message(msg::MaintainReplica{.replica = std::move(**replica)}));
    upkeep_[upkeep.item] = upkeep;
  }
}

}  // namespace farside::agent
