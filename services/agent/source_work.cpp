#include "services/agent/source_work.h"

#include "common/base/log.h"

namespace farside::agent {
namespace {

constexpr Micros kReportEvery = std::chrono::milliseconds{300};

// An app-consistent point is due when the policy's hours have passed since the last one.
bool wants_app_consistency(const msg::SourceItem& source, Time now) {
  if (source.policy.app_consistent_hours == 0) return false;
  return now - Time{source.app_at} >= std::chrono::hours{source.policy.app_consistent_hours};
}

}  // namespace

Result<msg::Message> SourceWork::run(const msg::CheckSource& order) {
  FARSIDE_ASSIGN(auto vm, platform_.describe_vm(order.vm));
  FARSIDE_ASSIGN(auto definition, platform_.definition_of(order.vm));
  return reactor::message(msg::SourceChecked{
      .vm = std::move(vm), .public_key = keys_.public_key, .definition = std::move(definition)});
}

Result<msg::Message> SourceWork::run(const msg::RunCycle& job) {
  const auto& item = job.source.item;
  std::stop_token stop;
  {
    const std::lock_guard lock(mutex_);
    if (stopping_ || cycles_.contains(item)) {
      return fail(ErrorCode::kUnavailable, "item '" + item + "' has a cycle under way");
    }
    const auto cancelled = cancelled_.extract(item);
    if (!cancelled.empty() && cancelled.mapped() == job.attempt) {
      return fail(ErrorCode::kCancelled, "the cycle of item '" + item + "' was cancelled");
    }
    auto& running = cycles_[item];
    running.attempt = job.attempt;
    stop = running.stop.get_token();
  }
  auto result = cycle(job, stop);
  const std::lock_guard lock(mutex_);
  cycles_.erase(item);
  return result;
}

// Asked for before the cycle itself found a worker, it must not begin afterwards.
Result<msg::Message> SourceWork::run(const msg::CancelCycle& job) {
  const std::lock_guard lock(mutex_);
  const auto running = cycles_.find(job.item);
  if (running == cycles_.end()) {
    cancelled_[job.item] = job.attempt;
  } else if (running->second.attempt == job.attempt) {
    running->second.stop.request_stop();
  }
  return reactor::message(msg::CycleCancelled{});
}

// A pending delta is resumed from its last attempt's token; otherwise changes count from the
// newest durable point; without any token everything allocated is sent.
Result<SourceWork::Plan> SourceWork::plan(const msg::SourceItem& source) {
  if (source.resync) return Plan{.since = "", .mode = data::ShipMode::kResync};
  FARSIDE_ASSIGN(const auto pending, shipper_.pending(source.item));
  const bool initial = source.token.empty();
  const auto mode = initial ? data::ShipMode::kEverything : data::ShipMode::kChanged;
  if (!pending.cycle.empty() && pending.epoch == source.epoch) {
    return Plan{.since = pending.attempt, .mode = mode};
  }
  return Plan{.since = source.token, .mode = mode};
}

Result<std::unique_ptr<Point>> SourceWork::take_point(const msg::RunCycle& job, Plan& plan) {
  const auto& source = job.source;
  const PointRequest request{
      .vm_id = source.vm,
      .token = job.attempt,
      .since = plan.since,
      .app_consistent = !job.final && wants_app_consistency(source, clock_.now())};
  auto point = platform_.create_point(request);
  if (point || point.error().code != ErrorCode::kTrackingLost || plan.since == source.token ||
      job.final) {
    return point;
  }
  // Only the broken attempt's token is gone: what is staged is compared by hash instead.
  log::warn("pending delta cannot be resumed by token",
            {{"item", source.item}, {"cause", point.error()}});
  plan = Plan{.since = "", .mode = data::ShipMode::kResync};
  auto fresh = request;
  fresh.since.clear();
  return platform_.create_point(fresh);
}

// Hashes that are not kept are read; of a VM that is down no more than its last delta may be.
Result<std::string> SourceWork::digest_of(
    const msg::RunCycle& job, Point& point, const data::Shipped& shipped, std::stop_token stop,
    const std::function<void(const data::Progress&)>& on_progress) const {
  if (!job.digest) return std::string();
  data::DigestRequest request{
      .attempt = job.attempt, .hash_key = shipped.hash_key, .reads = {}, .stop = std::move(stop)};
  if (job.final) request.reads = shipped.delta_blocks;
  return shipper_.digest(job.source.item, point, request, on_progress);
}

Result<msg::Message> SourceWork::cycle(const msg::RunCycle& job, std::stop_token stop) {
  const auto& source = job.source;
  const auto started = clock_.monotonic();
  // Whoever started the VM by hand meanwhile must not write behind the last delta.
  if (job.final) FARSIDE_TRY(platform_.power_off(source.vm));

  FARSIDE_ASSIGN(auto how, plan(source));
  if (job.final && how.mode != data::ShipMode::kChanged) {
    return fail(ErrorCode::kConflict,
                "all blocks of item '" + source.item +
                    "' would have to be read while its VM is down: its change tracking was lost",
                "they are compared by themselves once the VM runs again; then fail over anew");
  }
  FARSIDE_ASSIGN(const auto point, take_point(job, how));
  const auto frozen = clock_.monotonic();
  auto reported = Micros{0};
  const auto on_progress = [&](const data::Progress& progress) {
    const auto now = clock_.monotonic();
    if (now - reported < kReportEvery) return;
    reported = now;
    report_({.request = "cycle/" + source.item, .done = progress.done, .total = progress.total});
  };
  const auto shipped =
      shipper_.ship(*point,
                    {.item = source.item,
                     .epoch = source.epoch,
                     .endpoint = source.endpoint,
                     .target_key = source.target_key,
                     .keys = keys_,
                     .attempt = job.attempt,
                     .since = how.since,
                     .mode = how.mode,
                     .compression = source.policy.compression,
                     .bytes_per_second = std::uint64_t{source.policy.bandwidth_kbps} * 125,
                     .stop = stop},
                    on_progress);
  if (!shipped) {
    auto error = shipped.error();
    // A target that has just started admits us once it has reconciled: asked again, not given up.
    if (error.code == ErrorCode::kForbidden) error.code = ErrorCode::kUnavailable;
    if (point->is_lost()) {
      error = point->loss().in("the frozen point of VM '" + source.vm + "' was lost");
    }
    if (const auto abandoned = point->abandon(); !abandoned) {
      log::warn("point not ended", {{"item", source.item}, {"cause", abandoned.error()}});
    }
    return fail(std::move(error));
  }
  auto digest = digest_of(job, *point, *shipped, stop, on_progress);
  if (!digest) {
    std::ignore = point->abandon();
    return fail(digest.error().in("digest of the source's disks"));
  }
  const auto durable = clock_.monotonic();
  if (const auto closed = point->close(); !closed) {
    // What was shipped was whole, and is durable: that its end meets trouble, or a VM that has been
    // started in this instant, takes nothing of it back.  Its token stays, next to the older ones.
    log::warn("point not closed", {{"item", source.item}, {"cause", closed.error()}});
    FARSIDE_TRY(point->abandon());
  }
  log::debug("cycle_done", {{"item", source.item},
                            {"blocks", shipped->blocks_sent},
                            {"freeze_us", (frozen - started).count()},
                            {"ship_us", (durable - frozen).count()},
                            {"close_us", (clock_.monotonic() - durable).count()}});
  return reactor::message(msg::CycleDone{
      .item = source.item,
      .point = shipped->point,
      .token = job.attempt,
      .guest_bytes = shipped->guest_bytes,
      .wire_bytes = shipped->wire_bytes,
      .resynced = shipped->resynced,
      .full_copy = how.mode == data::ShipMode::kEverything,
      .digest = std::move(*digest),
      .millis = static_cast<std::uint64_t>((clock_.monotonic() - started).count() / 1000),
      .captured_at = point->captured_at_micros()});
}

Result<msg::Message> SourceWork::run(const msg::StopReplication& order) {
  {
    const std::lock_guard lock(mutex_);
    cancelled_.erase(order.item);
    if (cycles_.contains(order.item)) {
      return fail(ErrorCode::kUnavailable, "item '" + order.item + "' has a cycle under way",
                  "it is tried again by itself");
    }
  }
  // A VM that was deleted has no tokens left to drop.
  if (const auto forgotten = platform_.forget_tokens(order.vm);
      !forgotten && forgotten.error().code != ErrorCode::kNotFound) {
    return fail(forgotten.error());
  }
  FARSIDE_TRY(shipper_.forget(order.item));
  return reactor::message(msg::ReplicationStopped{.item = order.item});
}

Result<msg::Message> SourceWork::run(const msg::ShutDownSource& order) {
  FARSIDE_ASSIGN(const auto power,
                 platform_.shut_down(order.vm, static_cast<int>(order.deadline_seconds)));
  if (power.forced) log::warn("guest did not shut down by itself", {{"vm", order.vm}});
  return reactor::message(msg::SourceShutDown{
      .item = order.item, .was_running = power.was_running, .forced = power.forced});
}

// A VM that its operator has paused or saved meanwhile is left as he left it.
Status SourceWork::start_again(const std::string& vm_id) {
  FARSIDE_ASSIGN(const auto vm, platform_.describe_vm(vm_id));
  if (vm.state == msg::PowerState::paused) {
    log::warn("vm left paused", {{"vm", vm_id}});
    return {};
  }
  const auto started = platform_.start(vm_id);
  if (started || started.error().code != ErrorCode::kAlreadyExists) return started;
  log::warn("vm left saved", {{"vm", vm_id}, {"cause", started.error()}});
  return {};
}

Result<msg::Message> SourceWork::run(const msg::RestartSource& order) {
  if (order.start) FARSIDE_TRY(start_again(order.vm));
  return reactor::message(msg::SourceRestarted{.item = order.item});
}

Result<msg::Message> SourceWork::run(const msg::FenceSource& order) {
  FARSIDE_TRY(platform_.set_fenced(order.vm, true));
  // Another VM that cannot be fenced now is told of elsewhere, every second.
  if (const auto enforced = platform_.enforce_fences(); !enforced) {
    FARSIDE_ASSIGN(const auto vm, platform_.describe_vm(order.vm));
    if (vm.state != msg::PowerState::off) return fail(enforced.error());
  }
  return reactor::message(
      msg::SourceFenced{.item = order.item, .epoch = order.epoch, .active_at = order.active_at});
}

Result<msg::Message> SourceWork::run(const msg::UnfenceSource& order) {
  FARSIDE_TRY(platform_.set_fenced(order.vm, false));
  return reactor::message(msg::SourceUnfenced{.item = order.item});
}

void SourceWork::cancel_all() {
  const std::lock_guard lock(mutex_);
  stopping_ = true;
  for (auto& [item, cycle] : cycles_) cycle.stop.request_stop();
}

}  // namespace farside::agent
