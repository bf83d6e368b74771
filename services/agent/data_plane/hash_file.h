// The hashes of all blocks of an item's disks at its source, as of the last point that was shipped:
// what is hashed for shipping is noted here, so that the digest of a point costs what its delta
// costs, and not a look at all disks.
//
//   head    64 KiB   | XXH3 of the rest 8 | length 8 | StoredHashes |
//   hashes  8 each   of disk after disk, each XOR the hash of zeros: a hole stands for zeros
//
// A block whose hash is not known has hash 0, which no block has.  A delta first makes the head say
// so ("cycle"), then marks its blocks as unknown, then sets what it reads; each step is synced
// before the next, and before the delta itself is noted as begun.  So after a crash, and if power
// fails, each hash is right or unknown.  With the delta's end the head names its point and the sums
// of all disks; where it does not, they are added up anew when the file is opened.
//
// Owns: the file.  Thread: one.  Memory: a few hundred KiB.
#pragma once

#include <cstdint>
#include <functional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "common/base/file.h"
#include "common/base/result.h"
#include "common/schema/data.plain.h"
#include "services/agent/replica_store/block_set.h"
#include "services/agent/replica_store/digest.h"

namespace farside::data {

class HashFile final {
 public:
  // Instead of a delta: what was unknown of a point is being read.  Each hash set is one more.
  static constexpr std::string_view kFilling = "fill";

  // Errors: kNotFound, kCorrupt (the head is damaged), kIo, ...
  static Result<HashFile> open(const std::string& path);

  // In place of what was there: zeros everywhere, in `cycle`.  `disks` name, id and size alone.
  static Result<HashFile> create(const std::string& path, std::string cycle,
                                 std::vector<msg::HashedDisk> disks);

  const std::string& point() const { return head_.point; }  // Without the delta under way.
  const std::string& cycle() const { return head_.cycle; }  // Empty: none is.
  bool is_of(std::string_view point) const {                // And of nothing later.
    return head_.point == point && (head_.cycle.empty() || head_.cycle == kFilling);
  }
  // Under which the hashes are made; empty: under none, or none is set.
  const std::string& key() const { return head_.key; }
  bool fits(const std::vector<msg::HashedDisk>& disks) const;
  std::uint64_t unknown() const;
  std::vector<replica::SummedDisk> sums() const;

  // Before any hash is set: durable when it returns.
  Status use_key(std::string key);
  // The delta `cycle` is under way since `point`: durable when it returns.
  Status begin(std::string cycle, std::string point);
  Status mark_unknown(std::size_t disk, const replica::BlockSet& blocks);
  Status set_zero(std::size_t disk, const replica::BlockSet& blocks);
  Status set(std::size_t disk, std::uint64_t first, std::span<const std::uint64_t> hashes);
  Status sync() const { return file_.sync(); }

  // All that was set is of `point`.
  Status finish(std::string point);

  // Both read all that is kept of it.
  Result<replica::BlockSet> unknown_in(std::size_t disk) const;
  Result<bool> is_sound() const;  // The hashes add up to the sums in the head.

 private:
  using Visit = std::function<void(std::uint64_t first, std::span<const std::uint64_t> hashes)>;
  Status for_each(std::size_t disk, const Visit& visit) const;
  Result<msg::HashedDisk> added_up(std::size_t disk) const;
  Status set_all(std::size_t disk, const replica::BlockSet& blocks, std::uint64_t hash);
  Status save_head();
  std::uint64_t place_of(std::size_t disk, std::uint64_t block) const;

  File file_;
  msg::StoredHashes head_;
};

}  // namespace farside::data
