// What lies above the base disks, and base disks that may not be written to.
#include <gtest/gtest.h>

#include <map>

#include "services/agent/replica_store/item.h"
#include "tests/support/temp_folder.h"
#include "tests/unit/replica_store/writes.h"

namespace farside::replica {
namespace {

// Raw files of which a VM may hold the pen away.
class HeldBases final : public BaseDisks {
 public:
  Result<SharedBase> open(const std::string& folder, const std::string& disk) override {
    return raw_bases().open(folder, disk);
  }
  Result<SharedBase> create(const std::string& folder, const std::string& disk,
                            std::uint64_t bytes) override {
    return raw_bases().create(folder, disk, bytes);
  }
  Status remove(const std::string& folder) override { return raw_bases().remove(folder); }
  Status remove_disk(const std::string& folder, const std::string& disk) override {
    return raw_bases().remove_disk(folder, disk);
  }
  Result<bool> may_change(const std::string&, bool is_pinned) override {
    return !is_held && !is_pinned;
  }

  bool are_read_directly() const override { return true; }

  bool is_held = false;
};

class AboveBaseTest : public testing::Test {
 protected:
  void SetUp() override {
    limits_.reserve_bytes = 1;
    limits_.bases = &bases_;
    open();
  }

  void open() {
    item_.reset();
    auto opened = Item::open(folder_ / "item", "web",
                             {{.name = "vda", .bytes = 10 * kBlockBytes + 512}}, limits_);
    ASSERT_TRUE(opened) << opened.error().what;
    item_ = std::move(*opened);
  }

  void stage(const std::map<std::uint32_t, char>& blocks) {
    Writes writes;
    for (const auto& [block, c] : blocks) {
      writes.add(0, block, pattern(c, length_of(10 * kBlockBytes + 512, block)));
    }
    ASSERT_TRUE(item_->begin_delta({.cycle = "cycle", .epoch = 1}));
    ASSERT_TRUE(item_->append(writes.list()));
  }
  // Of the delta under way, after it has reached the index.
  void take_back(std::uint32_t block) {
    ASSERT_TRUE(item_->flush());
    BlockSet one(11);
    one.add(block);
    ASSERT_TRUE(item_->unstage(0, one));
  }
  void commit(std::uint64_t blocks) {
    ASSERT_TRUE(
        item_->commit_delta({.captured_at = 1, .attempt = "a", .epoch = 1, .blocks = blocks}));
  }
  // First byte of each visited block; 0 is said as '0'.
  std::map<std::uint32_t, char> above(std::uint64_t seq) {
    std::map<std::uint32_t, char> seen;
    const Status visited = item_->for_each_above_base(
        0, seq, [&](std::uint64_t offset, std::uint32_t length, std::string_view bytes) -> Status {
          const auto block = static_cast<std::uint32_t>(offset / kBlockBytes);
          EXPECT_EQ(length, length_of(10 * kBlockBytes + 512, block));
          EXPECT_TRUE(bytes.empty() || bytes.size() == length);
          seen[block] = bytes.empty() ? '0' : bytes[0];
          return {};
        });
    EXPECT_TRUE(visited) << visited.error().what;
    return seen;
  }
  std::string base(std::uint32_t block) {
    std::string bytes(kBlockBytes, '?');
    const auto disk = bases_.open(folder_ / "item", "vda");
    EXPECT_TRUE((*disk)->read_at(std::uint64_t{block} * kBlockBytes, bytes));
    return bytes;
  }
  void consolidate() {
    for (auto more = item_->consolidate(4);; more = item_->consolidate(4)) {
      ASSERT_TRUE(more) << more.error().what;
      if (!*more) return;
    }
  }

  using Seen = std::map<std::uint32_t, char>;
  test::TempFolder folder_;
  HeldBases bases_;
  Limits limits_;
  std::unique_ptr<Item> item_;
};

TEST_F(AboveBaseTest, AreTheBlocksThatSegmentsHoldOrThatBecameZero) {
  stage({{0, 'a'}, {1, 'b'}, {10, 'c'}});
  commit(3);
  stage({{1, '\0'}, {2, 'd'}, {10, 'e'}});
  commit(3);
  stage({{2, 'f'}});
  commit(1);

  EXPECT_EQ(above(1), Seen{}) << "the first delta is the base";
  EXPECT_EQ(above(2), (Seen{{1, '0'}, {2, 'd'}, {10, 'e'}}));
  EXPECT_EQ(above(3), (Seen{{1, '0'}, {2, 'f'}, {10, 'e'}}));
  EXPECT_FALSE(item_->for_each_above_base(0, 9, [](auto, auto, auto) { return Status(); }));
}

TEST_F(AboveBaseTest, ABlockThatWasTakenBackFromTheFirstDeltaIsZero) {
  stage({{0, 'a'}, {1, 'b'}});
  take_back(1);
  commit(1);

  EXPECT_EQ(above(1), Seen{});
  EXPECT_EQ(base(1), pattern('\0')) << "the base has its bytes no more";
  std::string bytes(kBlockBytes, '?');
  ASSERT_TRUE(item_->read(0, 1, kBlockBytes, bytes));
  EXPECT_EQ(bytes, pattern('\0'));
}

TEST_F(AboveBaseTest, ACrashBeforeTheBaseLostWhatWasTakenBackIsMadeUpFor) {
  stage({{0, 'a'}, {1, 'b'}});
  take_back(1);
  const auto disk = bases_.open(folder_ / "item", "vda");
  ASSERT_TRUE((*disk)->write_at(kBlockBytes, pattern('b'))) << "as it was before it was punched";

  open();
  ASSERT_TRUE((*disk)->write_at(2 * kBlockBytes, pattern('c'))) << "as of a write that was lost";
  ASSERT_TRUE((*disk)->write_at(3 * kBlockBytes, pattern('d')));
  stage({{1, '\0'}, {3, '\0'}});  // Zeroed meanwhile.
  commit(3);

  EXPECT_EQ(base(0), pattern('a'));
  for (const std::uint32_t block : {1U, 2U, 3U}) EXPECT_EQ(base(block), pattern('\0')) << block;
  EXPECT_EQ(above(1), Seen{});
}

TEST_F(AboveBaseTest, NothingIsFoldedIntoABaseThatIsHeld) {
  stage({{0, 'a'}});
  commit(1);
  stage({{0, 'b'}});
  commit(1);
  ASSERT_TRUE(item_->drop_points({1}));

  bases_.is_held = true;
  consolidate();
  EXPECT_EQ(base(0), pattern('a'));
  bases_.is_held = false;
  ASSERT_TRUE(item_->pin("test", 2));
  consolidate();
  EXPECT_EQ(base(0), pattern('a')) << "nor while a view is open";
  EXPECT_EQ(above(2), (Seen{{0, 'b'}}));

  ASSERT_TRUE(item_->unpin("test"));
  consolidate();
  EXPECT_EQ(base(0), pattern('b'));
  EXPECT_EQ(above(2), Seen{});
}

}  // namespace
}  // namespace farside::replica
