// Guests that are starting, of which no point is begun yet.
//
// When a guest opens its agent's channel while a backup job of its VM is under way, libvirt's only
// thread for QEMU's events waits for that job, 30 s long, and it is this thread that ends backup
// jobs, of all VMs of the host.  After a host was started, with its guests, that would add up.
// Source: libvirt 9.0, seen in its log: after "processSerialChangedEvent ... channel0" comes
// "Cannot start job (modify migration safe, none, none) in API qemu-event", 30 s later, and nothing
// of that thread in between; qemuBackupBegin() (qemu_backup.c) does not admit that kind of job.
//
// Owns: when each VM was first seen to run, in memory.  Thread: any.
#pragma once

#include <chrono>
#include <map>
#include <mutex>
#include <string>

namespace farside::agent::libvirt {

class StartingGuests {
 public:
  using Instant = std::chrono::steady_clock::time_point;

  // A guest starts for `start_max` at most.  Those that run when they are first looked at have done
  // so for long, unless the host itself was started a moment ago.
  StartingGuests(std::chrono::seconds start_max, std::chrono::seconds host_uptime)
      : start_max_(start_max), are_first_ones_new_(host_uptime < std::chrono::minutes{10}) {}

  // What runs now: for each VM the number of its run.  Called often; the first call tells of what
  // ran before.
  void see(const std::map<std::string, int>& running, Instant now);

  // Whether that run began less than `start_max` ago.
  bool is_starting(const std::string& vm_id, int run, Instant now);

 private:
  struct Run {
    int number = 0;
    Instant since{};
  };
  const std::chrono::seconds start_max_;
  const bool are_first_ones_new_;
  std::mutex mutex_;
  bool has_seen_ = false;
  std::map<std::string, Run> runs_;
};

}  // namespace farside::agent::libvirt
