#include "services/agent/data_plane/arrival_clock.h"

#include <gtest/gtest.h>

#include <limits>

namespace farside::data {
namespace {

using std::chrono::hours;
using std::chrono::seconds;

struct TwoClocks final : Clock {
  Time now() const override { return told; }
  Micros monotonic() const override { return passed; }
  void pass(Micros some) {
    told = told + some;
    passed += some;
  }
  Time told{.micros = 1'800'000'000'000'000};
  Micros passed{7};
};

TEST(ArrivalClock, DoesNotFollowAJumpAhead) {
  TwoClocks host;
  ArrivalClock arrivals(host);
  const Time right = host.told;
  host.told = host.told + hours{5};
  host.pass(seconds{10});

  EXPECT_EQ(arrivals.now(right + seconds{10}), right + seconds{10});
  host.pass(seconds{10});
  EXPECT_EQ(arrivals.now(right + seconds{20}), right + seconds{20}) << "it goes on";
  host.told = host.told - hours{5};
  EXPECT_EQ(arrivals.now(right + seconds{20}), host.told) << "it is right again";
}

TEST(ArrivalClock, BelievesAJumpThatTheSourceAgreesWith) {
  TwoClocks host;
  ArrivalClock arrivals(host);
  host.told = host.told + hours{5};

  EXPECT_EQ(arrivals.now(host.told - seconds{2}), host.told);
}

TEST(ArrivalClock, DoesNotFollowAJumpBack) {
  TwoClocks host;
  ArrivalClock arrivals(host);
  const Time right = host.told;
  host.told = host.told - hours{7};
  host.pass(seconds{10});

  EXPECT_EQ(arrivals.now(right + seconds{10}), right + seconds{10});
}

TEST(ArrivalClock, ASourceMayTellAnyTimeAtAll) {
  using Limits = std::numeric_limits<std::int64_t>;
  for (const std::int64_t told : {Limits::min(), Limits::min() + 1, Limits::max()}) {
    TwoClocks host;
    ArrivalClock arrivals(host);
    EXPECT_EQ(arrivals.now(Time{told}), host.told) << told;
    const Time right = host.told;
    host.told = host.told + hours{5};

    EXPECT_EQ(arrivals.now(Time{told}), right) << told << ": it agrees with no jump";
  }
  // Where the distance of two times is the smallest number there is, it is not near.
  TwoClocks host;
  host.told = Time{-2};
  ArrivalClock arrivals(host);
  const Time right = host.told;
  host.told = Time{-1 - std::chrono::duration_cast<Micros>(hours{1}).count()};
  EXPECT_EQ(arrivals.now(Time{Limits::max()}), right);
}

}  // namespace
}  // namespace farside::data
