// Which recovery points go.
//
//   every point | for `everyPointHours`; then one per hour, an app-consistent one if the hour has
//   any, else its last, | up to `retentionHours`; older ones go.
//
// Age counts to `now` or to the newest point, whichever is earlier: neither a clock that jumps,
// here or at the source, nor a pause of replication makes points old. The newest point and pinned
// ones (a view is open) always stay.  If the kept ones together exceed `journalGibMax`, the oldest
// go first.  Pure.
#pragma once

#include <cstdint>
#include <set>
#include <vector>

#include "common/base/clock.h"
#include "common/schema/types.plain.h"

namespace farside::replica {

// `points` in order of seq.  Returns the seqs to drop, in order.
std::vector<std::uint64_t> points_to_drop(const std::vector<msg::RecoveryPoint>& points,
                                          const std::set<std::uint64_t>& pinned,
                                          const msg::Policy& policy, Time now);

}  // namespace farside::replica
