#include "services/agent/data_plane/pack_pool.h"

#include <gtest/gtest.h>
#include <poll.h>

#include <set>
#include <utility>

#include "common/base/random.h"
#include "services/agent/replica_store/block.h"

namespace farside::data {
namespace {

using replica::Codec;
using replica::kBlockBytes;

TEST(Pack, TellsZerosPackedAndRawBlocksApartAndLeavesOutKnownOnes) {
  std::string noise(kBlockBytes, '\0');
  std::uint64_t state = 1;
  for (char& c : noise) {
    state = state * 6364136223846793005ULL + 1442695040888963407ULL;
    c = static_cast<char>(state >> 56U);
  }
  const std::string text(kBlockBytes, 't');
  PackJob job{.disk = 3,
              .first = 10,
              .plain = std::string(kBlockBytes, '\0') + text + noise + text + "tail",
              .level = 1,
              .known = {0, 0, 0, replica::hash_of(text), 0}};

  Guess guess;
  const std::uint64_t bytes = job.plain.size();

  const Packed packed = pack(std::move(job), guess);

  ASSERT_EQ(packed.batch.blocks.size(), 4U);
  const auto codec = [&](std::size_t i) {
    return static_cast<Codec>(packed.batch.blocks[i].codec);
  };
  EXPECT_EQ(packed.batch.disk, 3U);
  EXPECT_EQ(codec(0), Codec::kZero);
  EXPECT_EQ(codec(1), Codec::kZstd);
  EXPECT_EQ(codec(2), Codec::kRaw);
  EXPECT_EQ(packed.batch.blocks[3].block, 14U) << "block 13 is known";
  EXPECT_EQ(packed.batch.blocks[3].stored, 4U);
  EXPECT_EQ(packed.zero_blocks, 1U);
  EXPECT_EQ(packed.guest_bytes, bytes);
  EXPECT_EQ(packed.hashes.size(), 5U);
}

TEST(Pack, SendsBlocksThatDoNotShrinkAsTheyAre) {
  SeededRandom random(1);
  std::string noise(3 * kBlockBytes + 5, '\0');
  for (char& c : noise) c = static_cast<char>(random.next());
  Guess guess;

  const Packed packed = pack({.plain = noise}, guess);

  EXPECT_EQ(packed.payload, noise);
  ASSERT_EQ(packed.batch.blocks.size(), 4U);
  for (const msg::BlockHead& head : packed.batch.blocks) {
    EXPECT_EQ(static_cast<Codec>(head.codec), Codec::kRaw);
  }
}

TEST(Pack, GivesUpCompressingInARunOfNoiseAndSeesItsEnd) {
  SeededRandom random(1);
  std::string noise(64 * kBlockBytes, '\0');
  for (char& c : noise) c = static_cast<char>(random.next());
  Guess guess;
  ASSERT_EQ(pack({.plain = noise}, guess).payload, noise);

  const Packed text = pack({.plain = std::string(16 * kBlockBytes, 't')}, guess);

  EXPECT_EQ(static_cast<Codec>(text.batch.blocks.back().codec), Codec::kZstd);
  EXPECT_LT(text.payload.size(), 8 * kBlockBytes);
}

TEST(PackPool, GivesBackEveryJobOnce) {
  PackPool pool(3);
  for (std::uint32_t i = 0; i < 100; ++i) {
    pool.put({.first = i, .plain = std::string(1000, 'x')});
  }
  std::set<std::uint32_t> seen;
  while (pool.under_way() > 0) {
    pollfd ready{.fd = pool.fd(), .events = POLLIN, .revents = 0};
    ASSERT_GT(poll(&ready, 1, 30'000), 0);
    while (auto packed = pool.take()) seen.insert(packed->batch.blocks.at(0).block);
  }

  EXPECT_EQ(seen.size(), 100U);
  EXPECT_FALSE(pool.take());
}

}  // namespace
}  // namespace farside::data
