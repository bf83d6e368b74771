#include "services/agent/data_plane/rate_limit.h"

#include <gtest/gtest.h>

namespace farside::data {
namespace {

using std::chrono::milliseconds;

TEST(RateLimit, SendsAtTheRateOverTime) {
  RateLimit::Moment now{std::chrono::seconds(5)};
  RateLimit limit(1'000'000, now);
  std::uint64_t sent = 0;
  for (int ms = 0; ms < 10'000; ++ms) {
    while (limit.may_send(now)) {
      limit.sent(70'000);
      sent += 70'000;
    }
    now += milliseconds(1);
  }

  EXPECT_NEAR(static_cast<double>(sent), 10e6, 0.7e6);
}

TEST(RateLimit, APauseDoesNotSaveUpMoreThanHalfASecond) {
  RateLimit::Moment now{std::chrono::seconds(5)};
  RateLimit limit(1'000'000, now);
  ASSERT_TRUE(limit.may_send(now + std::chrono::hours(1)));
  limit.sent(500'000);

  EXPECT_FALSE(limit.may_send(now + std::chrono::hours(1)));
}

TEST(RateLimit, ZeroIsNoLimit) {
  RateLimit limit(0);
  for (int i = 0; i < 100; ++i) {
    EXPECT_TRUE(limit.may_send({}));
    limit.sent(1ULL << 40U);
  }
}

}  // namespace
}  // namespace farside::data
