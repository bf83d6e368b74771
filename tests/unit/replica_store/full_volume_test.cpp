// A volume with no byte left, a real one: points can go, their space comes back, replication goes
// on once there is room.
#include <gtest/gtest.h>
#include <sys/mount.h>

#include <cerrno>
#include <cstring>
#include <filesystem>

#include "services/agent/replica_store/replica_store.h"
#include "tests/support/temp_folder.h"
#include "tests/unit/replica_store/writes.h"

namespace farside::replica {
namespace {

constexpr std::uint64_t kMib = 1U << 20U;
constexpr std::uint32_t kBlocks = 128;

class FullVolumeTest : public testing::TestWithParam<bool> {
 protected:
  void SetUp() override {
    std::filesystem::create_directory(volume_);
    if (::mount("tmpfs", volume_.c_str(), "tmpfs", 0, "size=48m") != 0) {
      GTEST_SKIP() << "no file system of its own can be mounted here: " << std::strerror(errno);
    }
    mounted_ = true;
    limits_.segment_bytes = kMib;
    limits_.reserve_bytes = 8 * kMib;
    limits_.ballast_bytes = 8 * kMib;
    open();
    ASSERT_TRUE(delta(0, kBlocks / 2));
    for (std::uint32_t i = 0; i < 24; ++i) ASSERT_TRUE(delta(8 * i, 8));
  }
  void TearDown() override {
    item_.reset();
    store_.reset();
    if (!mounted_) return;
    EXPECT_EQ(::umount(volume_.c_str()), 0) << std::strerror(errno);
  }
  void open() {
    item_.reset();
    store_.reset();
    auto store = ReplicaStore::open(volume_ + "/replicas", limits_);
    ASSERT_TRUE(store) << store.error().what;
    store_ = std::move(*store);
    auto item =
        store_->create("web", {{.name = "vda", .bytes = kBlocks * std::uint64_t{kBlockBytes}}});
    ASSERT_TRUE(item) << item.error().what;
    item_ = *item;
  }

  // Noise, or, if the parameter says so, what packs well and takes more room in the base.
  Status delta(std::uint32_t first, std::uint32_t count) {
    FARSIDE_TRY(item_->begin_delta({.cycle = "c" + std::to_string(++cycle_), .epoch = 1}));
    for (std::uint32_t i = 0; i < count; ++i) {
      const std::uint32_t block = (first + i) % kBlocks;
      std::string plain(kBlockBytes, static_cast<char>('a' + random_.below(26)));
      const std::size_t noise = GetParam() ? kBlockBytes / 4 : kBlockBytes;
      for (std::size_t at = 0; at < noise; ++at) plain[at] = static_cast<char>(random_.next());
      Writes writes;
      writes.add(0, block, plain, 1);
      FARSIDE_TRY(item_->append(writes.list()));
      written_[block] = plain;
    }
    FARSIDE_TRY(item_->commit_delta({.captured_at = 1, .epoch = 1, .blocks = count}));
    return {};
  }
  // Somebody else takes all there is.
  void fill() {
    const auto file = File::open_to_write(volume_ + "/filler").value();
    std::uint64_t at = file.size().value();
    for (std::size_t piece : {std::size_t{kMib}, std::size_t{4096}}) {
      while (file.write_at(at, std::string(piece, 'x'))) at += piece;
      at = file.size().value();
    }
    ASSERT_LT(free_bytes(volume_), 4096U);
  }
  // As maintenance comes round, whatever fails.
  void maintain() {
    for (int round = 0; round < 20; ++round) {
      std::vector<std::uint64_t> all;
      for (const auto& point : item_->points()) all.push_back(point.seq);
      if (!all.empty()) all.pop_back();
      if (!item_->drop_points(all)) continue;
      for (int slice = 0; slice < 100; ++slice) {
        const auto more = item_->consolidate(16);
        if (!more || !*more) break;
      }
    }
  }
  void expect_newest_whole() {
    for (const auto& [block, plain] : written_) {
      std::string out(kBlockBytes, '?');
      const auto read =
          item_->read(0, item_->newest().seq, std::uint64_t{block} * kBlockBytes, out);
      ASSERT_TRUE(read) << read.error().what;
      ASSERT_TRUE(out == plain) << "block " << block;
    }
  }

  test::TempFolder folder_;
  const std::string volume_ = folder_ / "volume";
  bool mounted_ = false;
  Limits limits_;
  SeededRandom random_{7};
  std::unique_ptr<ReplicaStore> store_;
  SharedItem item_;
  std::map<std::uint32_t, std::string> written_;
  int cycle_ = 0;
};

TEST_P(FullVolumeTest, IsLeft) {
  fill();
  const auto refused = delta(0, 1);
  ASSERT_FALSE(refused);
  EXPECT_EQ(refused.error().code, ErrorCode::kNoSpace);
  written_.clear();
  const std::string digest = item_->digest_at(item_->newest().seq).value_or("none");

  maintain();

  EXPECT_EQ(item_->points().size(), 1U);
  EXPECT_EQ(item_->usage().live_bytes, 0U);
  EXPECT_LE(item_->usage().journal_bytes, 2 * kMib);
  EXPECT_EQ(item_->digest_at(item_->newest().seq).value_or("other"), digest);
  EXPECT_TRUE(item_->scrub("", 10'000).value().mismatches.empty());

  std::filesystem::remove(volume_ + "/filler");
  EXPECT_TRUE(store_->keep_ballast());
  EXPECT_TRUE(delta(0, 8));
  expect_newest_whole();
}

TEST_P(FullVolumeTest, IsLeftAfterARestartOfTheAgent) {
  fill();
  const std::string digest = item_->digest_at(item_->newest().seq).value_or("none");
  open();

  maintain();

  EXPECT_EQ(item_->points().size(), 1U);
  EXPECT_EQ(item_->usage().live_bytes, 0U);
  EXPECT_EQ(item_->digest_at(item_->newest().seq).value_or("other"), digest);
}

INSTANTIATE_TEST_SUITE_P(Content, FullVolumeTest, testing::Values(false, true),
                         [](const auto& each) { return each.param ? "Packed" : "Noise"; });

}  // namespace
}  // namespace farside::replica
