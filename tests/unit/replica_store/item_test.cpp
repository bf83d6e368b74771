#include "services/agent/replica_store/item.h"

#include <gtest/gtest.h>

#include <filesystem>

#include "tests/support/temp_folder.h"
#include "tests/unit/replica_store/writes.h"

namespace farside::replica {
namespace {

class ItemTest : public testing::Test {
 protected:
  void SetUp() override {
    limits_.reserve_bytes = 1;
    open();
  }

  void open() {
    item_.reset();
    auto opened = Item::open(folder_ / "item", "web", disks_, limits_);
    ASSERT_TRUE(opened) << opened.error().what;
    item_ = std::move(*opened);
  }

  Result<DeltaState> begin(const std::string& cycle, std::uint64_t epoch = 1) {
    return item_->begin_delta({.cycle = cycle, .epoch = epoch});
  }
  Status put(std::uint32_t block, const std::string& plain, std::uint16_t disk = 0) {
    Writes writes;
    writes.add(disk, block, plain);
    return item_->append(writes.list());
  }
  Result<msg::RecoveryPoint> commit(std::uint64_t blocks, std::uint64_t epoch = 1,
                                    const std::string& attempt = "a") {
    return item_->commit_delta(
        {.captured_at = 1, .attempt = attempt, .epoch = epoch, .blocks = blocks});
  }
  std::string read(std::uint64_t seq, std::uint32_t block, std::uint16_t disk = 0) {
    std::string out(length_of(disks_[disk].bytes, block), '?');
    const Status read = item_->read(disk, seq, std::uint64_t{block} * kBlockBytes, out);
    EXPECT_TRUE(read) << read.error().what;
    return out;
  }
  void delta(std::uint32_t block, char c) {
    ASSERT_TRUE(begin("cycle"));
    ASSERT_TRUE(put(block, pattern(c)));
    ASSERT_TRUE(commit(1));
  }
  void consolidate() {
    for (;;) {
      const auto more = item_->consolidate(2);
      ASSERT_TRUE(more) << more.error().what;
      if (!*more) return;
    }
  }
  std::size_t segment_files() const {
    std::size_t n = 0;
    for ([[maybe_unused]] const auto& file :
         std::filesystem::directory_iterator(folder_ / "item/segments")) {
      ++n;
    }
    return n;
  }

