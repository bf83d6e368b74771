// Runs one core: take what arrived -> core -> commit one batch -> only then speak.
//
// Owns: the timers; everything else is lent and must outlive it.  Thread: the one that calls
// start() and turn(); stop() may be called from any.
// Invariant: nothing leaves the process (message, job, answer) before the batch it belongs to is
// durable; a failed commit ends the turn with the error and the process with it.
#pragma once

#include <atomic>
#include <functional>
#include <map>
#include <string>

#include "common/base/clock.h"
#include "common/base/random.h"
#include "common/reactor/bus.h"
#include "common/reactor/effects.h"
#include "common/reactor/workers.h"
#include "common/store/store.h"

namespace farside::reactor {

struct ReactorLimits {
  int turn_messages_max = 256;
  int wait_ms_max = 500;                    // An idle reactor still turns this often (health).
  std::size_t frame_bytes_max = 8U << 20U;  // Larger frames are refused and counted.
};

struct ReactorStats {
  std::atomic<std::uint64_t> turns{0};
  std::atomic<std::uint64_t> messages{0};
  std::atomic<std::uint64_t> refused_frames{0};
  std::atomic<std::uint64_t> commits{0};
  std::atomic<std::int64_t> last_turn_micros{0};  // Monotonic; /healthz compares it with now.
};

class Reactor final {
 public:
  using OnAnswer = std::function<void(const std::string& id, msg::Message body)>;

  struct Parts {
    std::string self;  // Our principal, as peers know it.
    Core& core;
    store::Store& store;
    Bus& bus;
    Workers& workers;
    const Clock& clock;
    Random& random;
    OnAnswer on_answer = [](const std::string&, msg::Message) {};
    ReactorLimits limits = {};
  };
  explicit Reactor(Parts parts) : parts_(std::move(parts)) {}

  // Once; then turns, each waiting at most `wait_ms` for something to do.
  // Errors: whatever the store's commit returned; the caller must end the process.
  Status start();
  Status turn(int wait_ms);

  void stop() {
    stopping_ = true;
    parts_.bus.wake();
  }

  bool is_stopping() const { return stopping_; }

  const ReactorStats& stats() const { return stats_; }
  // Monotonic time of the next timer, or nullopt.
  std::optional<Micros> next_timer() const;

 private:
  Status finish(Effects& effects);
  void carry_out(Effect& effect);
  void fire_timers(Effects& effects);

  Parts parts_;
  ReactorStats stats_;
  std::atomic<bool> stopping_{false};
  std::map<std::string, Micros> timers_;
};

}  // namespace farside::reactor
