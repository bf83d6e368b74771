// Which recovery points go.
//
//   every point | for `everyPointHours`; then of each hour its first and its first app-consistent
//   one | up to `retentionHours`; older ones go.
//
// Hours and ages are those of arrival, by this host's clock, and whether a point stays does not
// depend on what arrives after it: a source cannot make its good points go by sending others.
// Age counts to `now` or to the newest arrival, whichever is earlier: a pause of replication makes
// no point old.  Arrival follows no clock that jumps while the agent runs (arrival_clock.h); one
// that is ahead when the agent starts counts, as soon as a delta arrives.  The newest point and
// pinned ones (a view is open) always stay.  Pure.
#pragma once

#include <cstdint>
#include <optional>
#include <set>
#include <vector>

#include "common/base/clock.h"
#include "common/schema/types.plain.h"

namespace farside::replica {

// When the target had it; of points from before that was kept, when the source had.
inline std::int64_t arrival_of(const msg::RecoveryPoint& point) {
  return point.arrived_at != 0 ? point.arrived_at : point.captured_at;
}

// `points` in order of seq.  Returns the seqs to drop, in order.
std::vector<std::uint64_t> points_to_drop(const std::vector<msg::RecoveryPoint>& points,
                                          const std::set<std::uint64_t>& pinned,
                                          const msg::Policy& policy, Time now);

// Younger than `floorHours`: it never goes for the sake of `journalGibMax`.  Counts to
// `now`, right or wrong: an item that the limit has paused must go on some day.
bool is_protected(const msg::RecoveryPoint& point, const msg::Policy& policy, Time now);

// Which point goes next for the sake of the limit; empty: none may.
std::optional<std::uint64_t> next_to_go(const std::vector<msg::RecoveryPoint>& points,
                                        const std::set<std::uint64_t>& pinned,
                                        const msg::Policy& policy, Time now);

}  // namespace farside::replica
