// Wall-clock time, in microseconds since 1970 UTC, and the seam through which it is read.
// Deadlines and timers inside a reactor are monotonic; `Time` is what is stored and shown.
#pragma once

#include <chrono>
#include <compare>
#include <cstdint>
#include <string>
#include <string_view>

#include "common/base/result.h"

namespace farside {

using Micros = std::chrono::microseconds;

struct Time {
  std::int64_t micros = 0;

  auto operator<=>(const Time&) const = default;
  Time operator+(Micros d) const { return Time{micros + d.count()}; }
  Time operator-(Micros d) const { return Time{micros - d.count()}; }
  Micros operator-(Time other) const { return Micros{micros - other.micros}; }
};

// "2026-03-01T12:34:56.123456Z".
std::string to_iso(Time time);
Result<Time> time_from_iso(std::string_view text);

class Clock {
 public:
  virtual ~Clock() = default;
  virtual Time now() const = 0;          // May jump when the host's clock is set.
  virtual Micros monotonic() const = 0;  // Never goes back; its zero means nothing.
};

class SystemClock final : public Clock {
 public:
  Time now() const override;
  Micros monotonic() const override;
};

}  // namespace farside
