// The digest by kept hashes is that of the disks, whatever happened to deltas and to the file.
#include <gtest/gtest.h>

#include <filesystem>

#include "services/agent/data_plane/hash_file.h"
#include "tests/unit/data_plane/two_ends.h"

namespace farside::data {
namespace {

using replica::kBlockBytes;

class KeptHashesTest : public TwoEnds {
 protected:
  std::string path() const { return folder_ / "source/web.hashes"; }
  std::string copy() const { return folder_ / "copy"; }

  // What a failover asks for while the VM runs.
  Result<std::string> digest() { return TwoEnds::digest(std::nullopt); }

  void save_copy() {
    std::filesystem::copy_file(path(), copy(), std::filesystem::copy_options::overwrite_existing);
  }
  void restore_copy() {
    std::filesystem::copy_file(copy(), path(), std::filesystem::copy_options::overwrite_existing);
  }
  void flip(std::uint64_t at) {
    const auto file = File::open_to_write(path()).value();
    std::string byte(1, '\0');
    ASSERT_TRUE(file.read_at(at, byte));
    byte[0] = static_cast<char>(byte[0] ^ 4);
    ASSERT_TRUE(file.write_at(at, byte));
  }
  // Nothing is said that is not so, and what is needed is read.
  void expect_right() {
    const std::string right = digest_from_scratch(*point_);
    const auto kept = kept_digest();
    if (kept) {
      EXPECT_EQ(*kept, right);
    } else {
      EXPECT_EQ(kept.error().code, ErrorCode::kConflict) << kept.error().what;
    }
    EXPECT_EQ(digest().value(), right);
    EXPECT_EQ(kept_digest().value(), right) << "what was read is kept";
  }
  // An attempt that ends in the middle; returns its token.
  std::string break_cycle(const std::string& since, ShipMode mode) {
    const std::string attempt = "a" + std::to_string(++attempts_);
    auto broken = vm_.point(attempt, since);
    broken->disk(0).fails_after_bytes = 20 * kBlockBytes;
    EXPECT_FALSE(shipper_.ship(*broken, request(attempt, since, mode)));
    return attempt;
  }
};

TEST_F(KeptHashesTest, AreThoseOfTheDisksAfterRandomDeltas) {
  SeededRandom random(4);
  fill(1);
  initial();
  for (std::uint64_t seed = 2; seed < 40; ++seed) {
    fill(seed);
    std::string since = token_;
    if (random.chance(0.3)) {
      vm_.write(0, 0, std::string(40 * kBlockBytes, static_cast<char>(seed)));
      since = break_cycle(token_, ShipMode::kChanged);
      fill(seed * 100);
    }
    const bool compares = random.chance(0.2);
    const auto shipped = compares ? cycle("", ShipMode::kResync) : cycle(since);
    ASSERT_TRUE(shipped) << shipped.error().what;
    ASSERT_EQ(kept_digest().value(), digest_from_scratch(*point_)) << "seed " << seed;
  }
}

TEST_F(KeptHashesTest, AnEndOfALongerStoryReadsNothing) {
  fill(1);
  initial();
  vm_.write(0, 3 * kBlockBytes, "x");
  ASSERT_TRUE(cycle(token_));
  const auto before = point_->read_bytes();

  ASSERT_TRUE(kept_digest());

  EXPECT_EQ(point_->read_bytes(), before);
  EXPECT_LE(before, kBlockBytes);
}

TEST_F(KeptHashesTest, ThoseOfAnEarlierPointAreNotTaken) {
  fill(1);
  initial();
  save_copy();
  fill(2);
  ASSERT_TRUE(cycle(token_));
  restore_copy();

  expect_right();

  restore_copy();
  fill(3);
  ASSERT_TRUE(cycle(token_));
  expect_right();
}

TEST_F(KeptHashesTest, ThoseOfOtherDisksAreNotTaken) {
  fill(1);
  initial();
  vm_.disks[0].resize(80 * kBlockBytes);
  fill(2);
  ASSERT_TRUE(cycle(token_));

  expect_right();
}

TEST_F(KeptHashesTest, ATornFileIsThrownAway) {
  fill(1);
  initial();
  fill(2);
  ASSERT_TRUE(cycle(token_));
  const auto whole = std::filesystem::file_size(path());
  save_copy();
  for (const std::uint64_t size :
       {std::uint64_t{0}, std::uint64_t{100}, std::uint64_t{65'536}, whole - 8, whole + 8}) {
    restore_copy();
    std::filesystem::resize_file(path(), size);
    expect_right();
  }
  restore_copy();
  std::filesystem::resize_file(path(), 70'000);
  fill(3);
  ASSERT_TRUE(cycle(token_));
  expect_right();
}

TEST_F(KeptHashesTest, AFlippedByteNeverMakesADigestOfOtherDisks) {
  fill(1);
  initial();
  fill(2);
  ASSERT_TRUE(cycle(token_));
  save_copy();
  SeededRandom random(9);
  const auto whole = std::filesystem::file_size(path());
  for (int i = 0; i < 40; ++i) {
    restore_copy();
    flip(i % 2 == 0 ? random.below(400) : 65'536 + random.below(whole - 65'536));
    expect_right();
  }
}

// The delta takes the wrong hash out of the sum: what then differs is found and read anew.
TEST_F(KeptHashesTest, AFlippedByteUnderADeltaIsFoundWhileTheVmRuns) {
  fill(1);
  initial();
  flip(65'536 + 8 * 5);
  vm_.write(0, 5 * kBlockBytes, "y");
  ASSERT_TRUE(cycle(token_));

  EXPECT_EQ(digest().value(), digest_from_scratch(*point_));
}

TEST_F(KeptHashesTest, ADeltaThatHasBegunKnowsNothingOfItsBlocks) {
  fill(1);
  initial();
  vm_.write(0, 0, std::string(40 * kBlockBytes, 'p'));
  receiver_->forbid("web");
  ASSERT_FALSE(cycle(token_));

  EXPECT_EQ(HashFile::open(path()).value().unknown(), 40U);

  ASSERT_TRUE(receiver_->allow("web", source_keys_.public_key, 1));
  ASSERT_TRUE(cycle("a" + std::to_string(attempts_)));
  EXPECT_EQ(kept_digest().value(), digest_from_scratch(*point_));
}

TEST_F(KeptHashesTest, WhatALossOfPowerTookIsUnknownAndReadAgain) {
  fill(1);
  initial();
  vm_.write(0, 0, std::string(40 * kBlockBytes, 'p'));
  const std::string broken = break_cycle(token_, ShipMode::kChanged);
  {
    // The head and the marks had reached the disk, what was set after them had not.
    auto file = HashFile::open(path()).value();
    EXPECT_FALSE(file.cycle().empty());
    BlockSet lost(replica::blocks_of(vm_.disks[0].size()));
    lost.add_range(0, 40);
    ASSERT_TRUE(file.mark_unknown(0, lost));
  }

  const auto shipped = cycle(broken);

  ASSERT_TRUE(shipped) << shipped.error().what;
  EXPECT_EQ(shipped->delta_blocks, 40U);
  const auto few = TwoEnds::digest(40);
  EXPECT_EQ(few.value(), digest_from_scratch(*point_)) << "no more than the delta is read";
}

TEST_F(KeptHashesTest, AFileThatCannotBeWrittenCostsNoDelta) {
  fill(1);
  std::filesystem::create_directories(path() + "/in the way");
  initial();
  fill(2);
  ASSERT_TRUE(cycle(token_));
  EXPECT_FALSE(kept_digest());
  std::filesystem::remove_all(path());

  expect_right();
}

TEST_F(KeptHashesTest, GoWithTheItem) {
  fill(1);
  initial();
  ASSERT_TRUE(std::filesystem::exists(path()));

  ASSERT_TRUE(shipper_.forget("web"));

  EXPECT_FALSE(std::filesystem::exists(path()));
  EXPECT_TRUE(shipper_.forget("web")) << "again is fine";
}

}  // namespace
}  // namespace farside::data
