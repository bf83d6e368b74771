// How well an item is replicated, from its figures alone.
#pragma once

#include "common/base/clock.h"
#include "common/schema/types.plain.h"

namespace farside::agent {

// When the newest point was captured, by this host's own clock: the target may have had reason to
// write down another time.
Time captured_here(const msg::ReplicationStatus& status);

// Critical: replication failed, or no point for 5 intervals (at least 60 s).  Warning: paused, or
// none for 2 intervals (at least 15 s).  An operator's pause is a warning, however old the newest
// point gets: it is what they asked for.  Until the first point the time since `now` does not
// count.
msg::Health health_of(const msg::ReplicationStatus& status, const msg::Policy& policy, Time now);

// Why the newest point is older than it should be, for an item whose cycles do not fail.
Error late_point(const msg::ReplicationStatus& status, const msg::Policy& policy, Time now);

// Somebody else ends the cause, and will not tell: it is asked for every interval of the policy,
// and is no failure of ours.  Another tool's backup; a VM that cannot be replicated as it is.
bool waits_for_others(std::uint16_t error_code);

// When a failed cycle is tried again.
std::chrono::seconds retry_after(std::uint16_t error_code, std::uint32_t failures_in_a_row,
                                 const msg::Policy& policy);

}  // namespace farside::agent
