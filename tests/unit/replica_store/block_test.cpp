#include "services/agent/replica_store/block.h"

#include <fmt/core.h>
#include <gtest/gtest.h>

#include <vector>

#include "common/base/random.h"
#include "services/agent/replica_store/block_set.h"
#include "services/agent/replica_store/digest.h"
#include "services/agent/replica_store/layout.h"

namespace farside::replica {
namespace {

std::string hex(std::string_view bytes) {
  std::string out;
  for (const char c : bytes) out += fmt::format("{:02x}", static_cast<unsigned char>(c));
  return out;
}

// As they lie in the indexes of replicas: whoever changes them leaves these behind.
TEST(Layout, KeysAndEntriesHaveTheBytesThatAreStored) {
  const BlockKey key{.disk = 0x0102, .block = 0x03040506, .seq = 0x0708090a0b0c0d0e};
  const BlockEntry entry{.codec = Codec::kZstd,
                         .segment = 0x11121314,
                         .offset = 0x2122232425262728,
                         .stored = 0x31323334,
                         .hash = 0x4142434445464748};
  EXPECT_EQ(hex(to_key(key)), "010203040506f8f7f6f5f4f3f2f1");
  EXPECT_EQ(hex(to_member_key(key)), "0708090a0b0c0d0e010203040506");
  EXPECT_EQ(hex(number_key(0x0a0b, 4)), "00000a0b");
  EXPECT_EQ(hex(to_value(entry)), "02111213142122232425262728313233344142434445464748");
  EXPECT_EQ(static_cast<int>(Codec::kRaw), 1);
  EXPECT_EQ(static_cast<int>(Codec::kZero), 3);
  EXPECT_EQ(static_cast<int>(Codec::kBase), 4);
}

TEST(BlockSet, IsTheSameHoweverMuchOfItWasEverUsed) {
  constexpr std::uint64_t kMany = std::uint64_t{1} << 30U;  // A disk of 64 TiB.
  std::vector<BlockSet> idle(1000, BlockSet(kMany));        // 128 GiB, if each were a bitmap.
  BlockSet used(kMany);
  used.add(5000);
  EXPECT_FALSE(used == idle[0]);
  EXPECT_EQ(used.next(0), 5000U);
  EXPECT_FALSE(used.has(kMany - 1));
  used.remove(kMany - 1);
  used.remove(5000);
  EXPECT_TRUE(used == idle[0]);
  EXPECT_TRUE(idle[0] == used);
  EXPECT_TRUE(used.empty());

  BlockSet small(130);
  small.add(129);
  const auto back = BlockSet::from_bytes(130, small.to_bytes());
  ASSERT_TRUE(back);
  EXPECT_TRUE(*back == small);
  EXPECT_EQ(BlockSet(130).to_bytes(), std::string(17, '\0'));
  small |= BlockSet(130);
  small &= small;
  EXPECT_EQ(small.count(), 1U);
  small &= BlockSet(130);
  EXPECT_TRUE(small.empty());
  small.grow(200);
  small.add(199);
  EXPECT_EQ(small.next(0), 199U);
}

TEST(Block, TheLastOneOfADiskMayBeShorter) {
  EXPECT_EQ(blocks_of(0), 0U);
  EXPECT_EQ(blocks_of(1), 1U);
  EXPECT_EQ(blocks_of(kBlockBytes), 1U);
  EXPECT_EQ(blocks_of(kBlockBytes + 512), 2U);
  EXPECT_EQ(length_of(kBlockBytes + 512, 0), kBlockBytes);
  EXPECT_EQ(length_of(kBlockBytes + 512, 1), 512U);
}

TEST(Block, SurvivesPackingWhateverItHolds) {
  SeededRandom random(3);
  std::string noise(kBlockBytes, '\0');
  for (char& c : noise) c = static_cast<char>(random.next());
  for (const std::string& plain : {std::string(kBlockBytes, 'x'), noise, std::string(512, 'y')}) {
    for (const int level : {0, 1, 3}) {
      std::string packed;
      const Codec codec = pack(plain, level, packed);
      if (codec == Codec::kRaw) packed = plain;
      std::vector<char> back(plain.size());
      ASSERT_TRUE(unpack(codec, packed, back));
      EXPECT_EQ(std::string(back.begin(), back.end()), plain);
      EXPECT_LE(packed.size(), plain.size());
    }
  }
  std::string packed;
  EXPECT_EQ(pack(noise, 1, packed), Codec::kRaw) << "noise is not worth packing";
  EXPECT_EQ(pack(std::string(kBlockBytes, 'x'), 1, packed), Codec::kZstd);
  EXPECT_EQ(pack(std::string(kBlockBytes, 'x'), 0, packed), Codec::kRaw);
}

TEST(Block, DamagedPackedBytesAreRefused) {
  std::string packed;
  ASSERT_EQ(pack(std::string(kBlockBytes, 'x'), 1, packed), Codec::kZstd);
  std::vector<char> to(kBlockBytes);
  std::vector<char> shorter(kBlockBytes - 1);

  EXPECT_FALSE(unpack(Codec::kZstd, packed.substr(0, packed.size() - 1), to));
  EXPECT_FALSE(unpack(Codec::kZstd, packed, shorter));
  EXPECT_FALSE(unpack(Codec::kRaw, packed, to));
  EXPECT_FALSE(unpack(Codec::kBase, packed, to));
}

TEST(Block, ZerosAreRecognisedAndHashedLikeAnyOther) {
  std::string bytes(kBlockBytes, '\0');
  EXPECT_TRUE(is_zero(bytes));
  EXPECT_EQ(zero_hash(), hash_of(bytes));
  bytes.back() = 1;
  EXPECT_FALSE(is_zero(bytes));
}

TEST(BlockSet, AgreesWithAPlainVector) {
  SeededRandom random(5);
  for (int round = 0; round < 50; ++round) {
    const std::uint64_t size = 1 + random.below(300);
    BlockSet a(size);
    BlockSet b(size);
    std::vector<bool> plain_a(size);
    std::vector<bool> plain_b(size);
    for (int i = 0; i < 100; ++i) {
      const std::uint64_t n = random.below(size);
      random.chance(0.7) ? a.add(n) : a.remove(n);
      plain_a[n] = a.has(n);
      const std::uint64_t m = random.below(size);
      b.add(m);
      plain_b[m] = true;
    }
    std::uint64_t count = 0;
    for (std::uint64_t i = 0; i < size; ++i) {
      EXPECT_EQ(a.has(i), plain_a[i]);
      EXPECT_EQ((a | b).has(i), plain_a[i] || plain_b[i]);
      EXPECT_EQ((a - b).has(i), plain_a[i] && !plain_b[i]);
      EXPECT_EQ((a & b).has(i), plain_a[i] && plain_b[i]);
      count += plain_a[i] ? 1U : 0U;
    }
    EXPECT_EQ(a.count(), count);
    EXPECT_EQ(BlockSet::from_bytes(size, a.to_bytes()), a);
    std::uint64_t visited = 0;
    a.for_each([&](std::uint64_t n) {
      EXPECT_TRUE(plain_a[n]);
      ++visited;
    });
    EXPECT_EQ(visited, count);
  }
  EXPECT_EQ(BlockSet::from_bytes(9, std::string(1, '\xff')), std::nullopt);
  EXPECT_EQ(BlockSet::from_bytes(9, std::string(2, '\xff')), std::nullopt) << "bits beyond the end";
}

TEST(Layout, KeysSortNewestFirstAndComeBack) {
  const BlockKey older{.disk = 1, .block = 7, .seq = 3};
  const BlockKey newer{.disk = 1, .block = 7, .seq = 300};
  const BlockKey next{.disk = 1, .block = 8, .seq = 1};
  EXPECT_LT(to_key(newer), to_key(older));
  EXPECT_LT(to_key(older), to_key(next));
  EXPECT_EQ(block_key_from(to_key(newer)), newer);
  EXPECT_EQ(member_key_from(to_member_key(newer)), newer);
  const BlockEntry entry{
      .codec = Codec::kZstd, .segment = 9, .offset = 1ULL << 40U, .stored = 77, .hash = ~0ULL};
  EXPECT_EQ(entry_from(to_value(entry)), entry);
  EXPECT_EQ(entry_from("short"), std::nullopt);
}

TEST(Digest, DependsOnContentNamesAndSizesAndNotOnTheOrderOfDisks) {
  const auto digest = [](const std::string& name, std::uint64_t bytes, std::uint64_t hash) {
    return digest_of({{.name = name, .bytes = bytes, .sum = term_of(0, hash)}});
  };
  EXPECT_EQ(digest("vda", 1, 2), digest("vda", 1, 2));
  EXPECT_NE(digest("vda", 1, 2), digest("vdb", 1, 2));
  EXPECT_NE(digest("vda", 1, 2), digest("vda", 2, 2));
  EXPECT_NE(digest("vda", 1, 2), digest("vda", 1, 3));
  const SummedDisk a{.name = "vda", .bytes = 1, .sum = term_of(0, 2)};
  const SummedDisk b{.name = "vdb", .bytes = 1, .sum = term_of(1, 2)};
  EXPECT_EQ(digest_of({a, b}), digest_of({b, a}));
}

TEST(Digest, NamesTheDisksThatDiffer) {
  const SummedDisk a{.name = "vda", .bytes = 1, .sum = term_of(0, 2)};
  const SummedDisk b{.name = "vdb", .bytes = 1, .sum = term_of(0, 2)};
  const SummedDisk other{.name = "vdb", .bytes = 1, .sum = term_of(0, 3)};
  EXPECT_EQ(differing_disks(digest_of({a, b}), digest_of({a, b})), "");
  EXPECT_EQ(differing_disks(digest_of({a, b}), digest_of({a, other})), "vdb");
  EXPECT_EQ(differing_disks(digest_of({a, b}), digest_of({a})), "vdb");
  EXPECT_EQ(differing_disks(digest_of({a}), "of another form"), "vda");
  EXPECT_EQ(differing_disks("one", "other"), "all");
}

TEST(Sum, WhatCameAndWentLeavesNothingAndCarriesAreKept) {
  Sum sum;
  for (std::uint64_t i = 0; i < 1000; ++i) sum += term_of(i, i + 7);
  Sum less = sum;
  less += term_of(5000, 1);
  less -= term_of(5000, 1);
  EXPECT_EQ(less, sum);
  for (std::uint64_t i = 0; i < 1000; ++i) sum -= term_of(999 - i, 999 - i + 7);
  EXPECT_EQ(sum, Sum());
  EXPECT_EQ(term_of(3, zero_hash()), Sum());
  Sum carry{.high = 0, .low = ~0ULL};
  carry += {.high = 0, .low = 1};
  EXPECT_EQ(carry, (Sum{.high = 1, .low = 0}));
  carry -= {.high = 0, .low = 1};
  EXPECT_EQ(carry, (Sum{.high = 0, .low = ~0ULL}));
}

}  // namespace
}  // namespace farside::replica
