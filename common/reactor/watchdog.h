// Sees to it that every long-lived loop of the process goes on.  One that stands still cannot tell
// so itself, nor be ended: the stacks of all threads are written and the process ends, because
// restarting is the path of recovery that is tested.
//
// A loop holds a Beat and beats in every turn; it must turn at bounded intervals also when there is
// nothing to do.  Only the time that the watchdog itself was awake counts, so that neither a
// suspended host nor a stopped process looks like a loop that hangs.
// SIGQUIT makes it write the stacks at any time; the process goes on.
// Thread: a Beat belongs to its loop's, the Watchdog to whoever made it; it has one of its own.
#pragma once

#include <atomic>
#include <chrono>
#include <condition_variable>
#include <cstdint>
#include <functional>
#include <map>
#include <mutex>
#include <string>
#include <thread>

#include "common/base/clock.h"

namespace farside::reactor {

inline constexpr int kStalledExitStatus = 70;  // EX_SOFTWARE.

// One loop; every watchdog of the process sees all of them.
class Beat final {
 public:
  explicit Beat(std::string what);  // "the data port", as the log names it.
  ~Beat();
  Beat(const Beat&) = delete;
  Beat& operator=(const Beat&) = delete;

  void beat() { count_.fetch_add(1, std::memory_order_relaxed); }

 private:
  friend class Watchdog;
  const std::string what_;
  std::atomic<std::uint64_t> count_{0};
};

class Watchdog final {
 public:
  struct Options {
    Micros stands_max = std::chrono::seconds{60};
    Micros look_every = std::chrono::milliseconds{500};
    // Gets the names of the loops that stand.  By default: stacks, then the end of the process.
    std::function<void(const std::string& loops)> on_stall = {};
  };
  Watchdog(Options options, const Clock& clock);
  ~Watchdog();
  Watchdog(const Watchdog&) = delete;
  Watchdog& operator=(const Watchdog&) = delete;

 private:
  struct Seen {
    std::uint64_t count = 0;
    Micros stood{0};
  };
  void run();
  std::string look(Micros awake);

  const Options options_;
  const Clock& clock_;
  std::map<const Beat*, Seen> seen_;  // The watchdog's thread only.
  std::mutex mutex_;
  std::condition_variable wake_;
  bool stopping_ = false;
  std::thread thread_;  // Last: it uses everything above.
};

// Writes `why` and the stacks of all threads, and ends the process as failed.
[[noreturn]] void end_with_stacks(const std::string& why);

}  // namespace farside::reactor
