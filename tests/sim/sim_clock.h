// Time that moves only when the world says so.  One for all processes of a world.
#pragma once

#include "common/base/clock.h"

namespace farside::sim {

class SimClock final : public Clock {
 public:
  Time now() const override { return Time{kStart + elapsed_.count() + skew_.count()}; }
  Micros monotonic() const override { return elapsed_; }

  void advance(Micros by) { elapsed_ += by; }
  void jump(Micros by) { skew_ += by; }  // Somebody set the host's clock.

 private:
  static constexpr std::int64_t kStart = 1'800'000'000'000'000;
  Micros elapsed_{0};
  Micros skew_{0};
};

}  // namespace farside::sim
