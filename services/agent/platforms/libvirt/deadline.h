// Waiting for the host: a point in time, and short pauses until something there has changed.
#pragma once

#include <poll.h>

#include <chrono>

namespace farside::agent::libvirt {

class Deadline {
 public:
  explicit Deadline(std::chrono::milliseconds from_now)
      : at_(std::chrono::steady_clock::now() + from_now) {}

  bool passed() const { return std::chrono::steady_clock::now() >= at_; }

  // False once the deadline has passed; otherwise waits a moment before the caller looks again.
  bool pause() const {
    if (passed()) return false;
    ::poll(nullptr, 0, kPauseMs);
    return true;
  }

 private:
  static constexpr int kPauseMs = 20;
  std::chrono::steady_clock::time_point at_;
};

}  // namespace farside::agent::libvirt
