// A verification reads every byte of its point, while everything else goes on.
#include <gtest/gtest.h>

#include <filesystem>

#include "services/agent/replica_store/raw_base.h"
#include "tests/support/temp_folder.h"
#include "tests/unit/replica_store/writes.h"

namespace farside::replica {
namespace {

constexpr std::uint32_t kBlocks = 16;

Status nobody(std::uint64_t /*done*/, std::uint64_t /*total*/) {
  return {};
}

// Raw ones; something happens at the next read of one.
class WatchedBases final : public BaseDisks {
 public:
  std::function<void()> at_next_read;

  Result<SharedBase> open(const std::string& folder, const std::string& disk) override {
    FARSIDE_ASSIGN(auto base, raw_bases().open(folder, disk));
    return std::make_shared<Watched>(std::move(base), at_next_read);
  }
  Result<SharedBase> create(const std::string& folder, const std::string& disk,
                            std::uint64_t bytes) override {
    FARSIDE_ASSIGN(auto base, raw_bases().create(folder, disk, bytes));
    return std::make_shared<Watched>(std::move(base), at_next_read);
  }
  Status remove(const std::string& folder) override { return raw_bases().remove(folder); }
  Status remove_disk(const std::string& folder, const std::string& disk) override {
    return raw_bases().remove_disk(folder, disk);
  }
  Result<bool> may_change(const std::string& folder, bool is_pinned) override {
    return raw_bases().may_change(folder, is_pinned);
  }

 private:
  class Watched final : public BaseDisk {
   public:
    Watched(SharedBase base, std::function<void()>& act) : base_(std::move(base)), act_(act) {}
    Status read_at(std::uint64_t offset, std::span<char> to) override {
      if (const auto act = std::exchange(act_, {})) act();
      return base_->read_at(offset, to);
    }
    Status write_at(std::uint64_t offset, std::string_view bytes) override {
      return base_->write_at(offset, bytes);
    }
    Status punch(std::uint64_t offset, std::uint64_t length) override {
      return base_->punch(offset, length);
    }
    Status sync() override { return base_->sync(); }
    std::uint64_t used_bytes() override { return base_->used_bytes(); }

   private:
    SharedBase base_;
    std::function<void()>& act_;
  };
};

class VerifyTest : public testing::Test {
 protected:
  void SetUp() override {
    limits_.reserve_bytes = 1;
    limits_.bases = &bases_;
    open();
    std::vector<std::uint32_t> all;
    for (std::uint32_t block = 0; block < kBlocks; ++block) all.push_back(block);
    point(all, 'a');        // 1: in the base.
    point({1, 2, 3}, 'b');  // 2 and 3: in segments.
    point({2, 5}, 'c');
  }
  void open() {
    item_.reset();
    auto opened =
        Item::open(folder_ / "item", "web",
                   {{.name = "vda", .bytes = kBlocks * kBlockBytes, .id = "serial:a"}}, limits_);
    ASSERT_TRUE(opened) << opened.error().what;
    item_ = std::move(*opened);
  }
  void point(const std::vector<std::uint32_t>& blocks, char c) {
    const std::string attempt = "a" + std::to_string(++attempts_);
    ASSERT_TRUE(item_->begin_delta({.cycle = attempt, .epoch = 1}));
    Writes writes;
    for (const std::uint32_t block : blocks) {
      writes.add(0, block, std::string(kBlockBytes, static_cast<char>(c + block)), 0);
    }
    ASSERT_TRUE(item_->append(writes.list()));
    ASSERT_TRUE(item_->commit_delta(
        {.captured_at = 1, .attempt = attempt, .epoch = 1, .blocks = blocks.size()}));
  }
  void flip(const std::string& name, std::uint64_t at) {
    const auto file = File::open_to_write(folder_ / ("item/" + name)).value();
    std::string byte(1, '\0');
    ASSERT_TRUE(file.read_at(at, byte));
    byte[0] = static_cast<char>(byte[0] ^ 1);
    ASSERT_TRUE(file.write_at(at, byte));
  }
  void fold_all() {
    for (;;) {
      const auto more = item_->consolidate(4);
      ASSERT_TRUE(more) << more.error().what;
      if (!*more) return;
    }
  }

