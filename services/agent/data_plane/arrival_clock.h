// When deltas arrive, by this host's clock, as long as that can be.
//
// Retention counts by it, so that it does not follow a clock that jumps while the agent runs:
// points that came after a jump ahead would make all older ones go, and those that came after a
// jump back would be old as soon as it is set right.  Until the clock is right again, the source's
// clock says the same, or the agent starts anew, time goes on as it passes.  Thread: any.
#pragma once

#include <algorithm>
#include <chrono>
#include <cstdint>
#include <mutex>

#include "common/base/clock.h"

namespace farside::data {

class ArrivalClock final {
 public:
  // `clock` outlives it.
  explicit ArrivalClock(const Clock& clock)
      : clock_(clock), last_(clock.now()), last_monotonic_(clock.monotonic()) {}

  // `captured`: by the source's clock, a moment ago.
  Time now(Time captured) {
    const std::lock_guard lock(mutex_);
    const Time told = clock_.now();
    const Micros monotonic = clock_.monotonic();
    const Time passed = last_ + (monotonic - last_monotonic_);
    const bool has_jumped = !are_near(told, passed) && !are_near(told, captured);
    last_ = has_jumped ? passed : told;
    last_monotonic_ = monotonic;
    return last_;
  }

  Micros passed() const { return clock_.monotonic(); }  // Whatever the clock says.

 private:
  static constexpr Micros kJumpMax = std::chrono::minutes{5};

  // A source may say any 64 bits: their distance needs them all.
  static bool are_near(Time a, Time b) {
    const auto [from, to] = std::minmax(a.micros, b.micros);
    return static_cast<std::uint64_t>(to) - static_cast<std::uint64_t>(from) <=
           static_cast<std::uint64_t>(kJumpMax.count());
  }

  const Clock& clock_;
  std::mutex mutex_;
  Time last_;
  Micros last_monotonic_;
};

}  // namespace farside::data
