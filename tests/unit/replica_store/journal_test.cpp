// The limit of a journal: counted on disk, never at the price of young points, and left by itself.
// And the time of a point: what a source says of it is for display.
#include <gtest/gtest.h>

#include <map>

#include "tests/support/temp_folder.h"
#include "tests/unit/replica_store/writes.h"

namespace farside::replica {
namespace {

constexpr std::uint64_t kMib = 1U << 20U;
constexpr std::uint32_t kBlocks = 512;

class JournalTest : public testing::Test {
 protected:
  void SetUp() override {
    limits_.segment_bytes = kMib;
    limits_.reserve_bytes = 1;
    limits_.journal_unit = kMib;
    auto opened =
        Item::open(folder_ / "item", "web",
                   {{.name = "vda", .bytes = kBlocks * std::uint64_t{kBlockBytes}}}, limits_);
    ASSERT_TRUE(opened) << opened.error().what;
    item_ = std::move(*opened);
    ASSERT_TRUE(delta(0, 1));
  }

  // Of blocks of noise, from `first` on, round the disk.
  Status delta(std::uint32_t first, std::uint32_t count, bool app_consistent = false) {
    FARSIDE_TRY(item_->begin_delta({.cycle = "c" + std::to_string(++cycle_), .epoch = 1}));
    for (std::uint32_t i = 0; i < count; ++i) {
      std::string plain(kBlockBytes, '\0');
      for (char& c : plain) c = static_cast<char>(random_.next());
      Writes writes;
      writes.add(0, (first + i) % kBlocks, plain, 0);
      FARSIDE_TRY(item_->append(writes.list()));
    }
    FARSIDE_TRY(item_->commit_delta({.captured_at = now_.micros,
                                     .arrived_at = now_.micros,
                                     .app_consistent = app_consistent,
                                     .epoch = 1,
                                     .blocks = count}));
    return {};
  }
  void maintain() {
    ASSERT_TRUE(item_->retain(policy_, now_));
    for (;;) {
      const auto folding = item_->consolidate(64);
      ASSERT_TRUE(folding) << folding.error().what;
      if (*folding) continue;
      const auto going = item_->make_room(policy_, now_);
      ASSERT_TRUE(going) << going.error().what;
      if (!*going) return;
    }
  }
  std::vector<std::uint64_t> points() {
    std::vector<std::uint64_t> out;
    for (const auto& point : item_->points()) out.push_back(point.seq);
    return out;
  }

