// A block that the volume forgot costs the points that need it, and nothing else.
#include <gtest/gtest.h>

#include <filesystem>

#include "services/agent/replica_store/definition.h"
#include "tests/support/temp_folder.h"
#include "tests/unit/replica_store/writes.h"

namespace farside::replica {
namespace {

constexpr std::uint32_t kBlocks = 16;

class DamageTest : public testing::Test {
 protected:
  void SetUp() override {
    limits_.reserve_bytes = 1;
    open();
    delta({{0, 'a'}, {1, 'a'}, {2, 'a'}});
  }
  void open() {
    item_.reset();
    auto opened =
        Item::open(folder_ / "item", "web",
                   {{.name = "vda", .bytes = kBlocks * std::uint64_t{kBlockBytes}}}, limits_);
    ASSERT_TRUE(opened) << opened.error().what;
    item_ = std::move(*opened);
  }
  void delta(const std::vector<std::pair<std::uint32_t, char>>& blocks, bool compare = false) {
    const auto begun = item_->begin_delta(
        {.cycle = "c" + std::to_string(++cycle_), .epoch = 1, .keep_any = compare});
    ASSERT_TRUE(begun) << begun.error().what;
    Writes writes;
    for (const auto& [block, c] : blocks) writes.add(0, block, pattern(c), 0);
    ASSERT_TRUE(item_->append(writes.list()));
    ASSERT_TRUE(item_->commit_delta({.captured_at = 1, .epoch = 1, .blocks = blocks.size()}));
  }
  // The n-th payload of the first segment.
  void rot(std::uint64_t n) {
    const std::string path = segment_path(folder_ / "item", 1);
    std::string bytes = read_file(path).value();
    bytes[kSegmentMagic.size() + n * (kRecordHeaderBytes + kBlockBytes) + kRecordHeaderBytes + 9] ^=
        1;
    ASSERT_TRUE(replace_file(path, bytes));
    open();
  }
  void consolidate() {
    for (;;) {
      const auto more = item_->consolidate(2);
      ASSERT_TRUE(more) << more.error().what;
      if (!*more) return;
    }
  }
  std::string read(std::uint64_t seq, std::uint32_t block) {
    std::string out(kBlockBytes, '?');
    const auto read = item_->read(0, seq, std::uint64_t{block} * kBlockBytes, out);
    return read ? out : std::string(to_text(read.error().code));
  }
  const std::string corrupt_{to_text(ErrorCode::kCorrupt)};

