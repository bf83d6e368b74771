// A block that the volume forgot costs the points that need it, and nothing else.
#include <fcntl.h>
#include <gtest/gtest.h>
#include <sys/resource.h>
#include <unistd.h>
#include <zstd.h>

#include <algorithm>
#include <filesystem>

#include "common/base/sha256.h"
#include "common/store/rocks_store.h"
#include "services/agent/replica_store/definition.h"
#include "services/agent/replica_store/raw_base.h"
#include "tests/support/temp_folder.h"
#include "tests/unit/replica_store/writes.h"

namespace farside::replica {
namespace {

constexpr std::uint32_t kBlocks = 16;

// While it lives, no file can be opened.
class NoDescriptors final {
 public:
  NoDescriptors() {
    EXPECT_EQ(getrlimit(RLIMIT_NOFILE, &before_), 0);
    const int next = open("/dev/null", O_RDONLY | O_CLOEXEC);
    close(next);
    const rlimit none{.rlim_cur = static_cast<rlim_t>(next), .rlim_max = before_.rlim_max};
    EXPECT_EQ(setrlimit(RLIMIT_NOFILE, &none), 0);
  }
  NoDescriptors(const NoDescriptors&) = delete;
  NoDescriptors& operator=(const NoDescriptors&) = delete;
  ~NoDescriptors() { EXPECT_EQ(setrlimit(RLIMIT_NOFILE, &before_), 0); }

 private:
  rlimit before_{};
};

// While it lives, `path` is elsewhere.
class Away final {
 public:
  explicit Away(std::string path) : path_(std::move(path)) {
    std::filesystem::rename(path_, path_ + ".away");
  }
  Away(const Away&) = delete;
  Away& operator=(const Away&) = delete;
  ~Away() { std::filesystem::rename(path_ + ".away", path_); }

 private:
  std::string path_;
};

// Raw ones on a volume that answers no read for a while.
class SickBases final : public BaseDisks {
 public:
  bool is_sick = false;
  Result<SharedBase> open(const std::string& folder, const std::string& disk) override {
    FARSIDE_ASSIGN(auto base, raw_bases().open(folder, disk));
    return std::make_shared<Sick>(std::move(base), is_sick);
  }
  Result<SharedBase> create(const std::string& folder, const std::string& disk,
                            std::uint64_t bytes) override {
    FARSIDE_ASSIGN(auto base, raw_bases().create(folder, disk, bytes));
    return std::make_shared<Sick>(std::move(base), is_sick);
  }
  Status remove(const std::string& folder) override { return raw_bases().remove(folder); }
  Status remove_disk(const std::string& folder, const std::string& disk) override {
    return raw_bases().remove_disk(folder, disk);
  }
  Result<bool> may_change(const std::string& folder, bool is_pinned) override {
    return raw_bases().may_change(folder, is_pinned);
  }

