// How often what somebody reports is recorded: some KiB whenever they change, MiB that change with
// every report so that no one has more than kBytesPerSecond written.
//
// Owns: what each has had written of late.  Thread: one.
#pragma once

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <map>
#include <string>

#include "common/base/clock.h"

namespace farside {

class WritePace final {
 public:
  static constexpr std::int64_t kBytesPerSecond = 256 << 10;
  static constexpr std::int64_t kAtOnce = 1 << 20;

  bool may_write(const std::string& who, Micros now) { return settled(who, now) < kAtOnce; }
  void wrote(const std::string& who, std::size_t bytes, Micros now) {
    settled(who, now) += static_cast<std::int64_t>(bytes);
  }

 private:
  struct Debt {
    std::int64_t bytes = 0;
    Micros at{0};
  };
  std::int64_t& settled(const std::string& who, Micros now) {
    Debt& debt = debts_[who];
    const auto past = std::chrono::duration_cast<std::chrono::milliseconds>(now - debt.at);
    debt.bytes = std::max<std::int64_t>(0, debt.bytes - past.count() * kBytesPerSecond / 1000);
    debt.at += past;
    return debt.bytes;
  }

  std::map<std::string, Debt> debts_;
};

}  // namespace farside
