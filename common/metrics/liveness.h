// Whether a loop still turns: it says so each turn, and whoever asks learns for how long it has
// not.  A process whose reactor hangs must fail its health check, although its HTTP thread is fine.
//
// Thread: turned() from the loop's own, problem() from any.
#pragma once

#include <atomic>
#include <chrono>
#include <string>

#include "common/base/clock.h"

namespace farside::metrics {

class Liveness final {
 public:
  // `what` names the loop in the problem's text; it must turn at least every `silence_max`.
  Liveness(const Clock& clock, std::string what, Micros silence_max)
      : clock_(clock),
        what_(std::move(what)),
        silence_max_(silence_max),
        last_(clock.monotonic().count()) {}

  void turned() { last_.store(clock_.monotonic().count(), std::memory_order_relaxed); }

  // Empty while all is well.
  std::string problem() const {
    const auto silent = clock_.monotonic() - Micros{last_.load(std::memory_order_relaxed)};
    if (silent <= silence_max_) return {};
    const auto seconds = std::chrono::duration_cast<std::chrono::seconds>(silent).count();
    return what_ + " has not turned for " + std::to_string(seconds) + " s";
  }

 private:
  const Clock& clock_;
  const std::string what_;
  const Micros silence_max_;
  std::atomic<Micros::rep> last_;
};

}  // namespace farside::metrics
