// Decides from the disks alone whether they hold a prefix of what the witness guest wrote.
//
// Let N be the newest record found.  The disks are good if every slot of every disk holds exactly
// the newest record not after N that belongs there (or zeros where there is none), each record
// carries the digest of its predecessor, and the fill is complete.  One slot may be torn: that of
// record N + 1, and only between its own sectors and those it was overwriting.
#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "common/base/result.h"
#include "tests/support/guest/image.h"

namespace farside::guest {

struct CheckOptions {
  // This record and all before it must be there.
  std::optional<std::uint64_t> acknowledged = std::nullopt;
  bool fill = true;          // Compare the fill behind the records, too.
  bool blank_is_ok = false;  // The witness may not have prepared the disks yet.
};

struct Verdict {
  bool ok = false;
  bool blank = false;        // No witness has written here.
  std::uint64_t run = 0;     // Which history.
  std::uint64_t oldest = 0;  // Oldest record that must still be there; 0 = none was written.
  std::uint64_t newest = 0;
  bool partial = false;                 // Record newest + 1 was being written.
  std::vector<std::uint64_t> missing;   // Records that should be there; in order.
  std::vector<std::uint64_t> torn;      // Slots that hold no valid record, by the record expected.
  std::vector<std::uint64_t> per_disk;  // The newest record on each disk.
  std::vector<std::string> problems;    // Everything that made it not ok, in words.
};

// The lists in a verdict stop growing at this many entries.
inline constexpr std::size_t kListMax = 100;

// `disks` in the order in which the guest sees them.  Errors: only what read() returns; anything
// wrong with the contents is in the verdict.
Result<Verdict> check(std::span<const std::unique_ptr<Image>> disks, const CheckOptions& options);

std::string to_json(const Verdict& verdict);

}  // namespace farside::guest
