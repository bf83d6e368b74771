// What should go wrong next.  Set by the control socket, read by everything else.
//
// Thread: any; whoever uses it holds `mutex`.
#pragma once

#include <cstdint>
#include <map>
#include <mutex>
#include <set>
#include <string>
#include <vector>

namespace farside::hvsim {

struct DiskChanges {
  std::uint64_t disk_bytes = 0;
  std::vector<std::pair<std::uint64_t, std::uint64_t>> ranges;  // Offset, length.
};

struct Faults {
  std::mutex mutex;
  int unauthorized = 0;          // So many requests are answered by 401, and the login forgotten.
  int resets = 0;                // So many connections are reset in place of an answer.
  int delays = 0;                // So many answers come late,
  std::int64_t delay_ms = 0;     // by this much.
  std::int64_t job_ms = 50;      // How long jobs take, before the time scale.
  bool settings_by_job = false;  // Settings are changed by jobs, even if nothing is in the way.
  int failing_jobs = 0;          // So many jobs end in an exception
  std::uint64_t failing_code = 32768;
  std::string failing_text = "The operation failed.";
  std::set<std::string> tracking_lost;              // Paths of disks.
  std::map<std::string, DiskChanges> disk_changes;  // By path; what GetVirtualDiskChanges says.
};

}  // namespace farside::hvsim
