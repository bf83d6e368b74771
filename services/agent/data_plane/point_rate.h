// How fast a source may make points of one item.
//
// Each is a record in the index and in memory for as long as the item's policy keeps every point,
// however little the source sends with it.  The shortest interval of a policy is 1 s: a source that
// keeps to it, with some points out of turn, never meets this.  Thread: one at a time.
#pragma once

#include <algorithm>
#include <chrono>

#include "common/base/clock.h"
#include "common/base/result.h"

namespace farside::data {

class PointRate final {
 public:
  static constexpr int kAtOnce = 600;
  static constexpr Micros kEvery = std::chrono::milliseconds{800};  // One, after those.

  // Whether another point may begin.  `now` passes as the host runs.  Errors: kBusy.
  Status check(Micros now) const {
    if (even_at_ - now <= kEvery * (kAtOnce - 1)) return {};
    return fail(ErrorCode::kBusy, "recovery points arrive faster than one a second",
                "the next one is taken a little later");
  }
  // One was made.
  void count(Micros now) { even_at_ = std::max(even_at_, now) + kEvery; }

 private:
  Micros even_at_{};  // When as many would have been made at an even pace.
};

}  // namespace farside::data
