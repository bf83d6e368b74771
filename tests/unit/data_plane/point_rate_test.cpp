#include "services/agent/data_plane/point_rate.h"

#include <gtest/gtest.h>

namespace farside::data {
namespace {

using std::chrono::seconds;

// 30 days of a policy of one point each second, with one out of turn each hour.
TEST(PointRate, NeverHoldsASourceThatKeepsToItsInterval) {
  PointRate rate;
  Micros now{5};
  for (int i = 0; i < 30 * 24 * 3600; ++i) {
    now += seconds{1};
    for (int extra = i % 3600 == 0 ? 2 : 1; extra > 0; --extra) {
      ASSERT_TRUE(rate.check(now)) << i;
      rate.count(now);
    }
  }
}

TEST(PointRate, HoldsASourceThatMakesPointsAsFastAsItCan) {
  PointRate rate;
  Micros now{seconds{1'000'000}};
  int made = 0;
  const auto make_all = [&] {
    while (rate.check(now)) {
      rate.count(now);
      ++made;
    }
  };
  make_all();
  EXPECT_EQ(made, PointRate::kAtOnce);
  EXPECT_EQ(rate.check(now).error().code, ErrorCode::kBusy);

  for (int i = 0; i < 3600; ++i) {
    now += seconds{1};
    make_all();
  }
  EXPECT_LE(made, PointRate::kAtOnce + 3600 * 5 / 4);
  now += seconds{1};
  EXPECT_TRUE(rate.check(now)) << "the next is taken a little later";
}

}  // namespace
}  // namespace farside::data