  test::TempFolder folder_;
  WatchedBases bases_;
  Limits limits_;
  std::unique_ptr<Item> item_;
  int attempts_ = 0;
};

TEST_F(VerifyTest, SaysWhatTheIndexSaysAndHowFarItIs) {
  for (std::uint64_t seq = 1; seq <= 3; ++seq) {
    std::uint64_t done = 0;
    std::uint64_t total = 0;
    const auto digest = item_->verify(seq, [&](std::uint64_t so_far, std::uint64_t of) {
      done = so_far;
      total = of;
      return Status();
    });
    EXPECT_EQ(digest.value(), item_->digest_at(seq).value());
    EXPECT_EQ(done, kBlocks * kBlockBytes);
    EXPECT_EQ(total, done);
  }
  EXPECT_EQ(item_->verify(9, nobody).error().code, ErrorCode::kNotFound);
}

TEST_F(VerifyTest, DeltasAndFoldingGoOnMeanwhile) {
  const std::string right = item_->digest_at(2).value();
  bool happened = false;
  bases_.at_next_read = [&] {
    ASSERT_TRUE(item_->drop_points({1}));
    fold_all();  // What it was about to read from a segment is in the base now.
    point({1, 7}, 'd');
    EXPECT_EQ(item_->drop_points({2}).error().code, ErrorCode::kConflict) << "it is being read";
    ASSERT_TRUE(item_->retain({}, Time{1}));
    happened = true;
  };

  EXPECT_EQ(item_->verify(2, nobody).value(), right);

  EXPECT_TRUE(happened);
  EXPECT_EQ(item_->points().size(), 2U) << "that point and the newest";
  EXPECT_EQ(item_->damaged(), 0U);
}

TEST_F(VerifyTest, DamageIsNamedCountedAndMarked) {
  flip("base-vda.raw", 4 * kBlockBytes + 9);
  flip("base-vda.raw", 6 * kBlockBytes);

  const auto found = item_->verify(3, nobody);

  ASSERT_FALSE(found);
  EXPECT_EQ(found.error().code, ErrorCode::kCorrupt);
  EXPECT_NE(found.error().what.find("block 4 of disk vda"), std::string::npos);
  EXPECT_TRUE(found.error().what.ends_with("and so do 1 others")) << found.error().what;
  EXPECT_EQ(item_->damaged(), 2U);
  EXPECT_TRUE(item_->needs_repair()) << "the next delta is a comparison";
  EXPECT_FALSE(item_->verify(3, nobody)) << "found again";
}

TEST_F(VerifyTest, WhatIsWrongButNotSeenByThePointIsNoMatterOfIts) {
  flip("base-vda.raw", 5 * kBlockBytes);  // Point 3 has a later one.

  EXPECT_TRUE(item_->verify(3, nobody));
  EXPECT_FALSE(item_->verify(2, nobody));
}

TEST_F(VerifyTest, ALaterPointCostsWhatCameSince) {
  ASSERT_TRUE(item_->verify(2, nobody));
  flip("base-vda.raw", 4 * kBlockBytes);  // Read before, and not again.
  std::uint64_t done = 0;

  const auto digest = item_->verify_since(2, 3, [&](std::uint64_t so_far, std::uint64_t) {
    done = so_far;
    return Status();
  });

  EXPECT_EQ(digest.value(), item_->digest_at(3).value());
  EXPECT_EQ(done, 2 * kBlockBytes);
  point({2, 9}, 'e');
  point({9}, 'f');
  EXPECT_EQ(item_->verify_since(3, 5, nobody).value(), item_->digest_at(5).value());
}

TEST_F(VerifyTest, DamageOfWhatCameSinceIsFound) {
  ASSERT_TRUE(item_->verify(3, nobody));
  point({9}, 'e');
  const auto path = folder_ / "item/segments/00000001.seg";
  flip("segments/00000001.seg", std::filesystem::file_size(path) - 1);

  const auto found = item_->verify_since(3, 4, nobody);

  ASSERT_FALSE(found);
  EXPECT_NE(found.error().what.find("block 9 of disk vda"), std::string::npos)
      << found.error().what;
}

TEST_F(VerifyTest, WhatWasVerifiedIsKnownAndKeptAfterARestart) {
  ASSERT_TRUE(item_->verify(2, nobody));
  open();
  ASSERT_TRUE(item_->retain({}, Time{1}));

  const auto later = item_->verify_since(2, 3, nobody);
  ASSERT_TRUE(later) << later.error().what;
  EXPECT_EQ(*later, item_->digest_at(3).value());
  EXPECT_EQ(item_->verify_since(2, 3, nobody).value(), *later) << "asked again";
}

TEST_F(VerifyTest, NothingBuildsOnAPointThatWasNotVerified) {
  ASSERT_TRUE(item_->verify(2, nobody));
  EXPECT_EQ(item_->verify_since(1, 3, nobody).error().code, ErrorCode::kConflict);
  ASSERT_TRUE(item_->rewind(1));
  point({4}, 'x');  // Another point 2.
  point({5}, 'y');

  EXPECT_EQ(item_->verify_since(2, 3, nobody).error().code, ErrorCode::kConflict);
}

TEST_F(VerifyTest, WhoeverWatchesMayEndIt) {
  const auto ended = item_->verify(
      2, [](std::uint64_t, std::uint64_t) { return fail(ErrorCode::kCancelled, "enough"); });

  ASSERT_FALSE(ended);
  EXPECT_EQ(ended.error().code, ErrorCode::kCancelled);
  EXPECT_TRUE(item_->drop_points({2})) << "nobody needs it any more";
}

}  // namespace
}  // namespace farside::replica
