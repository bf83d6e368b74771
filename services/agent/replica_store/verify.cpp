// Whether a point has the bytes that its source had: all of them are read, unpacked and hashed.
//
// It goes in slices: which versions the point sees is looked up under the mutex, their bytes are
// read outside it, so that deltas go on.  A version may move to the base or lose its segment in
// between; what cannot be read is looked up again, under the mutex, before it counts as damaged.
// The point itself is held: nothing that it sees is erased, folded over or punched.
#include <algorithm>
#include <array>

#include "services/agent/replica_store/item.h"

namespace farside::replica {
namespace {

constexpr std::size_t kSlice = 1024;  // Blocks.
constexpr std::chrono::hours kVerifyMax{24 * 7};
// From the end of a verification to the last point: a shutdown and a small delta.
constexpr std::chrono::hours kHeldAfter{1};

}  // namespace

struct Item::Pass {
  std::uint64_t seq = 0;
  const Watch& watch;
  std::map<std::uint16_t, Sum> sums{};  // By number of the disk.
  std::uint64_t done = 0;               // Bytes.
  std::uint64_t total = 0;
  int damaged = 0;
  std::optional<Error> first{};  // What was found damaged.
  int unreadable = 0;
  std::array<char, kBlockBytes> plain;  // NOLINT(*-member-init): filled by each read.
};

Result<std::string> Item::digest_at(std::uint64_t seq) {
  FARSIDE_ASSIGN(const auto shape, disks_at(seq));
  std::vector<SummedDisk> disks;
  for (const DiskAt& each : shape) {
    const std::lock_guard lock(mutex_);
    FARSIDE_TRY(ready());
    FARSIDE_TRY(check_point(seq));
    Sum sum;
    FARSIDE_TRY(
        reader_->for_each(each.number, seq, 0, blocks_of(each.disk.bytes), [&](const Version& at) {
          sum += term_of(at.key.block, at.entry.hash);
          return true;
        }));
    disks.push_back({.name = each.disk.name, .bytes = each.disk.bytes, .sum = sum});
  }
  return digest_of(std::move(disks));
}

bool Item::is_held(std::uint64_t seq) const {
  return seq == held_ && std::chrono::steady_clock::now() < held_until_;
}

void Item::hold(std::uint64_t seq, std::chrono::steady_clock::duration time) {
  const std::lock_guard lock(mutex_);
  held_ = seq;
  held_until_ = std::chrono::steady_clock::now() + time;
}

// After a restart a failover may be under way, as far as anybody here knows.
void Item::hold_verified() {
  const auto point = points_.find(verified_.seq);
  if (held_ != 0 || point == points_.end() || point->second.attempt != verified_.attempt) return;
  held_ = verified_.seq;
  held_until_ = std::chrono::steady_clock::now() + kHeldAfter;
}

Result<std::string> Item::verify(std::uint64_t seq, const Watch& watch) {
  hold(seq, kVerifyMax);
  auto result = [&]() -> Result<std::string> {
    FARSIDE_ASSIGN(const auto shape, disks_at(seq));
    Pass pass{.seq = seq, .watch = watch, .plain = {}};
    for (const DiskAt& each : shape) {
      pass.total += each.disk.bytes;
      pass.sums[each.number] = {};
    }
    std::vector<SummedDisk> disks;
    for (const DiskAt& each : shape) {
      FARSIDE_TRY(verify_disk(each, pass));
      disks.push_back(
          {.name = each.disk.name, .bytes = each.disk.bytes, .sum = pass.sums[each.number]});
    }
    if (pass.first) {
      auto error = *pass.first;
      if (pass.damaged > 1) {
        error.what += ", and so do " + std::to_string(pass.damaged - 1) + " others";
      }
      return fail(std::move(error));
    }
    FARSIDE_TRY(keep_verified(seq, pass.sums));
    return digest_of(std::move(disks));
  }();
  hold(result ? seq : 0, kHeldAfter);
  return result;
}

Status Item::verify_disk(const DiskAt& at, Pass& pass) {
  const std::uint64_t blocks = blocks_of(at.disk.bytes);
  const std::uint64_t before = pass.done;
  for (std::uint64_t next = 0; next < blocks;) {
    std::vector<Version> versions;
    {
      const std::lock_guard lock(mutex_);
      FARSIDE_TRY(ready());
      FARSIDE_TRY(check_point(pass.seq));
      std::uint64_t end = blocks;
      FARSIDE_TRY(reader_->for_each(at.number, pass.seq, static_cast<std::uint32_t>(next), blocks,
                                    [&](const Version& version) {
                                      versions.push_back(version);
                                      if (versions.size() < kSlice) return true;
                                      end = std::uint64_t{version.key.block} + 1;
                                      return false;
                                    }));
      next = end;
    }
    for (const Version& version : versions) FARSIDE_TRY(verify_block(version, pass));
    pass.done = before + std::min(next * kBlockBytes, at.disk.bytes);
    FARSIDE_TRY(pass.watch(pass.done, pass.total));
  }
  return {};
}

// Adds the block to its disk's sum.  Damage is counted, and found to its end: one comparison then
// mends all of it.
Status Item::verify_block(const Version& version, Pass& pass) {
  if (version.entry.codec == Codec::kZero) return {};
  std::uint64_t hash = version.entry.hash;
  const auto reader = [&] {
    const std::lock_guard lock(mutex_);
    return reader_;
  }();
  if (reader == nullptr || !reader->read_version(version, pass.plain)) {
    FARSIDE_ASSIGN(const std::optional<std::uint64_t> again, read_again(version, pass));
    if (!again) return {};
    hash = *again;
  }
  pass.sums[version.key.disk] += term_of(version.key.block, hash);
  return {};
}

// The hash of the block, as the point sees it now; none if it is damaged.
Result<std::optional<std::uint64_t>> Item::read_again(const Version& version, Pass& pass) {
  const std::lock_guard lock(mutex_);
  FARSIDE_TRY(ready());
  FARSIDE_TRY(check_point(pass.seq));
  FARSIDE_ASSIGN(const std::optional<Version> found,
                 reader_->find(version.key.disk, version.key.block, pass.seq));
  if (!found) return zero_hash();
  const Status read = reader_->read_version(*found, pass.plain);
  if (read) return found->entry.hash;
  // A volume that cannot be read at all is no damage of so many blocks.
  const bool is_volume = read.error().code == ErrorCode::kIo && ++pass.unreadable > kUnreadableMax;
  if (is_volume || !is_damage(read.error(), found->entry)) return fail(read.error());
  if (!pass.first) pass.first = read.error();
  ++pass.damaged;
  if (!damaged_.contains(to_key(found->key))) {
    store::Batch marks;
    mark_damaged(marks, *found, read.error());
    FARSIDE_TRY(commit(marks));
  }
  return std::nullopt;
}

Status Item::keep_verified(std::uint64_t seq, const std::map<std::uint16_t, Sum>& sums) {
  const std::lock_guard lock(mutex_);
  FARSIDE_TRY(ready());
  FARSIDE_TRY(check_point(seq));
  msg::StoredVerified verified{.seq = seq, .attempt = points_.at(seq).attempt, .sums = {}};
  for (const auto& [disk, sum] : sums) {
    verified.sums.push_back({.disk = disk, .high = sum.high, .low = sum.low});
  }
  store::Batch batch;
  batch.put(kReplica, kVerified, encode(verified));
  FARSIDE_TRY(commit(batch));
  verified_ = std::move(verified);
  return {};
}

Result<std::map<std::uint16_t, Sum>> Item::verified_sums(std::uint64_t verified) {
  const std::lock_guard lock(mutex_);
  FARSIDE_TRY(ready());
  const auto point = points_.find(verified);
  if (point == points_.end() || verified_.seq != verified ||
      verified_.attempt != point->second.attempt) {
    return fail(ErrorCode::kConflict,
                "recovery point " + std::to_string(verified) + " of " + replica_.item +
                    " is not one that was verified, or went meanwhile",
                "begin the failover anew: it is verified again first");
  }
  std::map<std::uint16_t, Sum> sums;
  for (const msg::DiskSum& each : verified_.sums) {
    sums[each.disk] = {.high = each.high, .low = each.low};
  }
  return sums;
}

Result<std::string> Item::verify_since(std::uint64_t verified, std::uint64_t seq,
                                       const Watch& watch) {
  FARSIDE_ASSIGN(const auto shape, disks_at(seq));
  Pass pass{.seq = seq, .watch = watch, .plain = {}};
  // Asked again, after its answer was lost, it is known already.
  const auto known = verified_sums(seq);
  FARSIDE_ASSIGN(pass.sums, known ? known : verified_sums(verified));
  for (const DiskAt& each : shape) {
    if (pass.sums.contains(each.number)) continue;
    return fail(ErrorCode::kConflict,
                "disk " + each.disk.name + " came after recovery point " + std::to_string(verified),
                "begin the failover anew: it is verified again first");
  }
  std::string cursor = number_key(verified + 1, 8);
  for (bool more = !known; more;) {
    FARSIDE_ASSIGN(more, verify_changes(verified, cursor, pass));
    FARSIDE_TRY(watch(pass.done, 0));
  }
  if (pass.first) return fail(*pass.first);
  std::map<std::uint16_t, Sum> sums;
  std::vector<SummedDisk> disks;
  for (const DiskAt& each : shape) {
    sums[each.number] = pass.sums[each.number];
    disks.push_back({.name = each.disk.name, .bytes = each.disk.bytes, .sum = sums[each.number]});
  }
  FARSIDE_TRY(keep_verified(seq, sums));
  hold(seq, kHeldAfter);
  return digest_of(std::move(disks));
}

// A slice of what deltas after the verified point hold: of each block the version that the point
// sees comes into its disk's sum, and the one that the verified point sees leaves it.
Result<bool> Item::verify_changes(std::uint64_t verified, std::string& cursor, Pass& pass) {
  std::vector<Version> versions;
  std::size_t seen = 0;
  {
    const std::lock_guard lock(mutex_);
    FARSIDE_TRY(ready());
    FARSIDE_TRY(check_point(pass.seq));
    FARSIDE_TRY(check_point(verified));
    std::vector<BlockKey> members;
    FARSIDE_TRY(index_->scan(kDeltas, {}, cursor, [&](std::string_view key, std::string_view) {
      const auto member = member_key_from(key);
      if (!member || member->seq > pass.seq) return false;
      members.push_back(*member);
      cursor = std::string(key) + '\0';  // The key right after.
      return members.size() < kSlice;
    }));
    seen = members.size();
    for (const BlockKey& member : members) {
      if (!pass.sums.contains(member.disk)) continue;  // It went since.
      FARSIDE_ASSIGN(const auto now, reader_->find(member.disk, member.block, pass.seq));
      if (!now || now->key != member) continue;  // A later delta has it too.
      FARSIDE_ASSIGN(const auto old, reader_->find(member.disk, member.block, verified));
      if (old) pass.sums[member.disk] -= term_of(member.block, old->entry.hash);
      versions.push_back(*now);
    }
  }
  for (const Version& version : versions) {
    FARSIDE_TRY(verify_block(version, pass));
    pass.done += kBlockBytes;
  }
  return seen == kSlice;
}

}  // namespace farside::replica
