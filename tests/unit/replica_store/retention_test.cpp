#include "services/agent/replica_store/retention.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>

namespace farside::replica {
namespace {

constexpr std::int64_t kMinute = 60'000'000;
constexpr std::int64_t kHour = 60 * kMinute;

std::vector<msg::RecoveryPoint> every(std::int64_t interval, int count, std::int64_t first = 0) {
  std::vector<msg::RecoveryPoint> out;
  for (int i = 0; i < count; ++i) {
    out.push_back({.seq = static_cast<std::uint64_t>(i + 1),
                   .captured_at = 1,  // What the source says counts nothing.
                   .arrived_at = first + i * interval});
  }
  return out;
}

TEST(Retention, KeepsAllYoungPointsThenHourlyOnes) {
  const auto points = every(10 * kMinute, 6 * 10 + 1);  // Ten hours, six points each.
  const Time now{.micros = 10 * kHour};

  const auto drop = points_to_drop(points, {}, {.retention_hours = 8, .every_point_hours = 2}, now);

  // Hours 0 and 1 are too old, of hours 2..7 the first of each stays, 8 and 9 stay whole.
  std::vector<std::uint64_t> kept;
  for (const auto& point : points) {
    if (!std::ranges::binary_search(drop, point.seq)) kept.push_back(point.seq);
  }
  std::vector<std::uint64_t> expected{13, 19, 25, 31, 37, 43};
  for (std::uint64_t seq = 49; seq <= 61; ++seq) expected.push_back(seq);
  EXPECT_EQ(kept, expected);
}

TEST(Retention, TheNewestAndPinnedPointsStayHoweverOld) {
  const auto points = every(2 * kHour, 5);

  const auto drop =
      points_to_drop(points, {2}, {.retention_hours = 1}, Time{.micros = 1000 * kHour});

  EXPECT_EQ(drop, (std::vector<std::uint64_t>{1, 3, 4}));
}

TEST(Retention, AClockThatJumpsDropsNothing) {
  const msg::Policy policy{.retention_hours = 1, .every_point_hours = 1};
  const auto points = every(kMinute, 30, 100 * kHour);
  const Time now{.micros = 100 * kHour + 30 * kMinute};

  for (const std::int64_t jump : {5 * kHour, -7 * kHour}) {
    EXPECT_THAT(points_to_drop(points, {}, policy, Time{.micros = now.micros + jump}),
                testing::IsEmpty());
  }
}

TEST(Retention, NothingThatArrivesLaterMakesAPointGo) {
  const msg::Policy policy{.retention_hours = 100, .every_point_hours = 1};
  const auto good = every(kHour, 72, kMinute);
  const Time now{.micros = 72 * kHour};
  auto all = good;  // Then the source turns hostile.
  for (std::uint64_t i = 0; i < 72; ++i) {
    all.push_back({.seq = 73 + i,
                   .captured_at = static_cast<std::int64_t>(i) * kHour + 30 * kMinute,
                   .app_consistent = true,
                   .bytes = 120ULL << 30U,
                   .arrived_at = now.micros + static_cast<std::int64_t>(i)});
  }

  EXPECT_THAT(points_to_drop(good, {}, policy, now), testing::IsEmpty());
  EXPECT_THAT(points_to_drop(all, {}, policy, now + std::chrono::hours{2}), testing::IsEmpty());
}

TEST(Retention, OfAnHourItsFirstAndItsFirstAppConsistentPointStay) {
  auto points = every(10 * kMinute, 12);
  points[2].app_consistent = points[4].app_consistent = true;

  const auto drop = points_to_drop(points, {}, {.retention_hours = 24}, Time{.micros = 3 * kHour});

  EXPECT_EQ(drop, (std::vector<std::uint64_t>{2, 4, 5, 6, 8, 9, 10, 11}));
}

TEST(Retention, DroppingTwiceDropsNothingMore) {
  const auto points = every(10 * kMinute, 60);
  const msg::Policy policy{.retention_hours = 8, .every_point_hours = 2};
  const Time now{.micros = 10 * kHour};
  const auto drop = points_to_drop(points, {}, policy, now);
  std::vector<msg::RecoveryPoint> left;
  for (const auto& point : points) {
    if (!std::ranges::binary_search(drop, point.seq)) left.push_back(point);
  }

  EXPECT_EQ(points_to_drop(left, {}, policy, now), std::vector<std::uint64_t>{});
}

TEST(Retention, AFullJournalLosesItsOldestPointsButNoneOfTheFloorNorTheNewest) {
  const auto points = every(kHour, 6);
  const Time now{.micros = 6 * kHour};
  const msg::Policy policy{.floor_hours = 4};

  EXPECT_EQ(next_to_go(points, {}, policy, now), 1U);
  EXPECT_EQ(next_to_go(points, {1}, policy, now), 2U);
  EXPECT_EQ(next_to_go(points, {1, 2, 3}, policy, now), std::nullopt);
  EXPECT_EQ(next_to_go(points, {1, 2, 3}, policy, now + std::chrono::hours{1}), 4U);
  EXPECT_EQ(next_to_go(points, {1, 2, 3, 4, 5}, policy, now + std::chrono::hours{99}),
            std::nullopt);
}

TEST(Retention, NoRetentionMeansTheNewestOnly) {
  EXPECT_EQ(points_to_drop(every(kMinute, 3), {}, {}, Time{}), (std::vector<std::uint64_t>{1, 2}));
  EXPECT_EQ(points_to_drop({}, {}, {}, Time{}), std::vector<std::uint64_t>{});
}

}  // namespace
}  // namespace farside::replica
