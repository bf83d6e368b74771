#include "tests/support/hvsim/change_tracking.h"

#include <gtest/gtest.h>

namespace farside::hvsim {
namespace {

TEST(RangesTest, UnionsAreInOrderAndJoined) {
  EXPECT_EQ(unite({{8, 12}, {0, 4}}, {{4, 6}, {10, 20}, {30, 30}}), (Ranges{{0, 6}, {8, 20}}));
  EXPECT_EQ(clip({{0, 6}, {8, 20}}, {4, 10}), (Ranges{{4, 6}, {8, 10}}));
  EXPECT_EQ(ranges_from(to_json(Ranges{{0, 6}, {8, 20}})), (Ranges{{0, 6}, {8, 20}}));
}

struct ChangeTrackingTest : testing::Test {
  ChangeTracking tracking;

  void SetUp() override {
    tracking.wrote({{0, 1}});  // Before anybody asked.
    tracking.mark("a");
    tracking.wrote({{10, 20}});
    tracking.mark("b");
    tracking.wrote({{20, 30}});
    tracking.mark("c");
    tracking.wrote({{40, 50}});
  }
};

TEST_F(ChangeTrackingTest, ChangesAreThoseBetweenTwoMarks) {
  EXPECT_EQ(tracking.between("a", ""), (Ranges{{10, 30}, {40, 50}}));
  EXPECT_EQ(tracking.between("a", "c"), (Ranges{{10, 30}}));
  EXPECT_EQ(tracking.between("b", "c"), (Ranges{{20, 30}}));
  EXPECT_EQ(tracking.between("c", "c"), Ranges{});
  EXPECT_EQ(tracking.between("x", "").error().code, ErrorCode::kTrackingLost);
  EXPECT_EQ(tracking.between("a", "x").error().code, ErrorCode::kTrackingLost);
}

TEST_F(ChangeTrackingTest, ADroppedMarkLeavesItsChangesToTheOneBefore) {
  tracking.drop("b");
  EXPECT_EQ(tracking.between("a", "c"), (Ranges{{10, 30}}));
  EXPECT_FALSE(tracking.between("b", ""));
  tracking.drop("a");
  EXPECT_EQ(tracking.between("c", ""), (Ranges{{40, 50}}));
}

TEST_F(ChangeTrackingTest, ItIsKeptAndLost) {
  ChangeTracking kept = ChangeTracking::from_json(tracking.to_json());
  EXPECT_EQ(kept.between("a", "c"), (Ranges{{10, 30}}));
  kept.lose();
  EXPECT_FALSE(kept.has("a"));
  kept.wrote({{0, 1}});
  kept.mark("d");
  EXPECT_EQ(kept.between("d", ""), Ranges{});
}

}  // namespace
}  // namespace farside::hvsim
