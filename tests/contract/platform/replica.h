// What a reader of points makes of them: a copy of the disks, brought up to date point by point.
#pragma once

#include <memory>
#include <vector>

#include "services/agent/platforms/platform.h"
#include "tests/support/guest/checker.h"

namespace farside::agent {

class Replica {
 public:
  // Applies what changes() reports of every disk; returns how many bytes those were.
  Result<std::uint64_t> apply_changes(Point& point);

  // Starts over from allocated().
  Result<std::uint64_t> copy_all(Point& point);

  Result<guest::Verdict> check(const guest::CheckOptions& options) const;

  const std::vector<std::vector<char>>& disks() const { return disks_; }

  bool operator==(const Replica&) const = default;

 private:
  using Bytes = std::vector<char>;
  Result<std::uint64_t> apply(FrozenDisk& from, const std::vector<Extent>& extents, Bytes& to);

  std::vector<Bytes> disks_;
};

// Whether the extents are in order, apart, within the disk and of whole sectors.
bool is_well_formed(const std::vector<Extent>& extents, std::uint64_t disk_bytes);

}  // namespace farside::agent