  test::TempFolder folder_;
  Limits limits_;
  std::unique_ptr<Item> item_;
  int cycle_ = 0;
};

TEST_F(DamageTest, FoldingGoesOnBesideADamagedBlock) {
  delta({{0, 'b'}, {1, 'b'}, {2, 'b'}});
  for (char c = 'c'; c < 'h'; ++c) delta({{3, c}});
  delta({{1, 'z'}});
  rot(1);  // Block 1 of point 2.
  const std::uint64_t newest = item_->newest().seq;
  const std::uint64_t before = item_->usage().live_bytes;

  ASSERT_TRUE(item_->drop_points({1, 2, 3, 4, 5}));
  consolidate();

  EXPECT_LT(item_->usage().live_bytes, before / 2) << "the journal came back";
  EXPECT_EQ(item_->take_findings().size(), 1U);
  EXPECT_EQ(item_->damaged(), 1U);
  EXPECT_FALSE(item_->needs_repair()) << "the newest point has another version of it";
  EXPECT_EQ(read(6, 0), pattern('b'));
  EXPECT_EQ(read(6, 1), corrupt_) << "never what the base had before";
  EXPECT_EQ(read(6, 2), pattern('b'));
  EXPECT_EQ(read(newest, 1), pattern('z'));

  open();
  EXPECT_EQ(item_->damaged(), 1U);
  ASSERT_TRUE(item_->drop_points({6, 7}));
  consolidate();
  EXPECT_EQ(item_->damaged(), 0U) << "it goes with the points that had it";
  EXPECT_EQ(read(newest, 1), pattern('z'));
}

TEST_F(DamageTest, ASegmentThatIsGoneCostsItsBlocksOnly) {
  delta({{0, 'b'}});
  open();  // A new segment begins.
  delta({{1, 'b'}});
  delta({{2, 'b'}});
  ASSERT_TRUE(std::filesystem::remove(segment_path(folder_ / "item", 1)));
  open();

  ASSERT_TRUE(item_->drop_points({1, 2, 3}));
  consolidate();

  EXPECT_EQ(read(4, 0), corrupt_);
  EXPECT_EQ(read(4, 1), pattern('b'));
  EXPECT_EQ(read(4, 2), pattern('b'));
}

TEST_F(DamageTest, DamageInTheNewestPointIsRepairedByAComparison) {
  delta({{0, 'b'}, {1, 'b'}});
  rot(1);
  EXPECT_FALSE(item_->needs_repair());

  EXPECT_EQ(item_->scrub("", 1000).value().mismatches.size(), 1U);

  EXPECT_TRUE(item_->needs_repair());
  open();
  EXPECT_TRUE(item_->needs_repair()) << "a restart forgets nothing";
  const auto plain = item_->begin_delta({.cycle = "plain", .epoch = 1});
  ASSERT_FALSE(plain);
  EXPECT_EQ(plain.error().code, ErrorCode::kTrackingLost);
  const auto hashes = item_->newest_hashes(0, 0, 3).value();
  EXPECT_EQ(hashes[0], hash_of(pattern('b')));
  EXPECT_NE(hashes[1], hash_of(pattern('b')));
  delta({{1, 'b'}}, true);
  EXPECT_FALSE(item_->needs_repair());
  EXPECT_EQ(read(3, 1), pattern('b'));
  EXPECT_EQ(read(2, 1), corrupt_);
  EXPECT_TRUE(item_->begin_delta({.cycle = "plain", .epoch = 1}));
}

TEST_F(DamageTest, DamageThatIsFoundWhileAComparisonIsUnderWayIsNotForgotten) {
  delta({{0, 'b'}, {1, 'b'}});
  rot(1);
  ASSERT_TRUE(item_->begin_delta({.cycle = "c", .epoch = 1, .keep_any = true}));
  ASSERT_TRUE(item_->newest_hashes(0, 0, 3)) << "nothing is known of it yet";
  ASSERT_TRUE(item_->scrub("", 1000));

  ASSERT_TRUE(item_->commit_delta({.captured_at = 1, .epoch = 1}));

  EXPECT_TRUE(item_->needs_repair());
}

TEST_F(DamageTest, ADamagedDefinitionIsFoundAndAskedForAgain) {
  const msg::VmDefinition definition{.platform = "sim", .text = "a machine"};
  const auto packed = pack_definition(definition).value();
  ASSERT_TRUE(item_->begin_delta({.cycle = "d", .epoch = 1, .definition = packed.digest}));
  ASSERT_TRUE(item_->keep_definition(packed.digest, packed.packed));
  ASSERT_TRUE(item_->commit_delta({.captured_at = 1, .epoch = 1}));
  ASSERT_TRUE(item_->has_definition(packed.digest));
  std::string bytes = packed.packed;
  bytes.back() = static_cast<char>(bytes.back() ^ 1);
  ASSERT_TRUE(replace_file(folder_ / "item/definitions/" + packed.digest, bytes));

  EXPECT_EQ(item_->scrub("", 1000).value().mismatches.size(), 1U);
  EXPECT_FALSE(item_->has_definition(packed.digest));
  ASSERT_TRUE(item_->keep_definition(packed.digest, packed.packed));

  EXPECT_TRUE(item_->has_definition(packed.digest));
  EXPECT_EQ(item_->definition_at(2).value(), definition);
  EXPECT_TRUE(item_->scrub("", 1000).value().mismatches.empty());
}

TEST_F(DamageTest, ADefinitionThatIsDamagedWhenADeltaBeginsIsMissing) {
  const auto packed = pack_definition({.platform = "sim", .text = "a machine"}).value();
  ASSERT_TRUE(item_->keep_definition(packed.digest, packed.packed));
  ASSERT_TRUE(replace_file(folder_ / "item/definitions/" + packed.digest, "torn"));

  EXPECT_FALSE(item_->has_definition(packed.digest));
}

}  // namespace
}  // namespace farside::replica
