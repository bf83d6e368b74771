#include "services/agent/agent_core.h"

#include "common/base/log.h"
#include "services/agent/health.h"

namespace farside::agent {
namespace {

constexpr std::string_view kObserve = "observe";
constexpr std::string_view kFences = "fences";
constexpr std::string_view kStatus = "status";
constexpr std::string_view kMaintain = "maintain";
constexpr std::string_view kReconcile = "reconcile";
constexpr std::string_view kProgress = "progress";
constexpr std::string_view kCyclePrefix = "cycle/";
constexpr std::string_view kOrderPrefix = "order/";
constexpr std::string_view kMaintainPrefix = "maintain/";
constexpr Micros kReconcileAgain = std::chrono::seconds{5};

std::string after(const std::string& text, std::string_view prefix) {
  return text.substr(prefix.size());
}

}  // namespace

AgentCore::AgentCore(std::string provider, std::string data_public_key, AgentLimits limits)
    : provider_(std::move(provider)),
      data_public_key_(std::move(data_public_key)),
      limits_(limits) {}

void AgentCore::start(reactor::Effects& effects) {
  membership_.start(effects);
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
  if (!envelope.reply && !envelope.id.empty()) on_order(envelope, effects);
}

void AgentCore::on_timer(const std::string& name, reactor::Effects& effects) {
  if (name.starts_with(kCyclePrefix)) {
    on_cycle_timer(after(name, kCyclePrefix), effects);
  } else if (name == kReconcile) {
    msg::Reconcile wanted;
    const auto replicas = replicas_.all(effects.store());
    if (!replicas) {
      log::error("replicas unreadable", {{"cause", replicas.error()}});
      effects.set_timer(std::string(kReconcile), kReconcileAgain);
      return;
    }
    for (const auto& [id, replica] : *replicas) {
      for (const auto& vm : {replica.replica_vm, replica.test_vm}) {
        if (!vm.empty()) wanted.keep_vms.push_back(vm);
      }
      wanted.replicas.push_back(replica);
    }
    effects.start(std::string(kReconcile), reactor::message(std::move(wanted)));
  } else if (name == kObserve) {
    effects.start(std::string(kObserve), reactor::message(msg::ObserveHost{}));
  } else if (name == kFences) {
    effects.start(std::string(kFences), reactor::message(msg::EnforceFences{}));
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
  } else if (id.starts_with(kMaintainPrefix)) {
    if (!result) {
      log::warn("maintenance failed",
                {{"replica", after(id, kMaintainPrefix)}, {"cause", result.error()}});
    } else if (const auto* done = std::get_if<msg::ReplicaMaintained>(&result->value)) {
      replica_status_[done->status.item] = done->status;
    }
  } else if (id == kReconcile) {
    if (!result) {
      log::error("reconcile failed", {{"cause", result.error()}});
      effects.set_timer(std::string(kReconcile), kReconcileAgain);
      return;
    }
    reconciled_ = true;
    const auto items = sources_.all(effects.store());
    if (!items) return;
    for (const auto& [item, source] : *items) schedule(item, Micros{0}, effects);
  } else if (id == kObserve) {
    effects.set_timer(std::string(kObserve), limits_.observe_every);
    if (result) {
      effects.send(provider_,
                   msg::Envelope{.from = effects.self(), .to = provider_, .body = *result});
    } else {
      log::warn("host not observed", {{"cause", result.error()}});
    }
  } else if (id == kFences) {
    effects.set_timer(std::string(kFences), limits_.fence_every);
    if (!result) {
      log::error("fences not enforced", {{"cause", result.error()}});
    } else if (const auto* enforced = std::get_if<msg::FencesEnforced>(&result->value)) {
      for (const auto& vm : enforced->stopped) {
        log::error("fenced VM turned off",
                   {{"vm", vm}, {"cause", "its active side is the other site"}});
      }
    }
  }
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
}

// Once a second: the vault's view of every source item, and signs of life for who waits.
void AgentCore::report_status(reactor::Effects& effects) {
  const auto items = sources_.all(effects.store());
  if (!items) return;
  msg::StatusReport report;
  for (const auto& [id, source] : *items) {
    auto status = source.status;
    if (const auto cycle = cycles_.find(id); cycle != cycles_.end()) {
      status.bytes_done = cycle->second.done;
      status.bytes_total = cycle->second.total;
    }
    status.health = health_of(status, source.policy, effects.now());
    for (const auto* waiting : {&initial_, &final_}) {
      const auto envelope = waiting->find(id);
      if (envelope == waiting->end()) continue;
      upwards(envelope->second.from,
              reactor::message(msg::Progress{.request = envelope->second.id,
                                             .done = status.bytes_done,
                                             .total = status.bytes_total,
                                             .note = status.fault ? status.fault->what : ""}),
              effects);
    }
    report.statuses.push_back(std::move(status));
  }
  if (!report.statuses.empty()) {
    upwards("vault", reactor::message(std::move(report)), effects);
  }
  msg::ReplicaReport replicas;
  for (const auto& [id, status] : replica_status_) replicas.replicas.push_back(status);
  if (!replicas.replicas.empty()) {
    upwards("vault", reactor::message(std::move(replicas)), effects);
  }
}

void AgentCore::maintain(reactor::Effects& effects) {
  prune_replies(effects);
  if (!reconciled_) return;
  const auto replicas = replicas_.all(effects.store());
  if (!replicas) return;
  for (const auto& [id, replica] : *replicas) {
    if (replica.committed) continue;
    effects.start(std::string(kMaintainPrefix) + id,
                  reactor::message(msg::MaintainReplica{.replica = replica}));
  }
}

}  // namespace farside::agent
