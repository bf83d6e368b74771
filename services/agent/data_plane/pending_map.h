// What a source still has to bring over to complete the delta it is working on, so that an attempt
// that broke never makes the next one start from zero.
//
// A delta builds on the point `base`.  Attempt k takes point a_k and needs blocks N_k; when it
// breaks, S_k of them are staged at the target.  The next attempt takes a point since a_k; with D,
// what changed since a_k, it
//
//   needs   N_{k+1} = N_k + D        stale_{k+1} = stale_k + D     (staged, but of older content)
//   has the target unstage stale_{k+1}, which leaves S = S_k - stale_{k+1}; then stale = {}
//   sends   N_{k+1} - S
//
// Blocks of D are also unstaged if only the answer to an earlier unstaging was lost: that costs
// sending them again, never a wrong block.
//
// Owns: one file.  Thread: one at a time per item.
// Invariant: the file is replaced, synced, before an attempt talks to the target, and says that
// nothing is missing only after the delta is durable there.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "common/base/result.h"
#include "services/agent/replica_store/block_set.h"

namespace farside::data {

using replica::BlockSet;

struct PendingDisk {
  std::string name;
  std::string id{};  // See msg::Disk::id.
  std::uint64_t bytes = 0;
  BlockSet needed{};
  BlockSet stale{};
  bool operator==(const PendingDisk&) const = default;
};

struct Pending {
  std::string cycle;    // Empty: no delta is pending.
  std::string attempt;  // Token of the last attempt's point: the next one is taken since it.
  std::string base;     // Token of the point that the target must have as its newest.
  std::uint64_t epoch = 0;
  std::vector<PendingDisk> disks;  // Empty: the delta is durable, nothing is missing.
  bool operator==(const Pending&) const = default;

  bool is_unfinished() const { return !cycle.empty() && !disks.empty(); }
};

// The delta of this attempt is durable; the next one builds on it.
Pending finished(std::string cycle, std::string attempt, std::uint64_t epoch);

// A fresh delta: it needs what changed since its base.
Pending first_attempt(std::string cycle, std::string attempt, std::string base, std::uint64_t epoch,
                      std::vector<PendingDisk> changed);

// The same delta once more, `changed` since the last attempt's point.  A disk may have grown or
// been added since.
Pending next_attempt(Pending before, std::string attempt, const std::vector<PendingDisk>& changed);

// What has to be sent, given what the target has staged after unstaging.
BlockSet still_to_send(const PendingDisk& disk, const BlockSet& staged);

class PendingMap final {
 public:
  explicit PendingMap(std::string path) : path_(std::move(path)) {}

  // Nothing is pending if there is no file, or one that fails its checksum (a resumed delta is a
  // comfort, not a promise): then `cycle` is empty.  Errors: kIo.
  Result<Pending> load() const;

  // Errors: kNoSpace, kIo.
  Status save(const Pending& pending) const;

  // The delta is durable, or given up.  Repeating it is fine.
  Status clear() const;

 private:
  std::string path_;
};

}  // namespace farside::data
