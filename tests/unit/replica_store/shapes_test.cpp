// Which disks a point has, how large they are and what its VM was like belong to the point.
#include <gtest/gtest.h>
#include <zstd.h>

#include <cstring>
#include <filesystem>
#include <map>

#include "common/base/sha256.h"
#include "services/agent/replica_store/definition.h"
#include "services/agent/replica_store/item.h"
#include "tests/support/temp_folder.h"
#include "tests/unit/replica_store/writes.h"

namespace farside::replica {
namespace {

using Disks = std::vector<Item::DiskAt>;

class ShapesTest : public testing::Test {
 protected:
  void SetUp() override {
    limits_.reserve_bytes = 1;
    open();
  }

  void open() {
    item_.reset();
    auto opened = Item::open(folder_ / "item", "web", {}, limits_);
    ASSERT_TRUE(opened) << opened.error().what;
    item_ = std::move(*opened);
  }

  Result<DeltaState> begin(std::vector<msg::ReplicaDisk> disks, bool compare = false,
                           const std::string& definition = "") {
    return item_->begin_delta({.cycle = "c" + std::to_string(++cycle_),
                               .epoch = 1,
                               .keep_any = compare,
                               .disks = std::move(disks),
                               .definition = definition});
  }

  // A point of these disks, with one block of each.
  void point(const std::vector<msg::ReplicaDisk>& disks, char c, bool compare = false,
             const std::string& definition = "") {
    const auto state = begin(disks, compare, definition);
    ASSERT_TRUE(state) << state.error().what;
    Writes writes;
    for (const std::uint16_t number : state->numbers) writes.add(number, 0, pattern(c));
    ASSERT_TRUE(item_->append(writes.list()));
    const auto committed =
        item_->commit_delta({.captured_at = ++now_, .epoch = 1, .blocks = disks.size()});
    ASSERT_TRUE(committed) << committed.error().what;
  }

  std::map<std::string, std::uint64_t> sizes(std::uint64_t seq) {
    std::map<std::string, std::uint64_t> out;
    const auto disks = item_->disks_at(seq);
    EXPECT_TRUE(disks);
    for (const auto& each : disks.value_or(Disks{})) out[each.disk.name] = each.disk.bytes;
    return out;
  }
  std::uint16_t number(std::uint64_t seq, const std::string& name) {
    for (const auto& each : item_->disks_at(seq).value_or(Disks{})) {
      if (each.disk.name == name) return each.number;
    }
    ADD_FAILURE() << "point " << seq << " has no disk " << name;
    return 999;
  }
  std::string digest(std::uint64_t seq) { return item_->digest_at(seq).value_or("none"); }
  std::size_t definition_files() const {
    std::size_t n = 0;
    std::error_code error;
    for ([[maybe_unused]] const auto& file :
         std::filesystem::directory_iterator(folder_ / "item/definitions", error)) {
      ++n;
    }
    return n;
  }

