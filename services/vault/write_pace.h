// How often a site's inventory is recorded: one of some KiB whenever it changes, one of MiB that
// changes with every report so that its site has no more than kBytesPerSecond written.
//
// Owns: what each site has had written of late.  Thread: one.
#pragma once

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <map>
#include <string>

#include "common/base/clock.h"

namespace farside::vault {

class WritePace final {
 public:
  static constexpr std::int64_t kBytesPerSecond = 256 << 10;
  static constexpr std::int64_t kAtOnce = 1 << 20;

  bool may_write(const std::string& site, Micros now) { return settled(site, now) < kAtOnce; }
  void wrote(const std::string& site, std::size_t bytes, Micros now) {
    settled(site, now) += static_cast<std::int64_t>(bytes);
  }

 private:
  struct Debt {
    std::int64_t bytes = 0;
    Micros at{0};
  };
  std::int64_t& settled(const std::string& site, Micros now) {
    Debt& debt = debts_[site];
    const auto past = std::chrono::duration_cast<std::chrono::milliseconds>(now - debt.at);
    debt.bytes = std::max<std::int64_t>(0, debt.bytes - past.count() * kBytesPerSecond / 1000);
    debt.at += past;
    return debt.bytes;
  }

  std::map<std::string, Debt> debts_;
};

}  // namespace farside::vault
