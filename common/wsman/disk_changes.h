// Which parts of a virtual disk changed since a point whose change tracking id is known.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "common/wsman/job.h"

namespace farside::wsman {

struct ChangedRange {
  std::uint64_t offset = 0;  // In the virtual disk, not in its file.
  std::uint64_t bytes = 0;

  bool operator==(const ChangedRange&) const = default;
};

struct ChangesQuestion {
  std::string path;   // Of the disk's file, as the host names it.
  std::string since;  // A resilient change tracking id.
  std::uint64_t disk_bytes = 0;
};

// In ascending order, adjacent ones joined.  Asks for the whole disk at first, and for half as much
// each time that the answer does not fit into an envelope.
// Errors: kTrackingLost (compare hashes instead), kTooLarge (not even a small window fits),
// kCorrupt (ranges out of order or beyond the disk, no progress), those of call().
Result<std::vector<ChangedRange>> changed_ranges(Client& client, const ChangesQuestion& question,
                                                 const JobWait& wait);

}  // namespace farside::wsman
