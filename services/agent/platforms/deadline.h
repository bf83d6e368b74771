// Waiting for the host: a point in time, and short pauses until something there has changed.
#pragma once

#include <poll.h>

#include <algorithm>
#include <chrono>

namespace farside::agent {

class Deadline {
 public:
  explicit Deadline(std::chrono::milliseconds from_now)
      : at_(std::chrono::steady_clock::now() + from_now) {}

  bool passed() const { return std::chrono::steady_clock::now() >= at_; }

  // False once the deadline has passed; otherwise waits a moment before the caller looks again: 1
  // ms at first, as most things are done at once and each cycle waits for some of them.
  bool pause() const {
    if (passed()) return false;
    ::poll(nullptr, 0, pause_ms_);
    pause_ms_ = std::min(2 * pause_ms_, kPauseMaxMs);
    return true;
  }

 private:
  static constexpr int kPauseMaxMs = 20;
  std::chrono::steady_clock::time_point at_;
  mutable int pause_ms_ = 1;
};

}  // namespace farside::agent
