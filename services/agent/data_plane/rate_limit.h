// A bandwidth limit: a bucket that fills at the rate and holds half a second of it.
#pragma once

#include <algorithm>
#include <chrono>
#include <cstdint>

namespace farside::data {

class RateLimit final {
 public:
  using Moment = std::chrono::steady_clock::time_point;

  // 0: no limit.
  explicit RateLimit(std::uint64_t bytes_per_second, Moment now = {})
      : rate_(static_cast<double>(bytes_per_second)), tokens_(rate_ / 2), at_(now) {}

  // Whether something may be sent now; what it takes may be owed, so that a piece larger than the
  // bucket is not stuck.
  bool may_send(Moment now) {
    if (rate_ == 0) return true;
    if (at_ == Moment{}) at_ = now;
    tokens_ += std::chrono::duration<double>(now - at_).count() * rate_;
    tokens_ = std::min(tokens_, rate_ / 2);
    at_ = now;
    return tokens_ > 0;
  }
  void sent(std::uint64_t bytes) {
    if (rate_ != 0) tokens_ -= static_cast<double>(bytes);
  }

 private:
  double rate_;
  double tokens_;
  Moment at_;
};

}  // namespace farside::data
