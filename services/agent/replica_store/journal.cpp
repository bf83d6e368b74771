// How much of the volume a journal may take: what is on disk is counted, not what deltas had.
//
// The limit makes the oldest points go, one by one, as their space comes back; none that is younger
// than the policy's floor.  When both cannot be had, no further delta is taken until they can: the
// newest point stays, time and settings make room.  What a delta under way holds makes nothing go:
// it is refused as soon as it cannot fit beside the points that must stay.
#include <fmt/format.h>

#include <algorithm>
#include <set>

#include "services/agent/replica_store/item.h"
#include "services/agent/replica_store/retention.h"

namespace farside::replica {
namespace {

constexpr Micros kRetryEvery = std::chrono::minutes{10};
constexpr const char* kMoreRoom =
    "raise journalGibMax or lower floorHours of the item's policy, or wait until points are older; "
    "replication goes on by itself";

std::string gib(std::uint64_t bytes) {
  return fmt::format("{:.1f} GiB", static_cast<double>(bytes) / (1ULL << 30U));
}

}  // namespace

// Beyond it nothing is taken any more.
std::uint64_t Item::journal_full_at() const {
  return journal_.limit + journal_.limit / 20;
}

void Item::measure_journal(const msg::Policy& policy, Time now) {
  const std::uint64_t limit = policy.journal_gib_max * limits_.journal_unit;
  // A clock that was set back makes nothing wait longer.
  const bool is_time = now < journal_.refused_at || now - journal_.refused_at >= kRetryEvery;
  if (limit != journal_.limit || policy.floor_hours != journal_.floor_hours || is_time) {
    journal_.may_retry = true;
  }
  journal_.limit = limit;
  journal_.floor_hours = policy.floor_hours;
  journal_.measured_at = now;
  journal_.on_disk = 0;
  for (const auto& [number, segment] : segments_) {
    journal_.on_disk += used_bytes(segment_path(folder_, number));
  }
  journal_.on_disk -= std::min(journal_.on_disk, replica_.cycle_bytes);
  journal_.must_stay = 0;
  for (const auto& [seq, stored] : points_) {
    const bool stays = seq == newest_seq() || is_pinned(seq);
    // The first delta lies in the base disks.
    if (stays || is_protected(stored.point, policy, now)) journal_.must_stay += stored.point.bytes;
  }
}

Status Item::limit_journal(const msg::Policy& policy, Time now) {
  const std::lock_guard lock(mutex_);
  FARSIDE_TRY(ready());
  if (journal_.measured_at == Time{}) measure_journal(policy, now);
  return {};
}

Result<bool> Item::make_room(const msg::Policy& policy, Time now) {
  const std::lock_guard lock(mutex_);
  FARSIDE_TRY(ready());
  measure_journal(policy, now);
  if (journal_.limit == 0 || journal_.on_disk <= journal_.limit) return false;
  // What went before has to come back first, and a view keeps segments that it may read.
  if (!dropped_.empty() || !pins_.empty()) return false;
  std::vector<msg::RecoveryPoint> kept;
  for (const auto& [seq, stored] : points_) kept.push_back(stored.point);
  std::set<std::uint64_t> held;
  if (is_held(held_)) held.insert(held_);
  const auto victim = next_to_go(kept, held, policy, now);
  if (!victim) return false;
  FARSIDE_TRY(drop_locked({*victim}));
  return true;
}

std::optional<Error> Item::journal_fault() {
  const std::lock_guard lock(mutex_);
  const Status open = check_journal();
  if (!open) return open.error();
  // Trying again is no cure yet.
  if (journal_.limit != 0 && journal_.refused != 0) return too_large().error();
  return std::nullopt;
}

std::optional<Error> Item::journal_warning() {
  const std::lock_guard lock(mutex_);
  if (journal_.limit == 0 || journal_.on_disk <= journal_full_at() || pins_.empty()) return {};
  return Error{.code = ErrorCode::kNoSpace,
               .what = fmt::format("the journal has {}, more than its limit of {}, because a view "
                                   "of the replica is open",
                                   gib(journal_.on_disk), gib(journal_.limit)),
               .advice = "clean up the test failover, or complete the failover"};
}

// Whether a delta may begin.
Status Item::check_journal() {
  if (journal_.limit == 0 || points_.empty()) return {};
  if (journal_.on_disk > journal_full_at() && pins_.empty()) {
    return fail(ErrorCode::kNoSpace,
                dropped_.empty()
                    ? fmt::format("the journal of {} has {}, its limit is {}, and points younger "
                                  "than {} h do not go for it",
                                  replica_.item, gib(journal_.on_disk), gib(journal_.limit),
                                  journal_.floor_hours)
                    : fmt::format("the journal of {} has {}, its limit is {}; the space of points "
                                  "that went is still being given back",
                                  replica_.item, gib(journal_.on_disk), gib(journal_.limit)),
                kMoreRoom);
  }
  if (journal_.refused == 0) return {};
  // Before it is time, it is tried again only where it gets clearly further than last time.
  const std::uint64_t newest = points_.rbegin()->second.point.bytes;
  const std::uint64_t best = journal_.limit - std::min(journal_.limit, newest);
  const std::uint64_t room = journal_.limit - std::min(journal_.limit, journal_.must_stay);
  if (journal_.refused < best && room >= std::min(best, journal_.refused + journal_.refused / 4)) {
    journal_.refused = 0;
    return {};
  }
  if (journal_.may_retry) return {};
  return too_large();
}

Status Item::too_large() const {
  return fail(ErrorCode::kNoSpace,
              fmt::format("the next delta of {} has more than {}; with {} of points that must stay "
                          "(the newest, and those younger than {} h) the journal would exceed its "
                          "limit of {}",
                          replica_.item, gib(journal_.refused), gib(journal_.must_stay),
                          journal_.floor_hours, gib(journal_.limit)),
              kMoreRoom);
}

// What does not fit now would only stand in the way of what does.
Status Item::check_delta_fits() {
  if (journal_.limit == 0 || points_.empty()) return {};
  if (journal_.must_stay + replica_.cycle_bytes <= journal_.limit) return {};
  journal_.refused = replica_.cycle_bytes;
  journal_.may_retry = false;
  journal_.refused_at = journal_.measured_at;
  delta_open_ = false;
  FARSIDE_TRY(discard_locked());
  return too_large();
}

}  // namespace farside::replica
