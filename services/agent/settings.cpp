// The part of AgentCore that keeps items in line with what the vault has configured: a changed
// policy, a peer with a new key or address, a revoked peer, a protection that ended without us.
#include <algorithm>
#include <utility>

#include "common/base/endpoint.h"
#include "common/base/log.h"
#include "common/flow/fault.h"
#include "services/agent/agent_core.h"
#include "services/agent/health.h"
#include "services/agent/order_check.h"
#include "services/agent/replica_order.h"

namespace farside::agent {
namespace {

Error revoked_peer() {
  return Error{.code = ErrorCode::kForbidden,
               .what = "the identity of the agent at the other site was revoked",
               .advice = "let that agent join again, or disable protection"};
}

// The other site's word, by way of the vault: one that is not an address leaves the rest standing.
void take_address(msg::SourceItem& source, const std::string& endpoint) {
  if (endpoint.empty()) return;
  if (const auto good = check_endpoint(endpoint); !good) {
    log::warn("address of the target refused", {{"item", source.item}, {"cause", good.error()}});
    return;
  }
  source.endpoint = endpoint;
}

}  // namespace

void AgentCore::on_settings(const msg::ItemSettings& wanted, reactor::Effects& effects) {
  if (!replicas_open_) return;  // Sent again as long as our reports show other settings.
  if (const auto good = check_order(reactor::message(wanted)); !good) {
    log::warn("settings refused", {{"item", wanted.item}, {"cause", good.error()}});
    return;
  }
  auto source = sources_.get(effects.store(), wanted.item);
  auto replica = replicas_.get(effects.store(), wanted.item);
  if (!source || !replica) return;
  if (*source && wanted.epoch >= (*source)->epoch) apply_settings(**source, wanted, effects);
  if (*replica && wanted.epoch >= (*replica)->epoch) apply_settings(**replica, wanted, effects);
}

void AgentCore::apply_settings(msg::SourceItem& source, const msg::ItemSettings& wanted,
                               reactor::Effects& effects) {
  if (wanted.ended) {
    log::warn("replication ends", {{"item", source.item},
                                   {"vm", source.vm},
                                   {"cause", "the vault does not protect it from here any more"}});
    if (deferred_.contains(source.item)) return;  // It waits for the end of a cycle already.
    on_order(msg::Envelope{.id = "ended/" + effects.fresh_id(),
                           .from = "vault",
                           .to = effects.self(),
                           .body = reactor::message(
                               msg::StopReplication{.item = source.item, .vm = source.vm})},
             effects);
    return;
  }
  source.policy = wanted.policy;
  if (!wanted.peer_key.empty()) source.target_key = wanted.peer_key;
  take_address(source, wanted.peer_endpoint);
  source.status.settings = wanted.digest;
  const bool was_revoked = source.peer_revoked;
  source.peer_revoked = stays_revoked(source.peer_revoked, wanted);
  if (source.peer_revoked) {
    source.status.fault = flow::to_fault(revoked_peer());
    source.status.phase = msg::ReplicationPhase::failed;
    source.status.retry_at = 0;
    effects.cancel_timer("cycle/" + source.item);
    cancel_cycle(source.item, effects);
  }
  const bool was_paused = std::exchange(source.paused, wanted.paused);
  source.status.paused = source.paused;
  if (source.paused && !was_paused) pause(source, effects);
  sources_.put(effects.writes, source.item, source);
  log::info("settings taken", {{"item", source.item},
                               {"policy", source.policy.name},
                               {"paused", source.paused ? "yes" : "no"}});
  if (source.peer_revoked || source.stopped || source.paused) return;
  if (was_paused) {
    begin_now(source, effects);
    return;
  }
  if (cycles_.contains(source.item)) return;
  // A shorter interval begins to count now, not when the longer one has passed.
  if (was_revoked || source.status.phase == msg::ReplicationPhase::waiting) {
    const Micros interval = std::chrono::seconds{source.policy.frequency_seconds};
    const auto since_newest = effects.now() - captured_here(source.status);
    schedule(source.item, std::clamp(interval - since_newest, Micros{0}, interval), effects);
  }
}

// No new points from here on; those of a failover are still taken.
void AgentCore::pause(msg::SourceItem& source, reactor::Effects& effects) {
  source.status.retry_at = 0;
  if (source.stopped || source.peer_revoked) return;
  source.status.phase = msg::ReplicationPhase::paused;
  source.status.fault.reset();
  effects.cancel_timer("cycle/" + source.item);
  const auto cycle = cycles_.find(source.item);
  if (cycle != cycles_.end() && cycle->second.kind == CycleKind::kPlain) {
    cancel_cycle(source.item, effects);
  }
}

// The data port learns it first; what is recorded is what it works by.
void AgentCore::apply_settings(const msg::ReplicaItem& replica, const msg::ItemSettings& wanted,
                               reactor::Effects& effects) {
  if (replica.committed || wanted.ended) return;  // A replica is removed by order only.
  effects.start("settings/" + replica.item, reactor::message(wanted));
}

void AgentCore::on_settings_applied(const std::string& item, const Result<msg::Message>& result,
                                    reactor::Effects& effects) {
  if (!result) {
    log::warn("settings not taken", {{"item", item}, {"cause", result.error()}});
    return;
  }
  const auto* wanted = std::get_if<msg::ItemSettings>(&result->value);
  auto replica = replicas_.get(effects.store(), item);
  if (wanted == nullptr || !replica || !*replica) return;
  take_order(**replica, *wanted);
  (*replica)->settings = wanted->digest;
  replicas_.put(effects.writes, item, **replica);
  if (const auto status = replica_status_.find(item); status != replica_status_.end()) {
    status->second.settings = wanted->digest;
  }
  log::info("settings taken", {{"item", item}, {"policy", wanted->policy.name}});
}

}  // namespace farside::agent
