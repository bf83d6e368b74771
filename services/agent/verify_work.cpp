// The part of TargetWork that compares a recovery point with its source.
//
// Beside whatever maintenance and deltas do, for it may take hours: only the point itself is held.
#include <fmt/format.h>

#include "services/agent/target_work.h"

namespace farside::agent {
namespace {
constexpr Micros kReportEvery = std::chrono::seconds{1};
}

Result<msg::Message> TargetWork::run(const msg::VerifyPoint& order, const std::string& job) {
  FARSIDE_ASSIGN(const auto item, [&]() -> Result<replica::SharedItem> {
    FARSIDE_ASSIGN(const auto entry, kept(order.item));
    const auto busy = turn_of(*entry);
    return item_of(replica_of(*entry));
  }());
  auto reported = clock_.monotonic();
  const auto watch = [&](std::uint64_t done, std::uint64_t total) -> Status {
    if (stop_.stop_requested()) {
      return fail(ErrorCode::kCancelled, "the agent is stopping",
                  "it begins anew when the agent runs again");
    }
    const auto now = clock_.monotonic();
    if (now - reported < kReportEvery) return {};
    reported = now;
    report_({.request = job, .done = done, .total = total});
    return {};
  };
  auto digest = order.since == 0 ? item->verify(order.seq, watch)
                                 : item->verify_since(order.since, order.seq, watch);
  if (!digest && digest.error().code == ErrorCode::kCorrupt) {
    auto error = digest.error().in(
        fmt::format("recovery point {} of item '{}' is damaged", order.seq, order.item));
    error.advice =
        "check the volume of the replica, resynchronise it with `farside resync`, then "
        "fail over again";
    return fail(std::move(error));
  }
  if (!digest) return fail(digest.error());
  if (*digest != order.digest) {
    return fail(ErrorCode::kCorrupt,
                fmt::format("recovery point {} of item '{}' differs from the source in disks: {}",
                            order.seq, order.item, replica::differing_disks(*digest, order.digest)),
                "resynchronise it with `farside resync`, then fail over again");
  }
  return reactor::message(
      msg::PointVerified{.item = order.item, .seq = order.seq, .digest = std::move(*digest)});
}

}  // namespace farside::agent
