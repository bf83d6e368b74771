// How many bytes a second background work may move on one volume.
//
// Whoever did some books them; before the next piece it waits as long as what is booked lasts.
// Thread: any.
#pragma once

#include <algorithm>
#include <cstdint>
#include <mutex>

#include "common/base/clock.h"

namespace farside::agent {

class Budget final {
 public:
  explicit Budget(std::uint64_t bytes_per_second) : per_second_(bytes_per_second) {}

  // `now` is monotonic.
  void book(std::uint64_t bytes, Micros now) {
    const std::lock_guard lock(mutex_);
    free_at_ = std::max(free_at_, now) +
               Micros{static_cast<std::int64_t>(bytes * 1'000'000 / per_second_)};
  }
  Micros wait(Micros now) const {
    const std::lock_guard lock(mutex_);
    return std::max(free_at_ - now, Micros{0});
  }

 private:
  const std::uint64_t per_second_;
  mutable std::mutex mutex_;
  Micros free_at_{0};
};

}  // namespace farside::agent
