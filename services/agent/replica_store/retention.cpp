#include "services/agent/replica_store/retention.h"

#include <algorithm>
#include <map>

namespace farside::replica {
namespace {
constexpr std::int64_t kHour = 3'600'000'000;
}

std::vector<std::uint64_t> points_to_drop(const std::vector<msg::RecoveryPoint>& points,
                                          const std::set<std::uint64_t>& pinned,
                                          const msg::Policy& policy, Time now) {
  if (points.empty()) return {};
  const std::uint64_t newest = points.back().seq;
  const std::int64_t until = std::min(now.micros, points.back().captured_at);
  const std::int64_t all_since = until - std::int64_t{policy.every_point_hours} * kHour;
  const std::int64_t kept_since = until - std::int64_t{policy.retention_hours} * kHour;

  // The one point that stands for its hour.  Younger points of the same hour take part, so that the
  // choice is the same whenever it is made once the hour is over.
  std::map<std::int64_t, const msg::RecoveryPoint*> of_hour;
  for (const msg::RecoveryPoint& point : points) {
    const msg::RecoveryPoint*& chosen = of_hour[point.captured_at / kHour];
    if (chosen == nullptr || point.app_consistent || !chosen->app_consistent) chosen = &point;
  }

  const auto must_stay = [&](const msg::RecoveryPoint& point) {
    return point.seq == newest || pinned.contains(point.seq);
  };
  std::vector<std::uint64_t> drop;
  std::vector<const msg::RecoveryPoint*> kept;
  std::uint64_t bytes = 0;
  for (const msg::RecoveryPoint& point : points) {
    const bool young = point.captured_at >= all_since;
    const bool hourly =
        point.captured_at >= kept_since && of_hour[point.captured_at / kHour]->seq == point.seq;
    if (must_stay(point) || (policy.retention_hours > 0 && (young || hourly))) {
      kept.push_back(&point);
      bytes += point.bytes;
    } else {
      drop.push_back(point.seq);
    }
  }
  // The first point's payload goes to the base disk and counts no longer once it was dropped.
  const std::uint64_t limit = std::uint64_t{policy.journal_gib_max} << 30U;
  for (const msg::RecoveryPoint* point : kept) {
    if (limit == 0 || bytes <= limit) break;
    if (must_stay(*point)) continue;
    bytes -= point->bytes;
    drop.push_back(point->seq);
  }
  std::ranges::sort(drop);
  return drop;
}

}  // namespace farside::replica
