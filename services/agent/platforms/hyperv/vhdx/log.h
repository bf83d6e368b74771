// The log of a VHDX file: changes of its metadata that may not have reached their places.  A ring
// of entries, each a whole number of 4 KiB sectors; the newest complete row of entries is replayed.
//
//   | loge: header 64, descriptors 32 each | (more descriptors) | data sector | data sector ...
//
// Source: [MS-VHDX] 2.3.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "common/base/result.h"
#include "services/agent/platforms/hyperv/vhdx/guid.h"

namespace farside::agent::vhdx {

// Writes `bytes`, one log sector of them, or `zero_bytes` zeros.  Aligned to log sectors.
struct LogUpdate {
  std::uint64_t at = 0;
  std::uint64_t zero_bytes = 0;
  std::string bytes = {};

  std::uint64_t length() const { return bytes.empty() ? zero_bytes : bytes.size(); }
};

struct ActiveLog {
  std::vector<LogUpdate> updates;        // In the order in which they are to be made.
  std::uint64_t flushed_file_bytes = 0;  // A file that is shorter has been cut.
  std::uint64_t last_file_bytes = 0;     // Afterwards the file is at least this long.
};

// `log` is the whole ring, of a multiple of 1 MiB.
// Errors: kCorrupt (no entry of `guid` is whole).
Result<ActiveLog> read_log(std::string_view log, const Guid& guid);

struct LogEntry {
  std::uint64_t sequence = 1;
  std::uint32_t tail = 0;  // Where in the ring the oldest entry is that may be needed.
  Guid guid;
  std::uint64_t flushed_file_bytes = 0;
  std::uint64_t last_file_bytes = 0;
  std::vector<LogUpdate> updates = {};
};

std::string write_log_entry(const LogEntry& entry);

}  // namespace farside::agent::vhdx