  test::TempFolder folder_;
  Limits limits_;
  std::vector<msg::ReplicaDisk> disks_{{.name = "vda", .bytes = 10 * kBlockBytes + 512},
                                       {.name = "vdb", .bytes = 3 * kBlockBytes}};
  std::unique_ptr<Item> item_;
};

TEST_F(ItemTest, EachPointShowsItsOwnState) {
  ASSERT_TRUE(begin("c1"));
  ASSERT_TRUE(put(0, pattern('a')));
  ASSERT_TRUE(put(10, pattern('t', 512)));
  ASSERT_TRUE(put(2, pattern('z'), 1));
  ASSERT_EQ(commit(3).value().seq, 1U);
  ASSERT_TRUE(begin("c2"));
  ASSERT_TRUE(put(0, pattern('\0')));
  ASSERT_EQ(commit(1).value().seq, 2U);

  EXPECT_EQ(read(1, 0), pattern('a'));
  EXPECT_EQ(read(2, 0), pattern('\0'));
  EXPECT_EQ(read(2, 10), pattern('t', 512));
  EXPECT_EQ(read(1, 2, 1), pattern('z'));
  EXPECT_EQ(read(1, 5), pattern('\0'));
  EXPECT_NE(item_->digest_at(1).value(), item_->digest_at(2).value());
}

TEST_F(ItemTest, NamesOfAttemptsAreShort) {
  const std::string longest(256, 'a');
  const auto named = begin(longest + "a");
  ASSERT_FALSE(named);
  EXPECT_EQ(named.error().code, ErrorCode::kInvalidArgument);

  ASSERT_TRUE(begin(longest));
  const auto refused = commit(0, 1, longest + "a");
  ASSERT_FALSE(refused);
  EXPECT_EQ(refused.error().code, ErrorCode::kInvalidArgument);
  EXPECT_TRUE(commit(0, 1, longest));
}

TEST_F(ItemTest, ThePointsThatAreListedAreTheNewest) {
  for (std::uint32_t i = 0; i < 4; ++i) delta(i, 'x');

  const auto two = item_->newest_points(2);

  ASSERT_EQ(two.size(), 2U);
  EXPECT_EQ(two[0].seq, 3U);
  EXPECT_EQ(two[1].seq, 4U);
  EXPECT_EQ(item_->newest_points(9), item_->points());
}

TEST_F(ItemTest, AnUnfinishedDeltaIsInvisible) {
  delta(0, 'a');
  ASSERT_TRUE(begin("c2"));
  ASSERT_TRUE(put(0, pattern('b')));
  ASSERT_TRUE(item_->flush());
  const std::string digest = item_->digest_at(1).value();

  open();

  EXPECT_EQ(item_->newest().seq, 1U);
  EXPECT_EQ(read(1, 0), pattern('a'));
  EXPECT_EQ(item_->digest_at(1).value(), digest);
  std::string buffer(512, '?');
  EXPECT_EQ(item_->read(0, 2, 0, buffer).error().code, ErrorCode::kNotFound);
}

TEST_F(ItemTest, AnInterruptedDeltaGoesOnWhereItWasFlushed) {
  ASSERT_TRUE(begin("c1"));
  ASSERT_TRUE(put(0, pattern('a')));
  ASSERT_TRUE(put(1, pattern('b')));
  ASSERT_TRUE(item_->flush());
  ASSERT_TRUE(put(2, pattern('c')));

  open();  // The process died: block 2 was not flushed.
  const auto state = begin("c1");

  ASSERT_TRUE(state);
  EXPECT_EQ(state->staged, 2U);
  EXPECT_TRUE(item_->staged(0).value().has(1));
  EXPECT_FALSE(item_->staged(0).value().has(2));
  ASSERT_TRUE(put(2, pattern('c')));
  const auto point = commit(3);
  ASSERT_TRUE(point) << point.error().what;
  EXPECT_EQ(read(1, 0), pattern('a'));
  EXPECT_EQ(read(1, 2), pattern('c'));
}

TEST_F(ItemTest, StagedBlocksOfAnotherCycleAreNotMixedIn) {
  ASSERT_TRUE(begin("c1"));
  ASSERT_TRUE(put(0, pattern('a')));

  const auto other = begin("c2");

  ASSERT_TRUE(other);
  EXPECT_EQ(other->staged, 0U);
  ASSERT_TRUE(put(1, pattern('b')));
  ASSERT_TRUE(commit(1));
  EXPECT_EQ(read(1, 0), pattern('\0'));
}

TEST_F(ItemTest, AResyncKeepsBlocksOfAnyCycleAndSeesTheirHashes) {
  delta(3, 'x');
  ASSERT_TRUE(begin("c1"));
  ASSERT_TRUE(put(0, pattern('a')));

  const auto state = item_->begin_delta({.cycle = "c2", .epoch = 1, .keep_any = true});

  ASSERT_TRUE(state);
  EXPECT_EQ(state->staged, 1U);
  const auto hashes = item_->newest_hashes(0, 0, 11).value();
  EXPECT_EQ(hashes[0], hash_of(pattern('a')));
  EXPECT_EQ(hashes[3], hash_of(pattern('x')));
  EXPECT_EQ(hashes[4], zero_hash());
  EXPECT_EQ(hashes[10], zero_hash()) << "beyond the end of a disk its last block has zeros";
}

TEST_F(ItemTest, TheFirstDeltaGoesStraightToTheBaseDisk) {
  ASSERT_TRUE(begin("c1"));
  ASSERT_TRUE(put(0, pattern('a')));
  ASSERT_TRUE(put(1, pattern('b')));
  ASSERT_TRUE(item_->flush());
  open();
  ASSERT_EQ(begin("c1").value().staged, 2U) << "it resumes like any other";
  ASSERT_TRUE(put(1, pattern('c')));
  EXPECT_EQ(item_->newest().seq, 0U) << "nothing is visible before the commit";
  ASSERT_TRUE(commit(2));

  EXPECT_EQ(segment_files(), 0U);
  EXPECT_EQ(read(1, 0), pattern('a'));
  EXPECT_EQ(read(1, 1), pattern('c'));
  EXPECT_EQ(read_file(folder_ / "item/base-vda.raw").value().substr(0, kBlockBytes), pattern('a'));

  delta(0, 'd');
  EXPECT_EQ(segment_files(), 1U);
  EXPECT_EQ(read(1, 0), pattern('a'));
  EXPECT_EQ(read(2, 0), pattern('d'));
  ASSERT_TRUE(item_->drop_points({1}));
  consolidate();
  EXPECT_EQ(read(2, 0), pattern('d'));
  EXPECT_EQ(read(2, 1), pattern('c'));
  EXPECT_TRUE(item_->scrub("", 1000).value().mismatches.empty());
}

TEST_F(ItemTest, ABlockThatChangedMeanwhileIsUnstagedAndSentAgain) {
  delta(9, 'z');
  ASSERT_TRUE(begin("c1"));
  ASSERT_TRUE(put(0, pattern('a')));
  ASSERT_TRUE(put(1, pattern('b')));
  BlockSet changed(11);
  changed.add(0);
  changed.add(7);

  ASSERT_TRUE(item_->unstage(0, changed));
  open();

  EXPECT_EQ(begin("c1").value().staged, 1U);
  ASSERT_TRUE(put(0, pattern('A')));
  ASSERT_TRUE(put(0, pattern('B')));  // And twice.
  ASSERT_TRUE(commit(2));
  EXPECT_EQ(read(2, 0), pattern('B'));
  EXPECT_EQ(item_->usage().live_bytes, item_->points().back().bytes + 2 * kRecordHeaderBytes);
}

TEST_F(ItemTest, ADamagedBlockIsRefusedAndTheRestOfTheCallWithIt) {
  ASSERT_TRUE(begin("c1"));
  Writes writes;
  writes.add(0, 0, pattern('a'));
  writes.add(0, 1, pattern('b'));
  writes.list()[1].hash ^= 1;

  const Status refused = item_->append(writes.list());

  ASSERT_FALSE(refused);
  EXPECT_EQ(refused.error().code, ErrorCode::kCorrupt);
  EXPECT_EQ(item_->staged(0).value().count(), 0U);
}

TEST_F(ItemTest, BlocksThatDoNotExistAreRefused) {
  ASSERT_TRUE(begin("c1"));

  EXPECT_EQ(put(11, pattern('a')).error().code, ErrorCode::kInvalidArgument);
  EXPECT_EQ(put(0, pattern('a'), 2).error().code, ErrorCode::kInvalidArgument);
  EXPECT_EQ(put(10, pattern('a')).error().code, ErrorCode::kCorrupt) << "only 512 bytes long";
}

TEST_F(ItemTest, TheNumberOfBlocksMustBeTheOneTheSourceMeant) {
  ASSERT_TRUE(begin("c1"));
  ASSERT_TRUE(put(0, pattern('a')));

  EXPECT_EQ(commit(2).error().code, ErrorCode::kConflict);
  EXPECT_EQ(item_->newest().seq, 0U);
  EXPECT_TRUE(commit(1));
}

TEST_F(ItemTest, ADeposedSourceIsRefusedEvenInTheMiddleOfItsDelta) {
  ASSERT_TRUE(begin("c1", 4));
  ASSERT_TRUE(put(0, pattern('a')));

  ASSERT_TRUE(item_->raise_epoch(5));

  EXPECT_EQ(put(1, pattern('b')).error().code, ErrorCode::kStaleEpoch);
  EXPECT_EQ(commit(1, 4).error().code, ErrorCode::kStaleEpoch);
  EXPECT_EQ(begin("c1", 4).error().code, ErrorCode::kStaleEpoch);
  EXPECT_EQ(item_->raise_epoch(4).error().code, ErrorCode::kStaleEpoch);
  open();
  EXPECT_EQ(item_->epoch(), 5U);
  EXPECT_EQ(begin("c1", 5).value().staged, 0U) << "nothing of the deposed source is kept";
}

TEST_F(ItemTest, ALostAckIsRecognisedByTheAttempt) {
  ASSERT_TRUE(begin("c1"));
  ASSERT_TRUE(commit(0, 1, "attempt-7"));

  open();

  EXPECT_EQ(begin("c1").value().newest_attempt, "attempt-7");
}

TEST_F(ItemTest, AFolderThatIsGoneIsNamedAndGoesOnOnceItIsBack) {
  ASSERT_TRUE(begin("c1"));
  std::filesystem::rename(folder_ / "item", folder_ / "away");

  const auto refused = put(0, pattern('a'));

  ASSERT_FALSE(refused);
  EXPECT_EQ(refused.error().code, ErrorCode::kUnavailable);
  EXPECT_NE(refused.error().what.find("is gone"), std::string::npos);
  std::filesystem::rename(folder_ / "away", folder_ / "item");
  ASSERT_TRUE(begin("c1"));
  ASSERT_TRUE(put(0, pattern('a')));
  ASSERT_TRUE(commit(1));
  EXPECT_EQ(read(1, 0), pattern('a'));
}

TEST_F(ItemTest, AFullVolumeStopsTheDeltaAndLosesNothing) {
  std::uint64_t free = 1 << 20;
  limits_.free_bytes = [&](const std::string&) { return free; };
  open();
  ASSERT_TRUE(begin("c1"));
  ASSERT_TRUE(put(0, pattern('a')));

  free = 0;
  EXPECT_EQ(put(1, pattern('b')).error().code, ErrorCode::kNoSpace);
  free = 1 << 20;

  EXPECT_EQ(begin("c1").value().staged, 1U);
  ASSERT_TRUE(put(1, pattern('b')));
  ASSERT_TRUE(commit(2));
  EXPECT_EQ(read(1, 0), pattern('a'));
}

TEST_F(ItemTest, DroppedPointsAreFoldedIntoTheBaseAndTheirSegmentsGo) {
  limits_.segment_bytes = 1;  // A segment per block.
  open();
  delta(0, 'a');
  delta(1, 'b');
  delta(0, 'c');
  delta(1, '\0');
  delta(4, 'e');
  const std::string at4 = item_->digest_at(4).value();
  const std::string at5 = item_->digest_at(5).value();
  ASSERT_EQ(segment_files(), 3U) << "the first delta lies in the base";

  ASSERT_TRUE(item_->drop_points({1, 2, 3}));
  consolidate();

  EXPECT_EQ(segment_files(), 1U) << "what point 5 added";
  EXPECT_EQ(item_->digest_at(4).value(), at4);
  EXPECT_EQ(item_->digest_at(5).value(), at5);
  EXPECT_EQ(read(4, 0), pattern('c'));
  EXPECT_EQ(read(4, 1), pattern('\0'));
  std::string base = read_file(folder_ / "item/base-vda.raw").value();
  EXPECT_EQ(base.substr(0, kBlockBytes), pattern('c'));
  EXPECT_EQ(base.size(), disks_[0].bytes);
  EXPECT_GE(item_->usage().base_bytes, kBlockBytes);
  EXPECT_TRUE(item_->scrub("", 1000).value().mismatches.empty());
}

TEST_F(ItemTest, ThinnedPointsGiveTheirSpaceBack) {
  limits_.segment_bytes = 1;
  open();
  for (const char c : {'a', 'b', 'c', 'd', 'e'}) delta(0, c);
  ASSERT_EQ(segment_files(), 4U);

  ASSERT_TRUE(item_->drop_points({2, 3, 4}));
  consolidate();

  EXPECT_EQ(segment_files(), 1U) << "point 5; point 1 lies in the base";
  EXPECT_EQ(read(1, 0), pattern('a'));
  EXPECT_EQ(read(5, 0), pattern('e'));
  EXPECT_EQ(item_->usage().points, 2U);
}

TEST_F(ItemTest, ThinningGivesBackSpaceInsideASegmentThatLivesOn) {
  SeededRandom random(1);
  const auto noise = [&] {
    std::string bytes(kBlockBytes, '\0');
    for (char& c : bytes) c = static_cast<char>(random.next());
    return bytes;
  };
  for (int i = 0; i < 5; ++i) {  // All in one segment; block 0 is superseded, the others live.
    ASSERT_TRUE(begin("cycle"));
    ASSERT_TRUE(put(0, noise()));
    ASSERT_TRUE(put(static_cast<std::uint32_t>(1 + i), noise()));
    ASSERT_TRUE(commit(2));
  }
  const std::string at5 = item_->digest_at(5).value();
  const std::uint64_t before = item_->usage().journal_bytes;

  ASSERT_TRUE(item_->drop_points({2, 3, 4}));
  consolidate();

  EXPECT_EQ(segment_files(), 1U);
  EXPECT_LE(item_->usage().journal_bytes, before - 3 * (kBlockBytes - 2 * 4096));
  EXPECT_EQ(item_->digest_at(5).value(), at5);
  EXPECT_TRUE(item_->scrub("", 1000).value().mismatches.empty());
  const auto check = check_segment(segment_path(folder_ / "item", 1)).value();
  EXPECT_EQ(check.problem, "");
  EXPECT_EQ(check.records, 8U) << "the first delta lies in the base";
  EXPECT_EQ(check.reclaimed, 3U);
}

TEST_F(ItemTest, AViewKeepsTheSpaceItMayRead) {
  delta(0, 'a');
  delta(0, 'b');
  delta(0, 'c');
  ASSERT_TRUE(item_->pin("view", 2));
  const std::uint64_t before = item_->usage().journal_bytes;

  ASSERT_TRUE(item_->drop_points({1}));
  consolidate();

  EXPECT_EQ(item_->usage().journal_bytes, before);
}

TEST_F(ItemTest, TheNewestAndPinnedPointsCannotBeDropped) {
  delta(0, 'a');
  delta(0, 'b');
  ASSERT_TRUE(item_->pin("test", 1));

  EXPECT_EQ(item_->drop_points({1}).error().code, ErrorCode::kConflict);
  EXPECT_EQ(item_->drop_points({2}).error().code, ErrorCode::kConflict);
  EXPECT_EQ(item_->pin("other", 7).error().code, ErrorCode::kNotFound);
  EXPECT_EQ(item_->pin("test", 2).error().code, ErrorCode::kConflict);
  EXPECT_TRUE(item_->pin("test", 1)) << "repeating it is fine";
  open();
  EXPECT_EQ(item_->pins().at("test"), 1U) << "pins survive a restart";
  ASSERT_TRUE(item_->unpin("test"));
  EXPECT_TRUE(item_->drop_points({1}));
}

TEST_F(ItemTest, RewindingForgetsEverythingLater) {
  limits_.segment_bytes = 1;
  open();
  delta(0, 'a');
  delta(1, 'b');
  const std::string at2 = item_->digest_at(2).value();
  delta(0, 'c');
  delta(2, 'd');
  ASSERT_TRUE(item_->drop_points({3}));
  ASSERT_TRUE(begin("cycle"));
  ASSERT_TRUE(put(5, pattern('s')));
  ASSERT_TRUE(item_->pin("view", 4));

  EXPECT_EQ(item_->rewind(2).error().code, ErrorCode::kConflict);
  EXPECT_EQ(item_->rewind(3).error().code, ErrorCode::kNotFound);
  ASSERT_TRUE(item_->unpin("view"));
  ASSERT_TRUE(item_->rewind(2));

  EXPECT_EQ(item_->newest().seq, 2U);
  EXPECT_EQ(item_->digest_at(2).value(), at2);
  EXPECT_EQ(begin("cycle").value().staged, 0U);
  ASSERT_TRUE(put(2, pattern('n')));
  ASSERT_TRUE(commit(1));
  EXPECT_EQ(read(3, 0), pattern('a'));
  EXPECT_EQ(read(3, 2), pattern('n'));
  open();
  EXPECT_EQ(read(3, 0), pattern('a'));
  EXPECT_EQ(item_->newest().seq, 3U);
}

TEST_F(ItemTest, AFrozenIndexReadsTheSameWhileTheReplicaGoesOn) {
  limits_.segment_bytes = 1;
  open();
  delta(0, 'a');
  delta(1, 'b');
  delta(0, 'c');
  ASSERT_TRUE(item_->pin("test", 2));
  delta(0, 'd');
  delta(1, 'e');
  ASSERT_TRUE(item_->drop_points({1, 3}));
  consolidate();

  const auto frozen = store::RocksStore::open(folder_ / "item/views/test/index",
                                              store::RocksStore::Mode::kReadOnly);
  ASSERT_TRUE(frozen) << frozen.error().what;
  const PointReader reader(**frozen, folder_ / "item", stored(disks_), {});
  std::string out(kBlockBytes, '?');
  ASSERT_TRUE(reader.read(0, 2, 0, out));
  EXPECT_EQ(out, pattern('a'));
  ASSERT_TRUE(reader.read(0, 2, kBlockBytes, out));
  EXPECT_EQ(out, pattern('b'));
  EXPECT_EQ(read(5, 0), pattern('d'));
}

TEST_F(ItemTest, ScrubNamesWhatTheVolumeDamaged) {
  delta(0, 'a');
  delta(1, 'b');
  ASSERT_TRUE(item_->scrub("", 1000).value().mismatches.empty());
  const std::string path = segment_path(folder_ / "item", 1);
  std::string bytes = read_file(path).value();
  bytes.back() = static_cast<char>(bytes.back() ^ 1);
  ASSERT_TRUE(replace_file(path, bytes));
  open();

  const auto first = item_->scrub("", 1).value();
  const auto rest = item_->scrub(first.next, 1000).value();

  EXPECT_EQ(first.blocks, 1U);
  EXPECT_TRUE(first.mismatches.empty());
  ASSERT_EQ(rest.mismatches.size(), 1U);
  EXPECT_NE(rest.mismatches[0].find("block 1 of disk vda"), std::string::npos);
  EXPECT_EQ(rest.next, "");
  const auto hashes = item_->newest_hashes(0, 0, 2).value();
  EXPECT_EQ(hashes[0], hash_of(pattern('a')));
  EXPECT_NE(hashes[1], hash_of(pattern('b'))) << "a resync must send it again";
  EXPECT_TRUE(item_->scrub("", 1000).value().mismatches.empty()) << "it is told once";
  EXPECT_EQ(item_->damaged(), 1U);
  std::string out(kBlockBytes, '?');
  EXPECT_EQ(item_->read(0, 2, kBlockBytes, out).error().code, ErrorCode::kCorrupt);
}

TEST_F(ItemTest, AFirstDeltaThatIsGivenUpGivesItsRoomBack) {
  ASSERT_TRUE(begin("c1"));
  for (std::uint32_t block = 0; block < 10; ++block) ASSERT_TRUE(put(block, pattern('a')));
  ASSERT_TRUE(item_->flush());
  ASSERT_GE(item_->usage().base_bytes, 10 * kBlockBytes);

  ASSERT_TRUE(begin("c2"));
  ASSERT_TRUE(put(1, pattern('b')));
  ASSERT_TRUE(put(1, pattern('\0')));
  ASSERT_TRUE(put(2, pattern('c')));
  ASSERT_TRUE(put(2, pattern('d')));
  ASSERT_TRUE(commit(2));

  EXPECT_LE(item_->usage().base_bytes, 2 * kBlockBytes);
  EXPECT_EQ(read(1, 0), pattern('\0'));
  EXPECT_EQ(read(1, 1), pattern('\0'));
  EXPECT_EQ(read(1, 2), pattern('d'));
}

TEST_F(ItemTest, WhatSomebodyPutBesideTheSegmentsStays) {
  delta(0, 'a');
  ASSERT_TRUE(replace_file(folder_ / "item/segments/notes.txt", "mine"));
  ASSERT_TRUE(replace_file(folder_ / "item/segments/00000099.seg", "never flushed"));

  open();

  EXPECT_TRUE(std::filesystem::exists(folder_ / "item/segments/notes.txt"));
  EXPECT_FALSE(std::filesystem::exists(folder_ / "item/segments/00000099.seg"));
}

TEST_F(ItemTest, ASecondOwnerIsRefused) {
  const auto second = Item::open(folder_ / "item", "web", disks_, limits_);

  ASSERT_FALSE(second);
  EXPECT_EQ(second.error().code, ErrorCode::kConflict);
}

}  // namespace
}  // namespace farside::replica
