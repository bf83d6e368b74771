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
  const std::int64_t until = std::min(now.micros, arrival_of(points.back()));
  const std::int64_t all_since = until - std::int64_t{policy.every_point_hours} * kHour;
  const std::int64_t kept_since = until - std::int64_t{policy.retention_hours} * kHour;

  // Those that stand for their hour; an app-consistent one is kept beside, not instead.
  std::map<std::int64_t, std::uint64_t> first_of_hour;
  std::map<std::int64_t, std::uint64_t> first_consistent_of_hour;
  for (const msg::RecoveryPoint& point : points) {
    const std::int64_t hour = arrival_of(point) / kHour;
    first_of_hour.try_emplace(hour, point.seq);
    if (point.app_consistent) first_consistent_of_hour.try_emplace(hour, point.seq);
  }
  const auto stands_for_hour = [&](const msg::RecoveryPoint& point) {
    const std::int64_t hour = arrival_of(point) / kHour;
    return first_of_hour[hour] == point.seq ||
           (point.app_consistent && first_consistent_of_hour[hour] == point.seq);
  };

  std::vector<std::uint64_t> drop;
  for (const msg::RecoveryPoint& point : points) {
    const bool young = arrival_of(point) >= all_since;
    const bool hourly = arrival_of(point) >= kept_since && stands_for_hour(point);
    const bool must_stay = point.seq == newest || pinned.contains(point.seq);
    if (must_stay || (policy.retention_hours > 0 && (young || hourly))) continue;
    drop.push_back(point.seq);
  }
  return drop;
}

bool is_protected(const msg::RecoveryPoint& point, const msg::Policy& policy, Time now) {
  return arrival_of(point) > now.micros - std::int64_t{policy.floor_hours} * kHour;
}

std::optional<std::uint64_t> next_to_go(const std::vector<msg::RecoveryPoint>& points,
                                        const std::set<std::uint64_t>& pinned,
                                        const msg::Policy& policy, Time now) {
  if (points.empty()) return std::nullopt;
  for (const msg::RecoveryPoint& point : points) {
    if (point.seq == points.back().seq || pinned.contains(point.seq)) continue;
    if (!is_protected(point, policy, now)) return point.seq;
  }
  return std::nullopt;
}

}  // namespace farside::replica
