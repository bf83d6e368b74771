// The part of TargetWork that keeps replicas in order in the background.
//
//   views alive -> source admitted -> retention -> folding, journal's limit -> scrub -> proof
//
// Each step fails on its own and is told on its own; the next round tries it again.  Folding and
// scrub go in slices, as fast as the volume's budget allows and no longer than the replica's turn;
// an order for the item ends the turn at the next slice.
#include <sys/stat.h>

#include <fmt/format.h>

#include <utility>

#include "common/base/log.h"
#include "common/flow/fault.h"
#include "services/agent/target_work.h"

namespace farside::agent {
namespace {

constexpr std::uint64_t kBlocksPerSlice = 128;  // 8 MiB: deltas of the item wait for no more.
constexpr std::uint64_t kSliceBytes = kBlocksPerSlice * replica::kBlockBytes;
constexpr std::chrono::hours kScrubEvery{24};
constexpr Micros kStayMax = std::chrono::hours{720};  // The longest that a commit may ask for.
constexpr Micros kRound = std::chrono::seconds{15};   // As the core comes round.
constexpr Micros kTurnMin = std::chrono::milliseconds{200};
constexpr Micros kNapMax = std::chrono::milliseconds{100};

}  // namespace

struct TargetWork::Pace {
  const Clock& clock;
  std::stop_token stop;
  const std::atomic<int>& waiting;
  Budget& budget;
  Micros until{};

