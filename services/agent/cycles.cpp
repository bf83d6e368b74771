// The part of AgentCore that decides when the next delta of an item runs.
#include <fmt/format.h>

#include <algorithm>
#include <utility>

#include "common/base/log.h"
#include "common/flow/fault.h"
#include "services/agent/agent_core.h"
#include "services/agent/health.h"

namespace farside::agent {

using msg::ReplicationPhase;

void AgentCore::schedule(const std::string& item, Micros delay, reactor::Effects& effects) {
  effects.set_timer("cycle/" + item, std::max(delay, Micros{0}));
}

void AgentCore::on_cycle_timer(const std::string& item, reactor::Effects& effects) {
  auto source = sources_.get(effects.store(), item);
  if (!source) {
    log::error("item unreadable", {{"item", item}, {"cause", source.error()}});
    schedule(item, limits_.store_again, effects);
    return;
  }
  if (!*source || !reconciled_ || (*source)->stopped || (*source)->peer_revoked ||
      (*source)->paused || cycles_.contains(item)) {
    return;
  }
  if (has_slot(**source)) {
    start_cycle(**source, CycleKind::kPlain, effects);
  } else if (std::ranges::find(due_, item) == due_.end()) {
    due_.push_back(item);
  }
}

// A copy or comparison of whole disks takes hours: those leave room for the deltas of others.
bool AgentCore::has_slot(const msg::SourceItem& item) const {
  if (cycles_.size() >= limits_.cycles_max) return false;
  const bool full = item.resync || item.token.empty();
  const auto running = static_cast<std::size_t>(
      std::ranges::count_if(cycles_, [](const auto& cycle) { return cycle.second.full; }));
  return !full || running < limits_.full_cycles_max;
}

// Who waited longest goes first; who needs a slot of the rarer kind lets others pass.
void AgentCore::start_due(reactor::Effects& effects) {
  const auto waiting = std::exchange(due_, {});
  for (const auto& item : waiting) on_cycle_timer(item, effects);
}

// Ends the cycle under way, begun or still queued; its end comes as that of any other.
void AgentCore::cancel_cycle(const std::string& item, reactor::Effects& effects) {
  const auto cycle = cycles_.find(item);
  if (cycle == cycles_.end()) return;
  effects.start("cancel/" + item,
                reactor::message(msg::CancelCycle{.item = item, .attempt = cycle->second.attempt}));
}

void AgentCore::start_cycle(msg::SourceItem& item, CycleKind kind, reactor::Effects& effects) {
  item.attempts += 1;
  item.status.phase = item.resync          ? ReplicationPhase::resync
                      : item.token.empty() ? ReplicationPhase::initial
                                           : ReplicationPhase::delta;
  item.status.retry_at = 0;
  sources_.put(effects.writes, item.item, item);
  // A counter alone would repeat itself after the agent's state was lost.
  auto attempt = fmt::format("farside-{}-{}", item.attempts, effects.fresh_id().substr(0, 8));
  cycles_[item.item] = Running{.kind = kind,
                               .full = item.resync || item.token.empty(),
                               .attempt = attempt,
                               .started = effects.now(),
                               .moved = effects.monotonic()};
  effects.start("cycle/" + item.item,
                reactor::message(msg::RunCycle{.source = item,
                                               .attempt = std::move(attempt),
                                               .final = kind == CycleKind::kFinal,
                                               .digest = kind != CycleKind::kPlain}));
}

void AgentCore::on_cycle_done(const std::string& item, const Result<msg::Message>& result,
                              reactor::Effects& effects) {
  auto source = sources_.get(effects.store(), item);
  if (!source || !*source) {  // Protection ended meanwhile, or the state cannot be read.
    cycles_.erase(item);
    if (!source) {
      log::error("item unreadable", {{"item", item}, {"cause", source.error()}});
      schedule(item, limits_.store_again, effects);
    }
    start_due(effects);
    return;
  }
  if (!result) {
    fail_cycle(**source, result.error(), effects);
  } else if (const auto* done = std::get_if<msg::CycleDone>(&result->value)) {
    succeed_cycle(**source, *done, effects);
  }
  resume_deferred(item, effects);
  start_due(effects);
}

void AgentCore::succeed_cycle(msg::SourceItem& item, const msg::CycleDone& done,
                              reactor::Effects& effects) {
  const auto cycle = cycles_[item.item];
  cycles_.erase(item.item);
  auto& status = item.status;
  const bool first = status.newest.seq == 0;
  item.token = done.token;
  item.failures = 0;
  // An operator may have asked for a comparison while a plain delta was under way.
  item.resync = item.resync && !done.resynced;
  status.newest = done.point;
  status.newest_here = done.captured_at;
  if (done.point.app_consistent) item.app_at = captured_here(status).micros;
  status.fault.reset();
  status.cycles += 1;
  status.changed_bytes_total += done.guest_bytes;
  status.wire_bytes_total += done.wire_bytes;
  status.resyncs += done.resynced ? 1 : 0;
  status.full_copies += done.full_copy ? 1 : 0;
  status.phase = item.stopped  ? ReplicationPhase::stopped
                 : item.paused ? ReplicationPhase::paused
                               : ReplicationPhase::waiting;
  if (first) {
    status.initial_seconds =
        static_cast<double>(effects.now().micros - item.started_at) / 1'000'000.0;
  }
  sources_.put(effects.writes, item.item, item);
  probe_.cycle_ended(done, cycle.kind == CycleKind::kFinal);
  answer_waiting(item, std::nullopt, done.digest, effects);
  if (item.stopped || item.paused) return;
  // From start to start; a cycle that took longer is followed by the next at once.
  const Micros interval = std::chrono::seconds{item.resync ? 0 : item.policy.frequency_seconds};
  schedule(item.item, std::min(cycle.started + interval - effects.now(), interval), effects);
}

void AgentCore::fail_cycle(msg::SourceItem& item, const Error& error, reactor::Effects& effects) {
  cycles_.erase(item.item);
  auto& status = item.status;
  if (error.code == ErrorCode::kTrackingLost && !item.resync) {
    // Not a failure yet: compare hashes with the replica, at once.
    log::warn("change tracking lost", {{"item", item.item}, {"cause", error}});
    item.resync = true;
    sources_.put(effects.writes, item.item, item);
    if (final_.contains(item.item)) {
      // Not while the VM is down: it is started again, and compared while it runs.
      answer_waiting(item,
                     Error{.code = ErrorCode::kConflict,
                           .what = error.what,
                           .advice = "all blocks are compared once the VM runs again; then fail "
                                     "over anew"},
                     "", effects);
    } else if (synced_.contains(item.item)) {
      start_cycle(item, CycleKind::kDigest, effects);
    } else if (!item.stopped) {
      schedule(item.item, Micros{0}, effects);
    }
    return;
  }
  const bool is_awaited = final_.contains(item.item) || synced_.contains(item.item);
  if (error.code == ErrorCode::kCancelled && !item.stopped && !is_awaited) {
    // Ended by ourselves: the peer was revoked, or an operator paused it and may have resumed it.
    if (item.paused) status.phase = ReplicationPhase::paused;
    sources_.put(effects.writes, item.item, item);
    if (!item.paused && !item.peer_revoked) schedule(item.item, Micros{0}, effects);
    return;
  }
  probe_.cycle_failed(item.item);
  const auto code = static_cast<std::uint16_t>(error.code);
  if (!waits_for_others(code)) item.failures += 1;
  const auto wait = retry_after(code, item.failures, item.policy);
  // What others are at is asked for often and said once.
  const bool is_known = waits_for_others(code) && status.fault && status.fault->what == error.what;
  status.fault = flow::to_fault(error);
  status.phase = item.stopped                                     ? ReplicationPhase::stopped
                 : error.is_retryable() || waits_for_others(code) ? ReplicationPhase::paused
                                                                  : ReplicationPhase::failed;
  status.retry_at = (effects.now() + wait).micros;
  if (!is_known) {
    log::warn("cycle failed", {{"item", item.item},
                               {"failures", item.failures},
                               {"retry_s", wait.count()},
                               {"cause", error}});
  }
  sources_.put(effects.writes, item.item, item);
  answer_waiting(item, error, "", effects);
  if (!item.stopped && !item.peer_revoked && !item.paused) schedule(item.item, wait, effects);
}

// Tells who waits for the first point of this item.
void AgentCore::answer_initial(const msg::SourceItem& item, const std::optional<Error>& error,
                               reactor::Effects& effects) {
  if (const auto waiting = initial_.find(item.item); waiting != initial_.end()) {
    const auto& status = item.status;
    if (!error) {
      reply(waiting->second,
            reactor::message(msg::InitialDone{.item = item.item,
                                              .point = status.newest,
                                              .seconds = status.initial_seconds,
                                              .guest_bytes = status.changed_bytes_total,
                                              .wire_bytes = status.wire_bytes_total}),
            effects);
      initial_.erase(waiting);
    } else if (!error->is_retryable()) {
      reply(waiting->second, fail(*error), effects);
      initial_.erase(waiting);
    }
  }
}

// Tells who waits for any point of this item, now that a cycle has ended.
void AgentCore::answer_waiting(const msg::SourceItem& item, const std::optional<Error>& error,
                               const std::string& digest, reactor::Effects& effects) {
  answer_initial(item, error, effects);
  if (const auto waiting = final_.find(item.item); waiting != final_.end()) {
    if (error) {
      reply(waiting->second, fail(*error), effects);
    } else {
      reply(waiting->second,
            reactor::message(
                msg::FinalSynced{.item = item.item, .point = item.status.newest, .digest = digest}),
            effects);
    }
    final_.erase(waiting);
  }
  if (const auto waiting = synced_.find(item.item); waiting != synced_.end()) {
    if (error) {
      reply(waiting->second, fail(*error), effects);
    } else {
      reply(waiting->second,
            reactor::message(msg::SourceSynced{
                .item = item.item, .point = item.status.newest, .digest = digest}),
            effects);
    }
    synced_.erase(waiting);
  }
}

void AgentCore::resume_deferred(const std::string& item, reactor::Effects& effects) {
  const auto found = deferred_.find(item);
  if (found == deferred_.end()) return;
  const auto orders = std::move(found->second);
  deferred_.erase(found);
  for (const auto& order : orders) on_order(order, effects);
}

// The next cycle, at once and as if nothing had failed before.
void AgentCore::begin_now(msg::SourceItem& item, reactor::Effects& effects) {
  item.failures = 0;
  item.status.retry_at = 0;
  if (item.status.phase == ReplicationPhase::paused) item.status.phase = ReplicationPhase::waiting;
  sources_.put(effects.writes, item.item, item);
  if (!cycles_.contains(item.item)) schedule(item.item, Micros{0}, effects);
}

void AgentCore::forget_running(const std::string& item) {
  cycles_.erase(item);
  initial_.erase(item);
  final_.erase(item);
  synced_.erase(item);
  deferred_.erase(item);
}

}  // namespace farside::agent
