// The part of AgentCore that carries out what vault and orchestrator order.
#include <algorithm>

#include "common/base/log.h"
#include "common/flow/fault.h"
#include "services/agent/agent_core.h"
#include "services/agent/order_check.h"

namespace farside::agent {
namespace {

constexpr std::string_view kReplies = "reply";
constexpr std::string_view kFenceTable = "fence";  // By VM.
constexpr std::size_t kOrdersMax = 1'000;  // At the workers; beyond, orders wait to be repeated.

// Stored replies are keyed by request; the value is a whole envelope plus the time in front.
std::string stored_reply(Time now, const msg::Envelope& envelope) {
  return to_iso(now) + msg::encode(envelope);
}
constexpr std::size_t kTimeLength = 27;  // "2026-03-01T12:34:56.123456Z"

// The item an order is about; empty for those about a VM or host.
std::string item_of(const msg::Message& order) {
  return std::visit(
      [](const auto& arm) -> std::string {
        if constexpr (requires { std::string(arm.item); }) return arm.item;
        return {};
      },
      order.value);
}

// Orders that change nothing and are not waited for by those that do.
bool is_reading(const msg::Message& order) {
  if (const auto* proof = std::get_if<msg::ProveReplica>(&order.value)) return proof->plan_only;
  return std::holds_alternative<msg::ListPoints>(order.value) ||
         std::holds_alternative<msg::AwaitLife>(order.value);
}

void name_vms(msg::RemoveTestVm& order, const msg::ReplicaItem& replica) {
  order.vm = replica.test_vm;
}
void name_vms(msg::RemoveReplica& order, const msg::ReplicaItem& replica) {
  order.vm = replica.replica_vm;
  order.test_vm = replica.test_vm;
}
void name_vms(msg::DetachReplica& order, const msg::ReplicaItem& replica) {
  order.vm = replica.replica_vm;
}
void name_vms(msg::CommitReplica& order, const msg::ReplicaItem& replica) {
  order.vm = replica.replica_vm;
}

}  // namespace

void AgentCore::reply(const msg::Envelope& order, const Result<msg::Message>& outcome,
                      reactor::Effects& effects) {
  msg::Envelope answer{.id = order.id, .from = effects.self(), .to = order.from, .reply = true};
  if (outcome) {
    answer.body = *outcome;
    effects.writes.put(kReplies, order.id, stored_reply(effects.now(), answer));
  } else {
    // Refusals are not kept: asked again, the order is judged again.
    answer.body = reactor::message(msg::Refused{.fault = flow::to_fault(outcome.error())});
  }
  effects.send(provider_, std::move(answer));
}

void AgentCore::on_order(const msg::Envelope& envelope, reactor::Effects& effects) {
  if (!reconciled_) {  // It will be repeated; until then, say why it waits.
    upwards(envelope.from,
            reactor::message(msg::Progress{.request = envelope.id,
                                           .note = "the agent is not ready: " + not_reconciled_}),
            effects);
    return;
  }
  const auto replied = effects.store().get(kReplies, envelope.id);
  if (replied && *replied && (*replied)->size() > kTimeLength) {
    auto answer = msg::decode<msg::Envelope>(std::string_view(**replied).substr(kTimeLength));
    if (answer) {
      effects.send(provider_, std::move(*answer));
      return;
    }
  }
  if (orders_.contains(envelope.id) || orders_.size() >= kOrdersMax) return;
  if (const auto good = check_order(envelope.body); !good) {
    reply(envelope, fail(good.error()), effects);
    return;
  }
  // Orders for one item are carried out one after the other, so that an undo never overtakes its
  // act; who comes too early asks again.
  if (!is_reading(envelope.body)) {
    const auto item = item_of(envelope.body);
    for (const auto& [id, order] : orders_) {
      if (!item.empty() && !is_reading(order.body) && item_of(order.body) == item) return;
    }
  }
  auto decided = decide(envelope, effects);
  if (!decided) {
    reply(envelope, fail(decided.error()), effects);
  } else if (*decided) {
    reply(envelope, std::move(**decided), effects);
  }
}

Result<std::optional<msg::SourceFenced>> AgentCore::fence_of(const std::string& vm,
                                                             const store::Reader& store) {
  FARSIDE_ASSIGN(const auto fence, store.get(kFenceTable, vm));
  if (!fence) return std::nullopt;
  FARSIDE_ASSIGN(auto fenced, msg::decode<msg::SourceFenced>(*fence));
  return std::optional(std::move(fenced));
}

Status AgentCore::check_replica(const std::string& item, std::uint64_t epoch,
                                const store::Reader& store) const {
  FARSIDE_ASSIGN(const auto replica, replicas_.get(store, item));
  if (!replica) {
    return fail(ErrorCode::kNotFound, "no replica of item '" + item + "' on this host",
                "enable protection first");
  }
  if (epoch != 0 && epoch < replica->epoch) {
    return fail(ErrorCode::kStaleEpoch,
                "item '" + item + "' is at epoch " + std::to_string(replica->epoch) +
                    ", the order carries " + std::to_string(epoch),
                "somebody failed this item over meanwhile; look at its state first");
  }
  return {};
}

// A message answers at once; nullopt means that the workers or a cycle will.
Result<std::optional<msg::Message>> AgentCore::decide(const msg::Envelope& envelope,
                                                      reactor::Effects& effects) {
  const auto& store = effects.store();
  const auto& body = envelope.body.value;
  const auto to_workers = [&](msg::Message order) -> Result<std::optional<msg::Message>> {
    orders_[envelope.id] = envelope;
    orders_[envelope.id].body = order;
    effects.start("order/" + envelope.id, std::move(order));
    return std::nullopt;
  };
  const auto later = [&](const std::string& item) -> Result<std::optional<msg::Message>> {
    auto& waiting = deferred_[item];
    const bool known =
        std::ranges::any_of(waiting, [&](const auto& other) { return other.id == envelope.id; });
    if (!known) waiting.push_back(envelope);
    return std::nullopt;
  };
  const auto source_of = [&](const std::string& item) -> Result<msg::SourceItem> {
    FARSIDE_ASSIGN(auto source, sources_.get(store, item));
    if (source) return std::move(*source);
    return fail(ErrorCode::kNotFound, "item '" + item + "' is not replicated from this host",
                "enable protection first");
  };

  // Nothing is known of an item of which this agent has lost its state: then its VM is believed.
  if (const auto item = item_of(envelope.body); !item.empty()) {
    FARSIDE_ASSIGN(const auto known, sources_.get(store, item));
    if (known) FARSIDE_TRY(check_own_vm(*known, envelope.body));
    FARSIDE_ASSIGN(const auto replica, replicas_.get(store, item));
    if (known || replica) {
      const auto epoch = std::max(known ? known->epoch : 0, replica ? replica->epoch : 0);
      FARSIDE_TRY(check_epoch_step(epoch, envelope.body));
    }
  }

  // ---- Source side ----
  if (const auto* order = std::get_if<msg::StartReplication>(&body)) {
    FARSIDE_ASSIGN(auto present, sources_.get(store, order->item));
    auto source = present.value_or(
        msg::SourceItem{.item = order->item, .vm = order->vm, .started_at = effects.now().micros});
    if (order->epoch < source.epoch) {
      return fail(
          ErrorCode::kStaleEpoch,
          "item '" + order->item + "' is replicated under epoch " + std::to_string(source.epoch),
          "look at the item's state first");
    }
    source.epoch = order->epoch;
    source.policy = order->policy;
    source.endpoint = order->endpoint;
    source.target_key = order->target_key;
    source.stopped = false;
    source.peer_revoked = false;
    source.status.item = order->item;
    source.status.epoch = order->epoch;
    sources_.put(effects.writes, order->item, source);
    schedule(order->item, Micros{0}, effects);
    return reactor::message(msg::ReplicationStarted{.item = order->item});
  }
  if (const auto* order = std::get_if<msg::AwaitInitial>(&body)) {
    FARSIDE_ASSIGN(const auto source, source_of(order->item));
    initial_[order->item] = envelope;
    if (source.status.newest.seq > 0) answer_initial(source, std::nullopt, effects);
    return std::nullopt;
  }
  if (const auto* order = std::get_if<msg::SyncSource>(&body)) {
    FARSIDE_ASSIGN(auto source, source_of(order->item));
    const auto cycle = cycles_.find(order->item);
    if (cycle != cycles_.end() && cycle->second.kind != CycleKind::kDigest) {
      return later(order->item);
    }
    synced_[order->item] = envelope;
    if (cycle == cycles_.end()) start_cycle(source, CycleKind::kDigest, effects);
    return std::nullopt;
  }
  if (const auto* order = std::get_if<msg::FinalSync>(&body)) {
    FARSIDE_ASSIGN(auto source, source_of(order->item));
    if (!source.stopped) {
      return fail(ErrorCode::kConflict, "item '" + order->item + "' is not shut down",
                  "the last delta follows the shutdown of the VM");
    }
    if (cycles_.contains(order->item)) {
      if (cycles_[order->item].kind == CycleKind::kFinal) {
        final_[order->item] = envelope;
        return std::nullopt;
      }
      return later(order->item);
    }
    final_[order->item] = envelope;
    start_cycle(source, CycleKind::kFinal, effects);
    return std::nullopt;
  }
  if (const auto* order = std::get_if<msg::RetryReplication>(&body)) {
    FARSIDE_ASSIGN(auto source, source_of(order->item));
    if (source.stopped || source.paused || source.peer_revoked) {
      return fail(ErrorCode::kConflict,
                  "item '" + order->item + "' " +
                      (source.stopped  ? "is shut down for a failover"
                       : source.paused ? "is paused by an operator"
                                       : "has a peer whose identity was revoked"),
                  source.paused ? "let it go on with `farside resume`"
                                : "look at the item with `farside item show`");
    }
    if (order->compare) source.resync = true;
    begin_now(source, effects);
    return reactor::message(msg::ReplicationRetried{.item = order->item});
  }
  if (const auto* order = std::get_if<msg::ShutDownSource>(&body)) {
    FARSIDE_ASSIGN(auto source, source_of(order->item));
    if (!source.stopped) {
      source.stopped = true;
      sources_.put(effects.writes, order->item, source);
    }
    // The delta under way is finished first: it makes the last one small.
    if (cycles_.contains(order->item)) return later(order->item);
    return to_workers(envelope.body);
  }
  if (const auto* order = std::get_if<msg::RestartSource>(&body)) {
    FARSIDE_TRY(source_of(order->item));
    // What this undoes must not come after it.
    deferred_.erase(order->item);
    final_.erase(order->item);
    const auto cycle = cycles_.find(order->item);
    if (cycle != cycles_.end() && cycle->second.kind == CycleKind::kFinal) {
      return std::nullopt;  // It is asked again.
    }
    return to_workers(envelope.body);
  }
  if (const auto* order = std::get_if<msg::UnfenceSource>(&body)) {
    FARSIDE_ASSIGN(const auto fence, fence_of(order->vm, store));
    if (fence && order->epoch < fence->epoch) {
      return fail(ErrorCode::kStaleEpoch,
                  "VM '" + order->vm + "' is fenced by epoch " + std::to_string(fence->epoch),
                  "the active side is the other site");
    }
    return to_workers(envelope.body);
  }
  if (const auto* order = std::get_if<msg::StopReplication>(&body)) {
    // No new cycle from here on; the one under way is ended first, begun or still queued.
    FARSIDE_ASSIGN(auto source, sources_.get(store, order->item));
    if (source && !source->stopped) {
      source->stopped = true;
      sources_.put(effects.writes, order->item, *source);
    }
    if (cycles_.contains(order->item)) {
      cancel_cycle(order->item, effects);
      return later(order->item);
    }
    return to_workers(envelope.body);
  }

  // ---- Target side ----
  if (const auto* order = std::get_if<msg::PrepareReplica>(&body)) {
    FARSIDE_ASSIGN(const auto present, replicas_.get(store, order->item));
    if (present) FARSIDE_TRY(check_replica(order->item, order->epoch, store));
    return to_workers(envelope.body);
  }
  if (const auto* order = std::get_if<msg::PromoteReplica>(&body)) {
    FARSIDE_TRY(check_replica(order->item, order->epoch, store));
    return to_workers(envelope.body);
  }
  if (const auto* order = std::get_if<msg::DemoteReplica>(&body)) {
    FARSIDE_ASSIGN(const auto replica, replicas_.get(store, order->item));
    if (replica && !replica->replica_vm.empty()) {
      return fail(ErrorCode::kConflict, "the replica of item '" + order->item + "' was started",
                  "it may have written: finish the failover, then reverse replicate");
    }
    // It undoes one promotion, back to the epoch before it; where there was none there is nothing
    // to undo, and what is to be undone before it must not wait.
    if (replica && !replica->promoted && order->epoch != replica->epoch) {
      return reactor::message(msg::ReplicaDemoted{.item = order->item});
    }
    if (replica && order->epoch != replica->epoch && order->epoch + 1 != replica->epoch) {
      return fail(ErrorCode::kStaleEpoch,
                  "the replica of item '" + order->item + "' is at epoch " +
                      std::to_string(replica->epoch) + ", not promoted from epoch " +
                      std::to_string(order->epoch),
                  "look at the item's state first");
    }
    return to_workers(envelope.body);
  }
  if (const auto* order = std::get_if<msg::StartReplica>(&body)) {
    FARSIDE_TRY(check_replica(order->item, order->epoch, store));
    FARSIDE_ASSIGN(auto replica, replicas_.get(store, order->item));
    if (!replica->promoted || replica->epoch != order->epoch) {
      return fail(ErrorCode::kStaleEpoch,
                  "the replica of item '" + order->item + "' is not promoted to epoch " +
                      std::to_string(order->epoch),
                  "a replica starts only after its epoch was raised");
    }
    // Recorded before the VM exists: a VM that may have written is never cleaned up as a leftover.
    replica->replica_vm = order->item;
    replicas_.put(effects.writes, order->item, *replica);
    auto full = *order;
    full.vm = replica->replica_vm;
    return to_workers(reactor::message(std::move(full)));
  }
  if (const auto* order = std::get_if<msg::StartTestVm>(&body)) {
    FARSIDE_TRY(check_replica(order->item, 0, store));
    FARSIDE_ASSIGN(auto replica, replicas_.get(store, order->item));
    if (replica->test_vm.empty()) {
      replica->test_vm = effects.fresh_id();
      replicas_.put(effects.writes, order->item, *replica);
    }
    auto full = *order;
    full.vm = replica->test_vm;
    return to_workers(reactor::message(std::move(full)));
  }
  if (const auto* order = std::get_if<msg::VerifyPoint>(&body)) {
    FARSIDE_TRY(check_replica(order->item, 0, store));
    return to_workers(envelope.body);
  }
  if (const auto* order = std::get_if<msg::ProveReplica>(&body)) {
    FARSIDE_TRY(check_replica(order->item, 0, store));
    return to_workers(envelope.body);
  }
  if (const auto* order = std::get_if<msg::AwaitLife>(&body)) {
    FARSIDE_TRY(await_life(*order, envelope, effects));
    return std::nullopt;
  }
  if (const auto* order = std::get_if<msg::ListPoints>(&body)) {
    FARSIDE_TRY(check_replica(order->item, 0, store));
    return to_workers(envelope.body);
  }
  if (const auto* order = std::get_if<msg::CheckSource>(&body)) {
    FARSIDE_ASSIGN(const auto fence, fence_of(order->vm, store));
    if (!fence) return to_workers(envelope.body);
    const auto where = fence->active_at.empty() ? "the other site" : fence->active_at;
    return fail(ErrorCode::kConflict,
                "VM '" + order->vm + "' is fenced on this host: what is here is a copy of the " +
                    "time of its failover, and it is active at " + where,
                "work with the VM there; remove this copy when nobody needs it any more");
  }
  if (const auto* order = std::get_if<msg::FenceSource>(&body)) {
    FARSIDE_ASSIGN(const auto fence, fence_of(order->vm, store));
    if (fence && fence->item == order->item && order->epoch < fence->epoch) {
      return fail(ErrorCode::kStaleEpoch,
                  "VM '" + order->vm + "' is fenced by epoch " + std::to_string(fence->epoch),
                  "somebody failed this item over meanwhile; look at its state first");
    }
    return to_workers(envelope.body);
  }
  // The remaining orders concern VMs that only our records know.
  const auto with_vm = [&](auto order) -> Result<std::optional<msg::Message>> {
    FARSIDE_ASSIGN(const auto replica, replicas_.get(store, order.item));
    if (replica) name_vms(order, *replica);
    return to_workers(reactor::message(std::move(order)));
  };
  if (const auto* order = std::get_if<msg::RemoveTestVm>(&body)) return with_vm(*order);
  if (const auto* order = std::get_if<msg::RemoveReplica>(&body)) return with_vm(*order);
  if (const auto* order = std::get_if<msg::DetachReplica>(&body)) return with_vm(*order);
  if (const auto* order = std::get_if<msg::CommitReplica>(&body)) return with_vm(*order);
  return fail(ErrorCode::kUnsupported,
              "an agent does not answer '" + std::string(msg::name_of(envelope.body)) + "'",
              "both sides must run the same release");
}

void AgentCore::on_order_done(const std::string& request, const Result<msg::Message>& result,
                              reactor::Effects& effects) {
  const auto found = orders_.find(request);
  if (found == orders_.end()) return;
  const auto order = std::move(found->second);
  orders_.erase(found);
  if (!result) {
    reply(order, result, effects);
    return;
  }
  if (const auto applied = apply(order.body, *result, effects); !applied) {
    reply(order, fail(applied.error()), effects);
    return;
  }
  if (is_reading(order.body)) {  // Large, or old at once: not kept.
    effects.send(provider_, msg::Envelope{.id = order.id,
                                          .from = effects.self(),
                                          .to = order.from,
                                          .reply = true,
                                          .body = *result});
    return;
  }
  reply(order, *result, effects);
}

// What a worker's success changes in our records.
Status AgentCore::apply(const msg::Message& order_message, const msg::Message& outcome,
                        reactor::Effects& effects) {
  const auto& store = effects.store();
  const auto change_replica = [&](const std::string& item, const auto& change) -> Status {
    FARSIDE_ASSIGN(auto replica, replicas_.get(store, item));
    if (!replica) return {};
    change(*replica);
    replicas_.put(effects.writes, item, *replica);
    return {};
  };

  const auto& body = order_message.value;
  if (const auto* order = std::get_if<msg::PrepareReplica>(&body)) {
    FARSIDE_ASSIGN(auto present, replicas_.get(store, order->item));
    auto replica = present.value_or(msg::ReplicaItem{.item = order->item});
    replica.vm = order->vm;
    replica.epoch = order->epoch;
    replica.storage_path = order->storage_path;
    replica.source_key = order->source_key;
    replica.policy = order->policy;
    replica.peer_revoked = false;
    replica.disks.clear();
    for (const auto& disk : order->vm.disks) {
      replica.disks.push_back({.name = disk.name, .bytes = disk.bytes, .id = disk.id});
    }
    replica.networks = order->networks;
    replica.vm_name = order->vm_name;
    replicas_.put(effects.writes, order->item, replica);
  } else if (const auto* removed = std::get_if<msg::RemoveReplica>(&body)) {
    replicas_.erase(effects.writes, removed->item);
    replica_status_.erase(removed->item);
    probe_.forget_replica(removed->item);
  } else if (const auto* promoted = std::get_if<msg::PromoteReplica>(&body)) {
    return change_replica(promoted->item, [&](msg::ReplicaItem& replica) {
      replica.promoted = true;
      replica.epoch = promoted->epoch;
    });
  } else if (const auto* demoted = std::get_if<msg::DemoteReplica>(&body)) {
    return change_replica(demoted->item, [&](msg::ReplicaItem& replica) {
      replica.promoted = false;
      replica.epoch = demoted->epoch;
    });
  } else if (const auto* committed = std::get_if<msg::CommitReplica>(&body)) {
    replica_status_.erase(committed->item);
    probe_.forget_replica(committed->item);
    const auto* done = std::get_if<msg::ReplicaCommitted>(&outcome.value);
    return change_replica(committed->item, [&](msg::ReplicaItem& replica) {
      replica.committed = true;
      replica.kept_until = done == nullptr ? 0 : done->kept_until;
    });
  } else if (const auto* started = std::get_if<msg::TestVmStarted>(&outcome.value)) {
    return change_replica(started->item,
                          [&](msg::ReplicaItem& replica) { replica.test_seq = started->seq; });
  } else if (const auto* tested = std::get_if<msg::RemoveTestVm>(&body)) {
    return change_replica(tested->item, [](msg::ReplicaItem& replica) {
      replica.test_vm.clear();
      replica.test_seq = 0;
    });
  } else if (const auto* stopped = std::get_if<msg::StopReplication>(&body)) {
    sources_.erase(effects.writes, stopped->item);
    effects.cancel_timer("cycle/" + stopped->item);
    forget_running(stopped->item);
    probe_.forget_source(stopped->item);
  } else if (const auto* restarted = std::get_if<msg::RestartSource>(&body)) {
    FARSIDE_ASSIGN(auto source, sources_.get(store, restarted->item));
    if (!source) return {};
    source->stopped = false;
    if (source->paused) source->status.phase = msg::ReplicationPhase::paused;
    sources_.put(effects.writes, restarted->item, *source);
    schedule(restarted->item, Micros{0}, effects);
  } else if (const auto* fenced = std::get_if<msg::SourceFenced>(&outcome.value)) {
    const auto* fence = std::get_if<msg::FenceSource>(&body);
    if (fence != nullptr) {
      effects.writes.put(kFenceTable, fence->vm, msg::encode(*fenced));
    }
  } else if (const auto* unfenced = std::get_if<msg::UnfenceSource>(&body)) {
    effects.writes.erase(kFenceTable, unfenced->vm);
  }
  return {};
}

void AgentCore::prune_replies(reactor::Effects& effects) {
  const auto oldest = to_iso(effects.now() - limits_.reply_kept);
  std::vector<std::string> old;
  const auto scanned =
      effects.store().scan(kReplies, "", "", [&](std::string_view key, std::string_view value) {
        if (value.substr(0, kTimeLength) < oldest) old.emplace_back(key);
        return old.size() < limits_.replies_pruned_max;
      });
  if (!scanned) return;
  for (const auto& key : old) effects.writes.erase(kReplies, key);
}

}  // namespace farside::agent