  bool is_over() const {
    return stop.stop_requested() || waiting > 0 || clock.monotonic() >= until;
  }
  // For the next slice; false: the turn is over.
  bool await() const {
    while (!is_over()) {
      const Micros wait = std::min(budget.wait(clock.monotonic()), kNapMax);
      if (wait == Micros{0}) return true;
      wait_or_stop(stop, wait);
    }
    return false;
  }
  void did(std::uint64_t bytes) const { budget.book(bytes, clock.monotonic()); }
};

namespace {

// Two storage paths may be of one volume.
std::string volume_of(const std::string& storage_path) {
  struct stat facts{};
  if (::stat(storage_path.c_str(), &facts) != 0) return storage_path;
  return std::to_string(facts.st_dev);
}

}  // namespace

Budget& TargetWork::budget_of(const std::string& storage_path) {
  const std::string volume = volume_of(storage_path);
  const std::lock_guard lock(mutex_);
  return budgets_.try_emplace(volume, settings_.upkeep_per_second).first->second;
}

// Its share of a round, so that each replica of the volume has its turn in each.
Micros TargetWork::turn_length(const std::string& storage_path) {
  const std::lock_guard lock(mutex_);
  std::int64_t replicas = 0;
  for (const auto& [item, kept] : kept_) {
    if (kept->replica.storage_path == storage_path && !kept->replica.committed) ++replicas;
  }
  return std::clamp(Micros{kRound.count() / std::max<std::int64_t>(replicas, 1)}, kTurnMin,
                    std::max(kTurnMin, settings_.upkeep_turn));
}

Result<msg::Message> TargetWork::run(const msg::MaintainReplica& job) {
  FARSIDE_ASSIGN(const auto entry, kept(job.replica.item));
  const std::unique_lock busy(entry->busy, std::try_to_lock);
  if (!busy) {
    return fail(ErrorCode::kBusy, "an order for item '" + job.replica.item + "' is under way",
                "maintenance comes round again");
  }
  auto replica = replica_of(*entry);
  if (replica.committed) return keep_or_drop(*entry, replica);
  FARSIDE_ASSIGN(const auto item, item_of(replica));
  replica.scrub_cursor = job.replica.scrub_cursor;
  replica.scrubbed_at = job.replica.scrubbed_at;
  replica.scrub_mismatches = job.replica.scrub_mismatches;
  replica.proven_at = job.replica.proven_at;
  replica.proven_definition = job.replica.proven_definition;
  replica.proof_fault = job.replica.proof_fault;
  replica.replica_vm = job.replica.replica_vm;

  Pace pace{.clock = clock_,
            .stop = stop_.get_token(),
            .waiting = entry->waiting,
            .budget = budget_of(replica.storage_path),
            .until = {}};
  std::vector<msg::Fault> faults;
  const auto step = [&](const char* what, const Status& done) {
    if (done) return;
    log::warn("maintenance failed",
              {{"item", replica.item}, {"of", what}, {"cause", done.error()}});
    faults.push_back(flow::to_fault(done.error().in(what)));
  };
  const auto turn = turn_length(replica.storage_path);
  const auto half = turn / 2;
  if (const auto revived = views_.revive(*item); !revived) step("views", fail(revived.error()));
  step("admission of the source", admit(replica));  // Where it could not be at the start.
  step("retention", item->retain(replica.policy, clock_.now()));
  pace.until = clock_.monotonic() + (is_scrub_due(replica) ? half : turn);
  step("folding", fold(*item, replica, pace));
  note_findings(item->take_findings(), replica);
  pace.until = clock_.monotonic() + half;
  step("scrub", scrub(*item, replica, pace));
  if (!pace.stop.stop_requested() && pace.waiting == 0) prove_if_due(item, replica);

  auto status = status_of(*item, replica);
  if (const auto store = store_at(replica.storage_path); store && !(*store)->keep_ballast()) {
    status.warnings.push_back(flow::to_fault(
        Error{.code = ErrorCode::kNoSpace,
              .what = "the volume of " + replica.storage_path +
                      " is nearly full: the room that is kept for emergencies is in use",
              .advice = "free space on the volume, or limit the journals on it"}));
  }
  status.faults.insert(status.faults.begin(), faults.begin(), faults.end());
  return reactor::message(
      msg::ReplicaMaintained{.status = std::move(status),
                             .scrub_cursor = std::move(replica.scrub_cursor),
                             .proven_definition = std::move(replica.proven_definition)});
}

// Its time has come, and has passed as well: a clock that jumps ahead ends nothing.
bool TargetWork::is_over(Kept& entry, std::int64_t kept_until) const {
  if (entry.stays_until != kept_until) {
    entry.stays_until = kept_until;
    entry.stays = clock_.monotonic() + std::min(Time{kept_until} - clock_.now(), kStayMax);
  }
  return clock_.now().micros >= kept_until && clock_.monotonic() >= entry.stays;
}

// After a commit nothing changes in it any more, until its time is over.
Result<msg::Message> TargetWork::keep_or_drop(Kept& entry, const msg::ReplicaItem& replica) {
  msg::ReplicaMaintained done{.status = {.item = replica.item, .epoch = replica.epoch}};
  if (is_over(entry, replica.kept_until)) {
    FARSIDE_TRY(drop(replica));
    change(entry, [](msg::ReplicaItem& known) { known.kept_until = 0; });
    log::info("replica_of_committed_failover_dropped", {{"item", replica.item}});
  } else {
    FARSIDE_ASSIGN(const auto item, item_of(replica));
    done.status = status_of(*item, replica);
    done.status.faults.clear();  // Of replication, which has ended.
    done.status.warnings.clear();
    done.status.kept_until = replica.kept_until;
  }
  return reactor::message(std::move(done));
}

Status TargetWork::fold(replica::Item& item, const msg::ReplicaItem& replica, Pace& pace) const {
  while (pace.await()) {
    Result<bool> more = item.consolidate(kBlocksPerSlice);
    pace.did(item.take_moved_bytes());
    if (!more) return fail(more.error());
    if (*more) continue;
    FARSIDE_ASSIGN(more, item.make_room(replica.policy, clock_.now()));
    if (!*more) break;
  }
  return {};
}

bool TargetWork::is_scrub_due(const msg::ReplicaItem& replica) const {
  const Micros since = clock_.now() - Time{replica.scrubbed_at};  // Below 0: a clock was wrong.
  return !replica.scrub_cursor.empty() || since >= kScrubEvery || since < Micros{0};
}

// Some slices of the pass over everything stored; the next pass begins a day after the last ended.
Status TargetWork::scrub(replica::Item& item, msg::ReplicaItem& replica, Pace& pace) const {
  if (!is_scrub_due(replica)) return {};
  while (pace.await()) {
    FARSIDE_ASSIGN(auto result, item.scrub(replica.scrub_cursor, kBlocksPerSlice));
    pace.did(kSliceBytes);
    note_findings(result.mismatches, replica);
    replica.scrub_cursor = std::move(result.next);
    if (!replica.scrub_cursor.empty()) continue;
    replica.scrubbed_at = clock_.now().micros;
    break;
  }
  return {};
}

void TargetWork::note_findings(const std::vector<std::string>& findings,
                               msg::ReplicaItem& replica) {
  for (const auto& finding : findings) {
    log::error("stored block damaged", {{"item", replica.item}, {"where", finding}});
  }
  replica.scrub_mismatches += findings.size();
}

msg::ReplicaStatus TargetWork::status_of(replica::Item& item,
                                         const msg::ReplicaItem& replica) const {
  const auto usage = item.usage();
  const auto points = item.points();
  msg::ReplicaStatus status{.item = replica.item,
                            .epoch = item.epoch(),
                            .points = points.size(),
                            .journal_bytes = usage.journal_bytes,
                            .base_bytes = usage.base_bytes,
                            .scrubbed_at = replica.scrubbed_at,
                            .scrub_mismatches = replica.scrub_mismatches,
                            .proven_at = replica.proven_at,
                            .proof_fault = replica.proof_fault,
                            .damaged = item.damaged()};
  if (!points.empty()) {
    status.newest = points.back();
    status.oldest = points.front();
    if (const auto& newest = points.back(); newest.claimed_at != 0) {
      status.warnings.push_back(flow::to_fault(Error{
          .code = ErrorCode::kConflict,
          .what = fmt::format("the source says its newest recovery point is of {}, which cannot "
                              "be: it arrived at {}, and has that time",
                              to_iso(Time{newest.claimed_at}), to_iso(Time{newest.arrived_at})),
          .advice = "set the clocks of both hosts by NTP"}));
    }
  }
  if (const auto fault = item.journal_fault()) status.faults.push_back(flow::to_fault(*fault));
  if (const auto over = item.journal_warning()) status.warnings.push_back(flow::to_fault(*over));
  if (item.needs_repair()) {
    status.faults.push_back(flow::to_fault(
        Error{.code = ErrorCode::kCorrupt,
              .what = "the newest recovery point needs blocks that the volume damaged",
              .advice = "check the volume; the next delta compares all blocks by itself and "
                        "replaces them, older points stay as they are"}));
  }
  return status;
}

// A copy that stands, though the platform begins it again and again.
Error TargetWork::stalled(replica::Item* item, const std::string& vm) const {
  const auto why = item == nullptr ? "" : views_.last_error(*item, "failover");
  return Error{
      .code = why.empty() ? ErrorCode::kTimeout : ErrorCode::kCorrupt,
      .what = fmt::format(
          "copying the disks of VM '{}' from its recovery point has not got on for "
          "{} s{}{}",
          vm, std::chrono::duration_cast<std::chrono::seconds>(settings_.detach_stalled).count(),
          why.empty() ? "" : ": ", why),
      .advice = why.empty() ? "look at the storage of the host and at its hypervisor"
                            : "the VM reads errors there; fail over to a point without the damage, "
                              "or restore what lies in that block inside the VM"};
}

}  // namespace farside::agent