 private:
  class Sick final : public BaseDisk {
   public:
    Sick(SharedBase base, const bool& is_sick) : base_(std::move(base)), is_sick_(is_sick) {}
    Status read_at(std::uint64_t offset, std::span<char> to) override {
      if (is_sick_) return fail(ErrorCode::kIo, "read base: Input/output error");
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
    const bool& is_sick_;
  };
};

int open_segments() {
  int count = 0;
  for (const auto& each : std::filesystem::directory_iterator("/proc/self/fd")) {
    std::error_code gone;  // The folder's own descriptor.
    const auto file = std::filesystem::read_symlink(each, gone);
    if (file.extension() == ".seg") ++count;
  }
  return count;
}

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
  // Two segments; folding the point that comes next has read nothing of the second one.
  void fold_half() {
    delta({{0, 'b'}});
    delta({{1, 'c'}});
    open();
    delta({{2, 'd'}});
    delta({{3, 'e'}});
    ASSERT_TRUE(item_->drop_points({1, 2}));
    consolidate();
    ASSERT_TRUE(item_->digest_at(3)) << "the index has its files open";
    ASSERT_TRUE(item_->drop_points({3}));
  }
  void expect_whole() {
    EXPECT_EQ(item_->damaged(), 0U);
    EXPECT_TRUE(item_->take_findings().empty());
    consolidate();
    const auto scrubbed = item_->scrub("", 1000);
    ASSERT_TRUE(scrubbed) << scrubbed.error().what;
    EXPECT_TRUE(scrubbed->mismatches.empty());
    EXPECT_EQ(item_->damaged(), 0U);
    EXPECT_EQ(read(5, 0), pattern('b'));
    EXPECT_EQ(read(5, 1), pattern('c'));
    EXPECT_EQ(read(5, 2), pattern('d'));
    EXPECT_EQ(read(5, 3), pattern('e'));
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

// ---- what is no damage

TEST_F(DamageTest, TooManyOpenFilesAreNoDamage) {
  fold_half();
  {
    const NoDescriptors none;
    const auto folded = item_->consolidate(1000);
    ASSERT_FALSE(folded);
    EXPECT_EQ(folded.error().code, ErrorCode::kUnavailable) << folded.error().what;
    const auto scrubbed = item_->scrub("", 1000);
    ASSERT_FALSE(scrubbed);
    EXPECT_EQ(scrubbed.error().code, ErrorCode::kUnavailable) << scrubbed.error().what;
  }
  expect_whole();
}

TEST_F(DamageTest, SegmentsThatAreAwayAreNoDamage) {
  fold_half();
  {
    const Away away(folder_ / "item/segments");
    EXPECT_FALSE(item_->consolidate(1000));
    EXPECT_FALSE(item_->scrub("", 1000));
  }
  expect_whole();
}

TEST_F(DamageTest, AVolumeThatIsAwayIsNoDamage) {
  fold_half();
  {
    const Away away(folder_ / "item");
    const auto folded = item_->consolidate(1000);
    ASSERT_FALSE(folded);
    EXPECT_EQ(folded.error().code, ErrorCode::kUnavailable) << folded.error().what;
    const auto scrubbed = item_->scrub("", 1000);
    ASSERT_FALSE(scrubbed);
    EXPECT_EQ(scrubbed.error().code, ErrorCode::kUnavailable) << scrubbed.error().what;
  }
  expect_whole();
}

TEST_F(DamageTest, ABaseThatIsAwayIsNoDamage) {
  fold_half();
  open();
  {
    const Away away(base_path(folder_ / "item", "vda"));
    const auto scrubbed = item_->scrub("", 1000);
    ASSERT_FALSE(scrubbed);
    EXPECT_EQ(scrubbed.error().code, ErrorCode::kNotFound) << scrubbed.error().what;
  }
  expect_whole();
}

TEST_F(DamageTest, AVolumeThatAnswersNoReadForAWhileLosesNothing) {
  constexpr std::uint32_t kMany = 40;
  SickBases bases;
  limits_.bases = &bases;
  auto opened = Item::open(folder_ / "other", "other",
                           {{.name = "vda", .bytes = kMany * std::uint64_t{kBlockBytes}}}, limits_);
  ASSERT_TRUE(opened) << opened.error().what;
  item_ = std::move(*opened);
  std::vector<std::pair<std::uint32_t, char>> all;
  for (std::uint32_t block = 0; block < kMany; ++block) all.emplace_back(block, 'x');
  delta(all);

  bases.is_sick = true;
  for (int i = 0; i < 5; ++i) EXPECT_FALSE(item_->scrub("", 1000));
  EXPECT_EQ(item_->damaged(), 0U);
  bases.is_sick = false;

  EXPECT_TRUE(item_->scrub("", 1000));
  EXPECT_EQ(item_->damaged(), 0U);
  EXPECT_EQ(read(1, 7), pattern('x'));
  item_.reset();  // Before what it reads from.
}

TEST_F(DamageTest, ADefinitionThatCannotBeReadNowStays) {
  const auto packed = pack_definition({.platform = "sim", .text = "a machine"}).value();
  ASSERT_TRUE(item_->begin_delta({.cycle = "d", .epoch = 1, .definition = packed.digest}));
  ASSERT_TRUE(item_->keep_definition(packed.digest, packed.packed));
  ASSERT_TRUE(item_->commit_delta({.captured_at = 1, .epoch = 1}));
  {
    const NoDescriptors none;
    const auto scrubbed = item_->scrub("", 1000);
    ASSERT_FALSE(scrubbed);
    EXPECT_EQ(scrubbed.error().code, ErrorCode::kUnavailable) << scrubbed.error().what;
  }
  EXPECT_TRUE(item_->has_definition(packed.digest));
  EXPECT_TRUE(item_->scrub("", 1000).value().mismatches.empty());
}

// Written by somebody newer, say: its content has the digest that it should have.
TEST_F(DamageTest, ADefinitionThatIsNotUnderstoodStays) {
  const std::string bytes = "in a form of tomorrow";
  std::string packed(ZSTD_compressBound(bytes.size()), '\0');
  packed.resize(ZSTD_compress(packed.data(), packed.size(), bytes.data(), bytes.size(), 1));
  const std::string digest = sha256_hex(bytes);
  const std::string path = folder_ / "item/definitions/" + digest;
  std::filesystem::create_directories(folder_ / "item/definitions");
  ASSERT_TRUE(replace_file(path, packed));
  ASSERT_TRUE(item_->begin_delta({.cycle = "d", .epoch = 1, .definition = digest}));
  ASSERT_TRUE(item_->commit_delta({.captured_at = 1, .epoch = 1}));

  EXPECT_EQ(item_->scrub("", 1000).value().mismatches.size(), 1U);

  EXPECT_TRUE(std::filesystem::exists(path));
}

TEST_F(DamageTest, WhatFoldingFoundIsToldThoughScrubFails) {
  delta({{0, 'b'}});
  delta({{1, 'c'}});
  rot(0);
  delta({{2, 'd'}});
  ASSERT_TRUE(item_->drop_points({1}));
  consolidate();
  {
    const Away away(folder_ / "item/segments");
    ASSERT_FALSE(item_->scrub("", 1000));
  }
  EXPECT_EQ(item_->take_findings().size(), 1U);
}

TEST_F(DamageTest, ALargeJournalKeepsFewSegmentsOpen) {
  limits_.segment_bytes = kBlockBytes;  // One block in each.
  open();
  for (char c = 'b'; c < 'i'; ++c) {
    std::vector<std::pair<std::uint32_t, char>> all;
    for (std::uint32_t block = 0; block < kBlocks; ++block) all.emplace_back(block, c);
    delta(all);
  }
  const std::filesystem::directory_iterator segments(folder_ / "item/segments");
  ASSERT_GT(std::distance(begin(segments), end(segments)), 100);

  ASSERT_TRUE(item_->scrub("", 1000).value().mismatches.empty());

  EXPECT_LE(open_segments(), 66) << "its own, and the one that is written to";
  EXPECT_EQ(read(2, 0), pattern('b')) << "one that was closed is opened again";
}

TEST_F(DamageTest, AnItemThatWasHalfLoadedIsNotReady) {
  // An error half way closes the item: the base of the second disk cannot be made.
  std::filesystem::create_directories(base_path(folder_ / "item", "vdb") + "/full");
  const std::uint64_t bytes = kBlocks * std::uint64_t{kBlockBytes};
  ASSERT_FALSE(item_->place({{.name = "vda", .bytes = bytes}, {.name = "vdb", .bytes = bytes}}));
  const std::string key = to_key(BlockKey{.disk = 0, .block = 0, .seq = 1});
  {
    auto index = store::RocksStore::open(folder_ / "item/index");
    ASSERT_TRUE(index) << index.error().what;
    store::Batch batch;
    batch.put(replica::kBlocks, key, "no entry");
    batch.put(kDamaged, key, "");
    ASSERT_TRUE((*index)->commit(batch));
  }
  ASSERT_FALSE(item_->flush());

  EXPECT_FALSE(item_->flush()) << "nor at the next call";
}

}  // namespace
}  // namespace farside::replica
