// Time that moves only when the world says so: one for the world, and each process' idea of it.
#pragma once

#include "common/base/clock.h"

namespace farside::sim {

class SimClock final : public Clock {
 public:
  Time now() const override { return Time{kStart + elapsed_.count()}; }
  Micros monotonic() const override { return elapsed_; }

  void advance(Micros by) { elapsed_ += by; }

 private:
  static constexpr std::int64_t kStart = 1'800'000'000'000'000;
  Micros elapsed_{0};
};

class ProcessClock final : public Clock {
 public:
  explicit ProcessClock(const SimClock& world) : world_(world) {}
  Time now() const override { return Time{world_.now().micros + skew_.count()}; }
  Micros monotonic() const override { return world_.monotonic(); }

  void jump(Micros by) { skew_ += by; }  // Somebody set the host's clock.

 private:
  const SimClock& world_;
  Micros skew_{0};
};

}  // namespace farside::sim