  test::TempFolder folder_;
  Limits limits_;
  SeededRandom random_{1};
  Time now_{.micros = std::int64_t{1'000} * 3'600'000'000};
  msg::Policy policy_{.retention_hours = 720, .every_point_hours = 1, .journal_gib_max = 8};
  std::unique_ptr<Item> item_;
  int cycle_ = 0;
};

TEST_F(JournalTest, IsKeptWithinItsLimitOnDiskThoughHourlyPointsHoldWhatTheirNeighboursHad) {
  std::uint32_t first = 0;
  for (int minutes = 0; minutes < 24 * 60; minutes += 10) {
    now_ = now_ + std::chrono::minutes{10};
    ASSERT_TRUE(delta(first, 2));
    first += 2;
    maintain();
    ASSERT_LE(item_->usage().journal_bytes, 8 * kMib + 8 * kMib / 20);
  }

  // And no more went than had to.
  EXPECT_GE(item_->usage().journal_bytes, 6 * kMib);
  EXPECT_LE(item_->points().front().arrived_at,
            (now_ - std::chrono::hours{std::int64_t{policy_.floor_hours}}).micros);
}

TEST_F(JournalTest, YoungPointsStayAndTheItemGoesOnOnceTimeMadeRoom) {
  Status taken;
  for (std::uint32_t i = 0; taken && i < 100; ++i) {
    now_ = now_ + std::chrono::minutes{1};
    taken = delta(8 * i, 8);
    maintain();
  }
  ASSERT_FALSE(taken);
  EXPECT_EQ(taken.error().code, ErrorCode::kNoSpace);
  EXPECT_FALSE(taken.error().advice.empty());
  const auto before = points();
  EXPECT_GE(before.size(), 15U) << "none went";
  ASSERT_TRUE(item_->journal_fault());
  EXPECT_LE(item_->usage().journal_bytes, 8 * kMib + 8 * kMib / 20);

  now_ = now_ + std::chrono::hours{5};
  maintain();

  EXPECT_FALSE(item_->journal_fault());
  EXPECT_EQ(points().back(), before.back());
  EXPECT_GE(points().size() + 3, before.size()) << "no more go than the limit wants";
  for (std::uint32_t i = 0; i < 3; ++i) {
    ASSERT_TRUE(delta(8 * i, 8));
    maintain();
  }
  EXPECT_EQ(points().back(), before.back() + 3);
  EXPECT_LE(item_->usage().journal_bytes, 8 * kMib + 8 * kMib / 20);
}

TEST_F(JournalTest, ALargerLimitLetsItGoOn) {
  Status taken;
  for (std::uint32_t i = 0; taken && i < 100; ++i) {
    taken = delta(8 * i, 8);
    maintain();
  }
  ASSERT_FALSE(taken);

  policy_.journal_gib_max = 16;
  maintain();

  EXPECT_FALSE(item_->journal_fault());
  EXPECT_TRUE(delta(0, 8));
}

TEST_F(JournalTest, AHugeDeltaMakesNoPointGo) {
  for (std::uint32_t i = 0; i < 6; ++i) {
    now_ = now_ + std::chrono::hours{10};
    ASSERT_TRUE(delta(8 * i, 8, true));
  }
  maintain();
  const auto good = points();
  now_ = now_ + std::chrono::hours{10};

  for (int tries = 0; tries < 3; ++tries) {
    const auto taken = delta(0, kBlocks);
    ASSERT_FALSE(taken);
    EXPECT_EQ(taken.error().code, ErrorCode::kNoSpace);
    maintain();
  }

  EXPECT_EQ(points(), good);
  ASSERT_TRUE(item_->journal_fault());
  EXPECT_NE(item_->journal_fault()->what.find("next delta"), std::string::npos);
  policy_.journal_gib_max = 64;
  maintain();
  EXPECT_FALSE(item_->journal_fault());
  EXPECT_TRUE(delta(0, kBlocks));
}

TEST_F(JournalTest, BesideALargeNewestPointItIsTriedAgainAfterAWhile) {
  ASSERT_TRUE(delta(0, 80));
  maintain();
  ASSERT_FALSE(delta(80, 100)) << "more than the limit leaves beside the newest point";
  maintain();
  ASSERT_TRUE(item_->journal_fault());
  ASSERT_FALSE(delta(80, 1)) << "not at once: it would be sent in vain again and again";

  now_ = now_ + std::chrono::minutes{11};
  maintain();

  ASSERT_TRUE(item_->journal_fault()) << "until one fits";
  EXPECT_TRUE(delta(80, 1));
  EXPECT_FALSE(item_->journal_fault());
}

TEST_F(JournalTest, AnotherFloorIsTriedAtOnce) {
  ASSERT_TRUE(delta(0, 80));
  maintain();
  ASSERT_FALSE(delta(80, 100));
  maintain();

  policy_.floor_hours = 2;
  maintain();

  EXPECT_TRUE(delta(80, 1));
}

TEST_F(JournalTest, ADeltaUnderWayMakesNoPointGo) {
  for (std::uint32_t i = 0; i < 15; ++i) {
    now_ = now_ + std::chrono::hours{10};
    ASSERT_TRUE(delta(8 * i, 8));
  }
  maintain();
  const auto good = points();

  ASSERT_TRUE(item_->begin_delta({.cycle = "huge", .epoch = 1}));
  for (std::uint32_t block = 0; block < 100; ++block) {
    Writes writes;
    writes.add(0, block, std::string(kBlockBytes, static_cast<char>('a' + block % 26)), 0);
    ASSERT_TRUE(item_->append(writes.list()));
  }
  maintain();

  EXPECT_EQ(points(), good);
}

TEST_F(JournalTest, AnOpenViewHoldsTheJournalAndNoPointGoesInVain) {
  for (std::uint32_t i = 0; i < 10; ++i) {
    now_ = now_ + std::chrono::hours{10};
    ASSERT_TRUE(delta(8 * i, 8));
    maintain();
  }
  ASSERT_TRUE(item_->pin("test", points().back()));
  const auto before = points();
  for (std::uint32_t i = 0; i < 20; ++i) {
    now_ = now_ + std::chrono::hours{10};
    ASSERT_TRUE(delta(8 * i, 8)) << "replication goes on beside a drill";
    maintain();
  }

  ASSERT_TRUE(item_->journal_warning());
  EXPECT_FALSE(item_->journal_fault());
  EXPECT_EQ(points().front(), before.front());
  ASSERT_TRUE(item_->unpin("test"));
  now_ = now_ + std::chrono::hours{10};
  maintain();
  EXPECT_LE(item_->usage().journal_bytes, 8 * kMib + 8 * kMib / 20);
}

class PointTimeTest : public JournalTest {
 protected:
  msg::RecoveryPoint take(Time captured) {
    EXPECT_TRUE(item_->begin_delta({.cycle = "c", .epoch = 1}));
    const auto point = item_->commit_delta(
        {.captured_at = captured.micros, .arrived_at = now_.micros, .epoch = 1});
    EXPECT_TRUE(point);
    return point.value_or(msg::RecoveryPoint{});
  }
};

TEST_F(PointTimeTest, IsTheSourcesWhereItCanBe) {
  now_ = now_ + std::chrono::hours{1};
  const auto point = take(now_ - std::chrono::minutes{2});

  EXPECT_EQ(point.captured_at, (now_ - std::chrono::minutes{2}).micros);
  EXPECT_EQ(point.arrived_at, now_.micros);
  EXPECT_EQ(point.claimed_at, 0);
}

TEST_F(PointTimeTest, IsThatOfArrivalWhereASourceIsAhead) {
  now_ = now_ + std::chrono::hours{1};
  const auto claimed = now_ + std::chrono::hours{24 * 365 * 73};
  const auto point = take(claimed);

  EXPECT_EQ(point.captured_at, now_.micros);
  EXPECT_EQ(point.claimed_at, claimed.micros);
}

TEST_F(PointTimeTest, OfASourceThatWasSetBackIsThatOfArrivalAndReplicationGoesOn) {
  for (int i = 0; i < 3; ++i) {
    now_ = now_ + std::chrono::minutes{1};
    const auto claimed = now_ - std::chrono::hours{1};
    const auto point = take(claimed);
    EXPECT_EQ(point.captured_at, now_.micros);
    EXPECT_EQ(point.claimed_at, claimed.micros);
  }
  now_ = now_ + std::chrono::minutes{1};
  EXPECT_EQ(take(now_).claimed_at, 0) << "until its clock is right again";
}

}  // namespace
}  // namespace farside::replica
