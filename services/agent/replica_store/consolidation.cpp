// How space comes back.  With points kept at 3, 6 and 9 and the others dropped, deltas 1 to 9 are
//
//      base <-- 1 2 3 | 4 5 6 | 7 8 9
//               `---'   `---'   `---'
//               fold:   thin: of the versions of one block within a group only the last is ever
//               the last of each block moves to the base disk     read; the others are erased
//
// Work is found through the members of the dropped deltas, so that its cost is that of the deltas
// and not of the disks.  Each step is repeatable: payload is copied and synced first, the index
// follows in one batch, files go last.  A crash in between only makes a block be copied again.
#include <algorithm>
#include <array>
#include <filesystem>
#include <limits>
#include <map>
#include <utility>

#include "common/base/assert.h"
#include "common/base/log.h"
#include "services/agent/replica_store/item.h"
#include "services/agent/replica_store/retention.h"

namespace farside::replica {
namespace {

// Of a slice, where none has payload to move: those of the index alone cost that much less.
constexpr std::uint64_t kMembersPerBlock = 4;

}  // namespace

Status Item::drop_points(const std::vector<std::uint64_t>& seqs) {
  const std::lock_guard lock(mutex_);
  FARSIDE_TRY(ready());
  return drop_locked(seqs);
}

Status Item::drop_locked(const std::vector<std::uint64_t>& seqs) {
  store::Batch batch;
  std::vector<std::uint64_t> going;
  for (const std::uint64_t seq : seqs) {
    if (!points_.contains(seq)) continue;
    if (seq == newest_seq() || is_pinned(seq)) {
      return fail(ErrorCode::kConflict,
                  "point " + std::to_string(seq) + " of " + replica_.item + " is " +
                      (seq == newest_seq() ? "the newest" : "in use") + " and cannot be dropped");
    }
    batch.erase(kPoints, number_key(seq, 8));
    batch.put(kDropped, number_key(seq, 8), "");
    going.push_back(seq);
  }
  if (going.empty()) return {};
  FARSIDE_TRY(commit(batch));
  for (const std::uint64_t seq : going) {
    points_.erase(seq);
    dropped_.insert(seq);
  }
  return drop_unused_shapes();  // A walk under way goes on: groups only grow by this.
}

Status Item::retain(const msg::Policy& policy, Time now) {
  const std::vector<msg::RecoveryPoint> kept = points();
  std::set<std::uint64_t> pinned;
  {
    const std::lock_guard lock(mutex_);
    for (const msg::RecoveryPoint& point : kept) {
      if (is_pinned(point.seq)) pinned.insert(point.seq);
    }
  }
  FARSIDE_TRY(drop_points(points_to_drop(kept, pinned, policy, now)));
  const std::lock_guard lock(mutex_);
  measure_journal(policy, now);
  return {};
}

Result<bool> Item::consolidate(std::uint64_t blocks_max) {
  const std::lock_guard lock(mutex_);
  FARSIDE_TRY(ready());
  FARSIDE_TRY(reclaim());  // Room first: what follows needs some.
  std::optional<Error> no_space;
  for (auto dropped = dropped_.begin(); dropped != dropped_.end();) {
    const auto next = points_.upper_bound(*dropped);
    FARSIDE_ASSERT(next != points_.end());  // The newest point is never dropped.
    const std::uint64_t through = next->first;
    const std::uint64_t after = next == points_.begin() ? 0 : std::prev(next)->first;
    const Result<bool> more = consolidate_group(after, through, blocks_max);
    if (!more && more.error().code == ErrorCode::kNoSpace && index_ != nullptr && after == 0) {
      // Thinning needs no room in the base, and gives some back.
      no_space = more.error();
      dropped = dropped_.lower_bound(through);
      continue;
    }
    return more;
  }
  // Nor does a disk that goes.
  FARSIDE_ASSIGN(const bool more, give_back_disks(blocks_max * kMembersPerBlock));
  if (!more && no_space) return fail(*no_space);
  return more;
}

std::uint64_t Item::take_moved_bytes() {
  const std::lock_guard lock(mutex_);
  return std::exchange(moved_bytes_, 0);
}

// Of the points after `after`, up to `through`; of others first, where a walk is under way.
Result<bool> Item::consolidate_group(std::uint64_t after, std::uint64_t through,
                                     std::uint64_t blocks_max) {
  Result<bool> more = false;
  if (after == 0) {
    FARSIDE_ASSIGN(const bool may_fold, limits_.bases->may_change(folder_, !pins_.empty()));
    if (!may_fold) return false;
    more = fold(through, blocks_max);
  } else {
    if (walk_.seq == 0) {
      walk_ = {.after = after, .through = through, .seq = through, .member = {}};
    }
    after = walk_.after;
    through = walk_.through;
    more = thin(blocks_max * kMembersPerBlock);
  }
  if (!more && index_ != nullptr) {  // What was not committed is not marked either.
    FARSIDE_TRY(load_damage());
  }
  if (!more || *more) return more;
  if (walk_.through <= through) walk_ = {};
  FARSIDE_TRY(forget_dropped(after, through));
  FARSIDE_TRY(reclaim());
  return true;
}

// How many blocks may move to the base now: each may take a whole block there.  A volume that is
// full gets its ballast back first.
Result<std::uint64_t> Item::room_to_fold(std::uint64_t blocks_max) {
  const std::uint64_t kept = limits_.reserve_bytes / 8;  // For the index.
  const auto room = [&] {
    const std::uint64_t free = limits_.free_bytes(folder_);
    return std::min(blocks_max, free > kept ? (free - kept) / kBlockBytes : 0);
  };
  if (const std::uint64_t blocks = room(); blocks > 0) return blocks;
  if (give_up_ballast()) {
    if (const std::uint64_t blocks = room(); blocks > 0) return blocks;
  }
  return fail(
      ErrorCode::kNoSpace,
      "the volume of " + folder_ + " is full: points that went cannot give their space back",
      "free " + std::to_string((kept >> 20U) + 1) + " MiB on the volume, or more");
}

// Until one is not wanted, or there are `versions_max`.
Result<std::vector<Version>> Item::versions_in(
    const std::string& prefix, const std::string& from, std::uint64_t versions_max,
    const std::function<bool(const BlockKey&)>& is_wanted) const {
  std::vector<Version> versions;
  Status broken;
  FARSIDE_TRY(
      index_->scan(kBlocks, prefix, from, [&](std::string_view key, std::string_view value) {
        const auto at = block_key_from(key);
        const auto entry = entry_from(value);
        if (!at || !entry) {
          broken = fail(ErrorCode::kCorrupt, "broken entry in the index");
          return false;
        }
        if (!is_wanted(*at)) return false;
        versions.push_back({.key = *at, .entry = *entry});
        return versions.size() < versions_max;
      }));
  FARSIDE_TRY(std::move(broken));
  return versions;
}

// Of one block, `newest` or older, but later than `after`: newest first.
Result<std::vector<Version>> Item::versions_from(const BlockKey& newest,
                                                 std::uint64_t after) const {
  return versions_in(block_prefix(newest.disk, newest.block), to_key(newest),
                     std::numeric_limits<std::uint64_t>::max(),
                     [&](const BlockKey& at) { return at.seq > after; });
}

// A member whose payload finds no room in the base waits, and keeps no other from its turn.
Result<bool> Item::fold(std::uint64_t through, std::uint64_t blocks_max) {
  FARSIDE_TRY(check_here());
  std::vector<BlockKey> members;
  FARSIDE_TRY(index_->scan(kDeltas, {}, {}, [&](std::string_view key, std::string_view) {
    const auto member = member_key_from(key);
    if (!member || member->seq > through || members.size() == blocks_max * kMembersPerBlock) {
      return false;
    }
    members.push_back(*member);
    return true;
  }));
  if (members.empty()) return false;
  store::Batch batch;
  std::vector<BlockEntry> gone;
  std::set<SharedBase> written;
  std::array<char, kBlockBytes> plain;  // NOLINT: filled by the read.
  int unreadable = 0;
  std::uint64_t moved = 0;
  std::optional<Result<std::uint64_t>> room;  // Asked for by the first that needs some.
  for (const BlockKey& member : members) {
    // From what the oldest kept point sees.
    FARSIDE_ASSIGN(const std::vector<Version> versions,
                   versions_from({.disk = member.disk, .block = member.block, .seq = through}, 0));
    // A superseded one is erased together with its successor, below; one of the first delta is in
    // the base already.
    if (versions.empty() || versions.front().key != member ||
        versions.front().entry.codec == Codec::kBase) {
      batch.erase(kDeltas, to_member_key(member));
      continue;
    }
    const Version& newest = versions.front();
    const std::uint64_t offset = std::uint64_t{member.block} * kBlockBytes;
    const std::uint32_t length = length_of(replica_.disks[member.disk].bytes, member.block);
    if (newest.entry.codec != Codec::kZero) {
      if (moved == blocks_max) break;
      if (!room) room = room_to_fold(blocks_max);
      if (moved == room->value_or(0)) continue;
      ++moved;
    }
    FARSIDE_ASSIGN(const auto to, base(member.disk));
    written.insert(to);
    if (newest.entry.codec == Codec::kZero) {
      FARSIDE_TRY(to->punch(offset, length));
      erase_block(batch, member);
    } else if (const Status read = reader_->read_version(newest, plain)) {
      FARSIDE_TRY(to->write_at(offset, {plain.data(), length}));
      batch.put(kBlocks, to_key(member),
                to_value({.codec = Codec::kBase, .hash = newest.entry.hash}));
      moved_bytes_ += newest.entry.stored + length;
    } else if (is_damage(read.error(), newest.entry) &&
               (read.error().code != ErrorCode::kIo || ++unreadable <= kUnreadableMax)) {
      // The base keeps what it has, which is not what the entry says: it stays damaged there.
      mark_damaged(batch, {.key = member, .entry = {.codec = Codec::kBase}}, read.error());
    } else {
      return fail(read.error());
    }
    batch.erase(kDeltas, to_member_key(member));
    gone.push_back(newest.entry);
    for (std::size_t i = 1; i < versions.size(); ++i) {
      erase_block(batch, versions[i].key);
      batch.erase(kDeltas, to_member_key(versions[i].key));
      gone.push_back(versions[i].entry);
    }
  }
  if (batch.empty()) return fail(room->error());
  for (const auto& base : written) FARSIDE_TRY(base->sync());
  // Only now: an error above must leave the accounts as they were.
  for (const BlockEntry& entry : gone) account(entry, -1);
  FARSIDE_TRY(commit(batch));
  return true;
}

// Walks the deltas of the group from the last to the first that was dropped; each member erases the
// older versions of its block within the group.  Those before that delta had their walk already: of
// them one version of each block is left.
Result<bool> Item::thin(std::uint64_t members_max) {
  const auto first = dropped_.upper_bound(walk_.after);
  const std::uint64_t until = first == dropped_.end() ? walk_.through : *first;
  store::Batch batch;
  std::uint64_t seen = 0;
  while (walk_.seq > until && seen < members_max) {
    std::vector<BlockKey> members;
    std::string cursor = walk_.member;
    FARSIDE_TRY(index_->scan(kDeltas, number_key(walk_.seq, 8), walk_.member,
                             [&](std::string_view key, std::string_view) {
                               const auto member = member_key_from(key);
                               if (!member || seen + members.size() == members_max) return false;
                               members.push_back(*member);
                               cursor = std::string(key) + '\0';  // The key right after.
                               return true;
                             }));
    seen += members.size();
    for (const BlockKey& member : members) {
      FARSIDE_ASSIGN(
          const std::vector<Version> older,
          versions_from({.disk = member.disk, .block = member.block, .seq = member.seq - 1},
                        walk_.after));
      for (const Version& version : older) erase_version(batch, version);
    }
    // Erase before going on: a version must be given back to its segment once only.
    if (!batch.empty()) FARSIDE_TRY(commit(batch));
    if (seen < members_max) {  // This delta is done.
      --walk_.seq;
      walk_.member.clear();
    } else {
      walk_.member = cursor;
    }
  }
  return walk_.seq > until;
}

Status Item::forget_dropped(std::uint64_t after, std::uint64_t through) {
  store::Batch batch;
  const auto first = dropped_.upper_bound(after);
  const auto last = dropped_.lower_bound(through);
  for (auto it = first; it != last; ++it) batch.erase(kDropped, number_key(*it, 8));
  if (batch.empty()) return {};
  FARSIDE_TRY(commit(batch));
  dropped_.erase(first, last);
  return {};
}

// The intent is durable before anything is erased, and finished before anything else is done: the
// numbers of the erased deltas will be used again.
Status Item::rewind(std::uint64_t seq) {
  const std::lock_guard lock(mutex_);
  FARSIDE_TRY(ready());
  if (!points_.contains(seq)) {
    return fail(ErrorCode::kNotFound, "no point " + std::to_string(seq) + " of " + replica_.item);
  }
  for (const auto& [view, pin] : pins_) {
    if (pin.seq <= seq) continue;
    return fail(ErrorCode::kConflict, "view " + view + " of " + replica_.item +
                                          " is open at the later point " + std::to_string(pin.seq));
  }
  delta_open_ = false;
  FARSIDE_TRY(discard_locked());
  store::Batch batch;
  for (auto it = points_.upper_bound(seq); it != points_.end(); ++it) {
    batch.erase(kPoints, number_key(it->first, 8));
  }
  for (auto it = dropped_.upper_bound(seq); it != dropped_.end(); ++it) {
    batch.erase(kDropped, number_key(*it, 8));
  }
  if (batch.empty()) return {};
  replica_.rewind_to = seq;
  put_replica(batch);
  FARSIDE_TRY(commit(batch));
  points_.erase(points_.upper_bound(seq), points_.end());
  dropped_.erase(dropped_.upper_bound(seq), dropped_.end());
  walk_ = {};
  if (held_ > seq) held_ = 0;  // Its number will be another point's.
  FARSIDE_TRY(drop_unused_shapes());
  return finish_rewind();
}

Status Item::finish_rewind() {
  constexpr std::size_t kSlice = 4096;
  for (;;) {
    std::vector<BlockKey> members;
    FARSIDE_TRY(index_->scan(kDeltas, {}, number_key(replica_.rewind_to + 1, 8),
                             [&](std::string_view key, std::string_view) {
                               if (const auto member = member_key_from(key)) {
                                 members.push_back(*member);
                               }
                               return members.size() < kSlice;
                             }));
    store::Batch batch;
    for (const BlockKey& member : members) {
      batch.erase(kDeltas, to_member_key(member));
      FARSIDE_ASSIGN(const std::optional<Version> version,
                     reader_->find(member.disk, member.block, member.seq));
      if (version && version->key == member) erase_version(batch, *version);
    }
    if (members.empty()) {
      replica_.rewind_to = 0;
      put_replica(batch);
    }
    FARSIDE_TRY(commit(batch));
    if (members.empty()) break;
  }
  for (std::size_t i = 0; i < staged_.size(); ++i) staged_[i] = BlockSet(staged_[i].size());
  return reclaim();
}

std::uint32_t Item::pinned_segments() const {
  std::uint32_t last = 0;
  for (const auto& [view, pin] : pins_) last = std::max(last, pin.last_segment);
  return last;
}

// Thinning kills records here and there, so that few segments ever die as a whole: the pages that
// lie in a dead payload go back at once.  Only space is at stake: what a crash leaves undone, or a
// view forbids, comes back with the segment.
void Item::punch_dead() {
  constexpr std::uint64_t kPage = 4096;
  const std::uint32_t kept_through = pinned_segments();
  std::map<std::uint32_t, File> files;
  for (const BlockEntry& entry : std::exchange(dead_, {})) {
    const auto segment = segments_.find(entry.segment);
    if (segment == segments_.end() || segment->second.live_records == 0 ||
        entry.segment <= kept_through) {
      continue;
    }
    const std::uint64_t first = (entry.offset + kPage - 1) / kPage * kPage;
    const std::uint64_t end = (entry.offset + entry.stored) / kPage * kPage;
    if (first >= end) continue;
    if (files.size() == kOpenSegmentsMax && !files.contains(entry.segment)) files.clear();
    File& file = files[entry.segment];
    if (!file.is_open()) {
      auto opened = File::open_to_write(segment_path(folder_, entry.segment));
      if (!opened) return;
      file = std::move(*opened);
    }
    const Status punched = file.punch(first, end - first);
    if (!punched) {
      log::warn("segment_not_punched", {{"path", file.path()}, {"error", punched.error()}});
      return;
    }
  }
}

// The record goes first: a file without one is removed at the next start.
Status Item::reclaim() {
  const std::uint32_t kept_through = pinned_segments();
  store::Batch batch;
  std::vector<std::uint32_t> going;
  for (const auto& [number, segment] : segments_) {
    const bool is_current = writer_.is_open() && writer_.number() == number;
    if (segment.live_records > 0 || is_current || number <= kept_through) continue;
    batch.erase(kSegments, number_key(number, 4));
    going.push_back(number);
  }
  if (going.empty()) return {};
  for (const std::uint32_t number : going) changed_segments_.erase(number);
  FARSIDE_TRY(commit(batch));
  std::error_code error;
  for (const std::uint32_t number : going) {
    reader_->forget(number);
    segments_.erase(number);
    std::filesystem::remove(segment_path(folder_, number), error);
  }
  return {};
}

}  // namespace farside::replica