  test::TempFolder folder_;
  Limits limits_;
  int cycle_ = 0;
  std::int64_t now_ = 0;
  const msg::ReplicaDisk vda_{.name = "vda", .bytes = 4 * kBlockBytes, .id = "serial:a"};
  const msg::ReplicaDisk vdb_{.name = "vdb", .bytes = 2 * kBlockBytes, .id = "serial:b"};
  std::unique_ptr<Item> item_;
};

TEST_F(ShapesTest, ADiskOfAnImpossibleSizeIsRefused) {
  const auto opened = Item::open(folder_ / "huge", "web",
                                 {{.name = "vda", .bytes = std::uint64_t{1} << 62U}}, limits_);
  ASSERT_FALSE(opened);
  EXPECT_EQ(opened.error().code, ErrorCode::kTooLarge);
}

// Which is which would be chance, from point to point.
TEST_F(ShapesTest, TwoDisksOfOneIdentityAreRefused) {
  const auto state = begin({{.name = "vda", .bytes = kBlockBytes, .id = "serial:S"},
                            {.name = "vdb", .bytes = kBlockBytes, .id = "serial:S"}});

  ASSERT_FALSE(state);
  EXPECT_EQ(state.error().code, ErrorCode::kUnsupported);
  EXPECT_NE(state.error().what.find("serial:S"), std::string::npos);
}

// Each block of each disk takes a bit of memory here, whatever a source says of its size.
TEST_F(ShapesTest, AllDisksOfAReplicaHaveASumOfSizes) {
  constexpr std::uint64_t kTib = std::uint64_t{1} << 40U;
  std::vector<msg::ReplicaDisk> disks;
  for (const char* name : {"vda", "vdb", "vdc", "vdd", "vde"}) {
    disks.push_back({.name = name, .bytes = 60 * kTib, .id = name});
  }

  const auto state = begin(disks);

  ASSERT_FALSE(state);
  EXPECT_EQ(state.error().code, ErrorCode::kTooLarge);
  EXPECT_NE(state.error().what.find("300 TiB"), std::string::npos) << state.error().what;
  point({{.name = "vda", .bytes = kBlockBytes}}, 'a');
}

TEST_F(ShapesTest, ADiskThatLeftIsNoPartOfLaterPointsAndStaysInOlderOnes) {
  point({vda_, vdb_}, 'x');
  const std::string both = digest(1);

  point({vda_}, 'y');

  EXPECT_EQ(sizes(1).size(), 2U);
  EXPECT_EQ(sizes(2), (std::map<std::string, std::uint64_t>{{"vda", 4 * kBlockBytes}}));
  EXPECT_EQ(digest(1), both);
  EXPECT_NE(digest(2), both);
}

TEST_F(ShapesTest, AFullVolumeKeepsNeitherADiskThatIsGoneNorWhatIsZero) {
  point({vda_, vdb_}, 'x');
  point({vda_, vdb_}, 'y');
  ASSERT_TRUE(begin({vda_}));
  Writes zero;
  zero.add(0, 1, {});
  ASSERT_TRUE(item_->append(zero.list()));
  ASSERT_TRUE(item_->commit_delta({.captured_at = ++now_, .epoch = 1, .blocks = 1}));
  limits_.free_bytes = [](const std::string&) { return std::uint64_t{0}; };
  open();
  ASSERT_TRUE(item_->drop_points({1, 2}));

  Result<bool> more = true;
  while (more && *more) more = item_->consolidate(1);

  ASSERT_FALSE(more);
  EXPECT_EQ(more.error().code, ErrorCode::kNoSpace) << "a block of vda waits for room";
  EXPECT_FALSE(std::filesystem::exists(folder_ / "item/base-vdb.raw"));
  limits_.free_bytes = free_bytes;
  open();
  for (more = true; more && *more;) more = item_->consolidate(1);
  ASSERT_TRUE(more) << more.error().what;
  EXPECT_EQ(item_->usage().dropped, 0U);
}

TEST_F(ShapesTest, AFullVolumeTakesWhatNeedsNoRoomInTheBase) {
  point({vda_}, 'x');
  point({vda_}, '\0');
  limits_.free_bytes = [](const std::string&) { return std::uint64_t{0}; };
  open();
  ASSERT_TRUE(item_->drop_points({1}));

  Result<bool> more = true;
  while (more && *more) more = item_->consolidate(1);

  ASSERT_TRUE(more) << more.error().what;
  EXPECT_EQ(item_->usage().dropped, 0U);
}

TEST_F(ShapesTest, WhatADiskHadGoesWithTheLastPointThatHasIt) {
  point({vda_, vdb_}, 'x');
  point({vda_, vdb_}, 'y');
  point({vda_}, 'z');
  const auto consolidate = [&] {
    for (;;) {
      const auto more = item_->consolidate(1);
      ASSERT_TRUE(more) << more.error().what;
      if (!*more) return;
    }
  };
  const auto has_base = [&](const char* name) {
    return std::filesystem::exists(folder_ / "item/base-" + name + ".raw");
  };
  ASSERT_TRUE(item_->drop_points({1}));
  consolidate();
  EXPECT_TRUE(has_base("vdb")) << "point 2 has it";
  EXPECT_EQ(sizes(2).size(), 2U);
  ASSERT_TRUE(item_->pin("test", 2));
  EXPECT_FALSE(item_->drop_points({2}));
  ASSERT_TRUE(item_->unpin("test"));

  ASSERT_TRUE(item_->drop_points({2}));
  consolidate();

  EXPECT_FALSE(has_base("vdb"));
  EXPECT_TRUE(has_base("vda"));
  EXPECT_EQ(item_->usage().live_bytes, 0U);
  open();
  const msg::ReplicaDisk other{.name = "vdb", .bytes = kBlockBytes, .id = "serial:other"};
  point({vda_, other}, 'o', /*compare=*/true);
  EXPECT_EQ(number(4, "vdb"), 1U) << "the number is another's now";
  std::string bytes(kBlockBytes, '?');
  ASSERT_TRUE(item_->read(1, 4, 0, bytes));
  EXPECT_EQ(bytes, pattern('o'));
  EXPECT_EQ(sizes(3).size(), 1U);
  EXPECT_TRUE(item_->scrub("", 1000).value().mismatches.empty());
}

TEST_F(ShapesTest, ADiskThatGrowsChangesNoOlderPoint) {
  const msg::ReplicaDisk odd{.name = "vda", .bytes = kBlockBytes + 512, .id = "serial:a"};
  point({odd}, 'x');
  const std::string small = digest(1);
  msg::ReplicaDisk grown = odd;
  grown.bytes = 5 * kBlockBytes;

  point({grown}, 'y');
  open();

  EXPECT_EQ(digest(1), small);
  EXPECT_EQ(sizes(1).at("vda"), kBlockBytes + 512);
  EXPECT_EQ(sizes(2).at("vda"), 5 * kBlockBytes);
  EXPECT_EQ(number(1, "vda"), number(2, "vda")) << "its blocks are not sent again";
  std::string tail(512, '?');
  EXPECT_TRUE(item_->read(number(2, "vda"), 2, 5 * kBlockBytes - 512, tail));
  EXPECT_EQ(tail, std::string(512, '\0'));
  EXPECT_FALSE(item_->read(number(1, "vda"), 1, 2 * kBlockBytes, tail)) << "not there yet then";
}

TEST_F(ShapesTest, ADiskIsKnownByItsIdentityWhateverItIsCalled) {
  point({vda_, vdb_}, 'x');
  msg::ReplicaDisk renamed = vdb_;
  renamed.name = "sda";

  point({vda_, renamed}, 'y');

  EXPECT_EQ(number(2, "sda"), number(1, "vdb"));
  EXPECT_FALSE(sizes(2).contains("vdb"));
}

TEST_F(ShapesTest, ASmallerDiskUnderAnOldNameIsAnother) {
  point({vda_, vdb_}, 'x');
  const std::string before = digest(1);
  const msg::ReplicaDisk smaller{.name = "vdb", .bytes = kBlockBytes, .id = "serial:c"};

  const auto counted = begin({vda_, smaller});
  point({vda_, smaller}, 'z', /*compare=*/true);

  ASSERT_FALSE(counted) << "changes cannot count from a point that lacks it";
  EXPECT_EQ(counted.error().code, ErrorCode::kTrackingLost);
  EXPECT_NE(number(2, "vdb"), number(1, "vdb"));
  EXPECT_EQ(digest(1), before);
  EXPECT_EQ(sizes(2).at("vdb"), kBlockBytes);
}

TEST_F(ShapesTest, ANewDiskTakesAComparisonAndThenItsChanges) {
  point({vda_}, 'x');

  EXPECT_EQ(begin({vda_, vdb_}).error().code, ErrorCode::kTrackingLost);
  point({vda_, vdb_}, 'y', /*compare=*/true);
  point({vda_, vdb_}, 'z');

  EXPECT_EQ(sizes(1).size(), 1U);
  EXPECT_EQ(sizes(3).size(), 2U);
}

TEST_F(ShapesTest, BlocksOfADiskThatLeftBetweenTwoAttemptsCountNoLonger) {
  const auto both = begin({vda_, vdb_});
  ASSERT_TRUE(both);
  Writes writes;
  for (const std::uint16_t number : both->numbers) writes.add(number, 1, pattern('a'));
  ASSERT_TRUE(item_->append(writes.list()));
  ASSERT_TRUE(item_->flush());

  const auto again = item_->begin_delta({.cycle = "c1", .epoch = 1, .disks = {vda_}});

  ASSERT_TRUE(again);
  EXPECT_EQ(again->staged, 1U);
  EXPECT_TRUE(item_->commit_delta({.captured_at = 1, .epoch = 1, .blocks = 1}));
}

TEST_F(ShapesTest, TheDefinitionOfThePointIsKeptByContent) {
  const msg::VmDefinition small{.platform = "libvirt", .shape = {.name = "web", .memory_mib = 160}};
  msg::VmDefinition large = small;
  large.shape.memory_mib = 224;
  large.nvram = std::string(540'672, '\xff');
  const auto first = pack_definition(small).value();
  const auto second = pack_definition(large).value();
  ASSERT_TRUE(item_->place({vda_}));
  ASSERT_TRUE(item_->keep_definition(first.digest, first.packed));
  ASSERT_TRUE(item_->keep_definition(second.digest, second.packed));

  for (const auto& [c, digest] : {std::pair{'a', first.digest},
                                  {'b', first.digest},
                                  {'c', second.digest},
                                  {'d', second.digest}}) {
    point({vda_}, c, false, digest);
  }
  open();

  EXPECT_EQ(item_->definition_at(2), small);
  EXPECT_EQ(item_->definition_at(3), large);
  EXPECT_EQ(definition_files(), 2U);
  ASSERT_TRUE(item_->drop_points({1, 2}));
  EXPECT_EQ(definition_files(), 1U) << "nobody names the older one any more";
  EXPECT_EQ(item_->definition_at(4), large);
}

TEST_F(ShapesTest, APointWhoseDefinitionIsNotHereIsRefused) {
  const auto packed = pack_definition({.platform = "libvirt", .text = "<domain/>"}).value();
  ASSERT_TRUE(begin({vda_}, false, packed.digest));

  const auto committed = item_->commit_delta({.captured_at = 1, .epoch = 1, .blocks = 0});

  ASSERT_FALSE(committed);
  EXPECT_EQ(committed.error().code, ErrorCode::kConflict);
}

TEST_F(ShapesTest, ADefinitionOfAnotherDigestOrSizeIsRefused) {
  const auto one = pack_definition({.platform = "libvirt", .text = "one"}).value();
  const auto other = pack_definition({.platform = "libvirt", .text = "other"}).value();
  const std::string text(kDefinitionBytesMax, 'x');

  EXPECT_EQ(item_->keep_definition(one.digest, other.packed).error().code, ErrorCode::kCorrupt);
  EXPECT_EQ(item_->keep_definition(one.digest, "noise").error().code, ErrorCode::kCorrupt);
  EXPECT_EQ(item_->keep_definition("../../etc/passwd", one.packed).error().code,
            ErrorCode::kInvalidArgument);
  EXPECT_EQ(pack_definition({.text = text}).error().code, ErrorCode::kTooLarge);
}

TEST_F(ShapesTest, OfDefinitionsThatNoPointNamesOnlyAFewStay) {
  const auto named = pack_definition({.platform = "libvirt", .text = "named"}).value();
  ASSERT_TRUE(item_->place({vda_}));
  ASSERT_TRUE(item_->keep_definition(named.digest, named.packed));
  point({vda_}, 'x', false, named.digest);
  std::string last;
  for (int i = 0; i < 50; ++i) {
    const auto each = pack_definition({.platform = "libvirt", .text = std::to_string(i)}).value();
    last = each.digest;
    ASSERT_TRUE(begin({vda_}, false, last));
    ASSERT_TRUE(item_->keep_definition(last, each.packed));
    ASSERT_LE(definition_files(), 5U) << "after " << i;
  }

  EXPECT_TRUE(item_->has_definition(last));
  EXPECT_TRUE(item_->has_definition(named.digest));
  EXPECT_TRUE(item_->commit_delta({.captured_at = ++now_, .epoch = 1, .blocks = 0}));
}

TEST_F(ShapesTest, ADefinitionTakesNothingOfTheReserve) {
  point({vda_}, 'x');
  const auto packed = pack_definition({.platform = "libvirt", .text = "<domain/>"}).value();
  limits_.reserve_bytes = 1'000;
  limits_.free_bytes = [&](const std::string&) { return 1'000 + packed.packed.size() - 1; };
  open();

  const auto kept = item_->keep_definition(packed.digest, packed.packed);

  ASSERT_FALSE(kept);
  EXPECT_EQ(kept.error().code, ErrorCode::kNoSpace);
  EXPECT_EQ(definition_files(), 0U);
}

// A few hundred bytes that unpack to 4 MiB, with half a million empty disks in them.
// Source: Cap'n Proto, encoding.md, "Structs", "Lists".
TEST_F(ShapesTest, ADefinitionThatBecomesTooLargeInMemoryIsRefused) {
  std::vector<std::uint64_t> words(kDefinitionBytesMax / 8);
  words[0] = std::uint64_t{words.size() - 1} << 32U;  // One segment, so many words.
  words[1] = std::uint64_t{5} << 48U;                 // A VmDefinition: five pointers.
  words[3] = (std::uint64_t{3} << 48U) | 3U << 2U;    // Its shape, in word 7: three.
  words[9] = (std::uint64_t{7} << 32U) | 1U;          // Of which the last is its disks,
  words[10] = std::uint64_t{500'000} << 2U;           // of no words each.
  std::string bytes(words.size() * 8, '\0');
  std::memcpy(bytes.data(), words.data(), bytes.size());
  std::string packed(ZSTD_compressBound(bytes.size()), '\0');
  packed.resize(ZSTD_compress(packed.data(), packed.size(), bytes.data(), bytes.size(), 3));

  const auto kept = item_->keep_definition(sha256_hex(bytes), packed);

  EXPECT_LT(packed.size(), 4096U);
  ASSERT_FALSE(kept);
  EXPECT_NE(kept.error().what.find("too large"), std::string::npos) << kept.error().what;
}

TEST_F(ShapesTest, AReplicaWhoseFolderVanishedIsNotBegunAnewByADefinition) {
  point({vda_}, 'x');
  const auto packed = pack_definition({.platform = "libvirt", .text = "<domain/>"}).value();
  std::filesystem::rename(folder_ / "item", folder_ / "away");

  const auto kept = item_->keep_definition(packed.digest, packed.packed);

  ASSERT_FALSE(kept);
  EXPECT_EQ(kept.error().code, ErrorCode::kUnavailable);
  EXPECT_FALSE(std::filesystem::exists(folder_ / "item"));
  std::filesystem::rename(folder_ / "away", folder_ / "item");
}

TEST_F(ShapesTest, TooManyDisksAndTwoOfOneNameAreRefused) {
  std::vector<msg::ReplicaDisk> many;
  for (int i = 0; i < 65; ++i) many.push_back({.name = "d" + std::to_string(i), .bytes = 512});

  EXPECT_EQ(begin(many).error().code, ErrorCode::kTooLarge);
  EXPECT_EQ(begin({vda_, vda_}).error().code, ErrorCode::kInvalidArgument);
  EXPECT_EQ(begin({{.name = "../x", .bytes = 512}}).error().code, ErrorCode::kInvalidArgument);
}

}  // namespace
}  // namespace farside::replica
