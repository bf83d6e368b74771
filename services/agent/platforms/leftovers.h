// VMs on which something of ours is still open that should not be: tried again until it has been
// ended, and told until then.
//
// Thread: any.  Invariant: work on one VM is done by one caller at a time, and a VM that is in here
// has no open point that anybody reads.
#pragma once

#include <chrono>
#include <functional>
#include <map>
#include <mutex>
#include <optional>
#include <set>
#include <string>
#include <vector>

#include "common/base/result.h"
#include "common/schema/types.plain.h"

namespace farside::agent {

class Leftovers {
 public:
  using CleanUp = std::function<Status(const std::string& vm_id)>;

  void add(const std::string& vm_id, const Error& why);

  // Only if `is_so`, which is asked while nobody can begin anything on the VM.
  void add_if(const std::string& vm_id, const Error& why, const std::function<bool()>& is_so);

  // Why it could not be ended so far.
  std::optional<Error> of(const std::string& vm_id) const;

  // VMs of which something is left for longer than `time`, and why; those that somebody else is at
  // work on are theirs to end.
  std::map<std::string, Error> stuck(std::chrono::seconds time) const;

  // The same of those that are an operator's matter by now.
  std::vector<msg::VmTrouble> troubles() const;

  // The VM itself is to be gone: whoever cleans up after it removes it, if it is ours to remove.
  void mark_going(const std::string& vm_id);
  bool is_going(const std::string& vm_id) const;

  // Ends what is left of this VM, so that something new can be begun.  Nothing left: success.
  // Errors: those of `clean_up`; kBusy if another thread is at it for
  // long.
  Status settle(const std::string& vm_id, const CleanUp& clean_up);

  // Tries each VM that is due; those that fail wait longer each time, up to half a minute.
  void sweep(const CleanUp& clean_up);

 private:
  struct Leftover {
    Error why;
    bool is_under_way = false;
    std::chrono::milliseconds pause{};
    std::chrono::steady_clock::time_point again{};
    std::chrono::steady_clock::time_point since = std::chrono::steady_clock::now();
  };
  Status run(const std::string& vm_id, const CleanUp& clean_up);

  mutable std::mutex mutex_;
  std::map<std::string, Leftover> all_;
  std::set<std::string> going_;
};

}  // namespace farside::agent
