#include "services/agent/data_plane/pending_map.h"

#include <gtest/gtest.h>

#include <fstream>
#include <map>

#include "common/base/file.h"
#include "common/base/random.h"
#include "services/agent/replica_store/block.h"
#include "tests/support/temp_folder.h"

namespace farside::data {
namespace {

constexpr std::uint64_t kBlocks = 40;

PendingDisk disk(const BlockSet& changed) {
  return {.name = "vda", .bytes = kBlocks * replica::kBlockBytes, .needed = changed};
}

BlockSet some(Random& random, double share) {
  BlockSet out(kBlocks);
  for (std::uint64_t i = 0; i < kBlocks; ++i) {
    if (random.chance(share)) out.add(i);
  }
  return out;
}

// Any history of writes, broken attempts and lost answers: whenever the delta commits, the target
// has exactly the source's state, and no block was sent again that was staged and did not change.
TEST(Pending, ResumingNeverMixesStatesNorStartsFromZero) {
  for (std::uint64_t seed = 1; seed <= 300; ++seed) {
    SeededRandom random(seed);
    std::map<std::uint64_t, int> guest;    // Content of each block: a version.
    std::map<std::uint64_t, int> replica;  // At the newest point.
    std::map<std::uint64_t, int> staged;
    int version = 0;
    const auto guest_writes = [&](BlockSet& changed) {
      some(random, 0.2).for_each([&](std::uint64_t block) {
        guest[block] = ++version;
        changed.add(block);
      });
    };
    for (int delta = 0; delta < 5; ++delta) {
      BlockSet changed(kBlocks);
      guest_writes(changed);
      auto frozen = guest;
      Pending pending = first_attempt("c", "a0", "base", 1, {disk(changed)});
      staged.clear();
      for (int attempt = 1;; ++attempt) {
        ASSERT_LT(attempt, 100);
        // The target unstages; its answer may be lost, then the source still thinks they are stale.
        pending.disks[0].stale.for_each([&](std::uint64_t block) { staged.erase(block); });
        bool broken = random.chance(0.1);
        if (!broken) {
          pending.disks[0].stale = BlockSet(kBlocks);
          BlockSet there(kBlocks);
          for (const auto& [block, content] : staged) there.add(block);
          const BlockSet send = still_to_send(pending.disks[0], there);
          send.for_each([&](std::uint64_t block) {
            ASSERT_FALSE(staged.contains(block)) << "sent again for nothing";
            if (!broken) broken = random.chance(0.02);
            if (!broken) staged[block] = frozen[block];
          });
        }
        if (!broken) break;
        BlockSet since(kBlocks);
        guest_writes(since);
        frozen = guest;
        pending = next_attempt(std::move(pending), "a" + std::to_string(attempt), {disk(since)});
      }
      ASSERT_EQ(staged.size(), pending.disks[0].needed.count());
      for (const auto& [block, content] : staged) replica[block] = content;
      ASSERT_EQ(replica, frozen) << "seed " << seed << " delta " << delta;
    }
  }
}

TEST(Pending, DisksMayGrowAndAppearBetweenAttempts) {
  BlockSet first(10);
  first.add(3);
  BlockSet later(20);
  later.add(15);
  BlockSet fresh(5);
  fresh.add(1);
  Pending pending =
      first_attempt("c", "a0", "b", 1, {{.name = "vda", .bytes = 1, .needed = first}});

  pending = next_attempt(
      pending, "a1",
      {{.name = "vda", .bytes = 2, .needed = later}, {.name = "vdb", .bytes = 1, .needed = fresh}});

  EXPECT_EQ(pending.attempt, "a1");
  EXPECT_EQ(pending.base, "b");
  EXPECT_TRUE(pending.disks[0].needed.has(3) && pending.disks[0].needed.has(15));
  EXPECT_FALSE(pending.disks[0].stale.has(3));
  EXPECT_TRUE(pending.disks[0].stale.has(15));
  EXPECT_TRUE(pending.disks[1].needed.has(1));
}

class PendingMapTest : public testing::Test {
 protected:
  Pending sample() {
    SeededRandom random(4);
    Pending pending = first_attempt("cycle", "attempt", "base", 7, {disk(some(random, 0.5))});
    return next_attempt(std::move(pending), "again", {disk(some(random, 0.5))});
  }
  test::TempFolder folder_;
  PendingMap map_{folder_ / "state/web.pending"};
};

TEST_F(PendingMapTest, ReadsBackWhatItSaved) {
  EXPECT_EQ(map_.load().value(), Pending());
  ASSERT_TRUE(map_.save(sample()));

  EXPECT_EQ(map_.load().value(), sample());
  ASSERT_TRUE(map_.clear());
  EXPECT_EQ(map_.load().value(), Pending());
  EXPECT_TRUE(map_.clear()) << "repeating it is fine";
}

TEST_F(PendingMapTest, ADamagedFileIsAsGoodAsNone) {
  ASSERT_TRUE(map_.save(sample()));
  const std::string bytes = farside::read_file(folder_ / "state/web.pending").value();
  for (std::size_t at = 0; at < bytes.size(); at += 7) {
    std::string damaged = bytes;
    damaged[at] = static_cast<char>(damaged[at] ^ 1);
    std::ofstream(folder_ / "state/web.pending", std::ios::binary) << damaged;
    ASSERT_EQ(map_.load().value(), Pending()) << "byte " << at;
  }
}

TEST_F(PendingMapTest, ATerabyteTakesLittleSpaceUnlessItIsWildlyFragmented) {
  BlockSet all(16U << 20U);
  all.add_range(1000, 16U << 20U);
  ASSERT_TRUE(map_.save(first_attempt(
      "c", "a", "b", 1, {{.name = "vda", .bytes = 1ULL << 40U, .needed = std::move(all)}})));

  EXPECT_LT(farside::read_file(folder_ / "state/web.pending").value().size(), 64U * 1024);
}

}  // namespace
}  // namespace farside::data
