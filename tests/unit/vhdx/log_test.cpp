// Logs that a crash left behind: what is replayed, and what is not.
#include "services/agent/platforms/hyperv/vhdx/log.h"

#include <gtest/gtest.h>

#include "tests/unit/vhdx/disks.h"

namespace farside::agent::vhdx {
namespace {

using test::Share;

constexpr std::uint64_t kBatAt = 3 * kMiB;
const Guid kLog = *Guid::parse("11111111-2222-3333-4444-555555555555");

std::string page(char fill) {
  std::string bytes(kLogSectorBytes, fill);
  bytes.front() = '<';
  bytes.back() = '>';
  return bytes;
}

LogEntry entry(std::uint64_t sequence, std::uint32_t tail, char fill, std::uint64_t at = 8 * kMiB) {
  return {.sequence = sequence,
          .tail = tail,
          .guid = kLog,
          .updates = {{.at = at, .bytes = page(fill)}}};
}

struct RingTest : testing::Test {
  std::string log = std::string(kMiB, '\0');

  // Returns where it ends.
  std::uint32_t put(std::uint32_t at, const std::string& bytes) {
    for (std::size_t i = 0; i < bytes.size(); ++i) log[(at + i) % log.size()] = bytes[i];
    return static_cast<std::uint32_t>((at + bytes.size()) % log.size());
  }
  // The fill of the updates that would be made, in order.
  std::string replayed() {
    const auto active = read_log(log, kLog);
    if (!active) return "corrupt";
    std::string fills;
    for (const LogUpdate& update : active->updates) {
      fills += update.bytes.empty() ? '0' : update.bytes[1];
      if (!update.bytes.empty()) {
        EXPECT_EQ(update.bytes, page(update.bytes[1]));
      }
    }
    return fills;
  }
};

TEST_F(RingTest, EntriesAreMadeInTheirOrderFromTheTailToTheHead) {
  std::uint32_t at = put(0, write_log_entry(entry(7, 0, 'a')));
  at = put(at, write_log_entry(entry(8, 0, 'b')));
  put(at, write_log_entry(entry(9, 0, 'c')));

  EXPECT_EQ(replayed(), "abc");
}

TEST_F(RingTest, WhatLiesBeforeTheTailIsNotMadeAgain) {
  const std::uint32_t second = put(0, write_log_entry(entry(7, 0, 'a')));
  const std::uint32_t third = put(second, write_log_entry(entry(8, second, 'b')));
  put(third, write_log_entry(entry(9, second, 'c')));

  EXPECT_EQ(replayed(), "bc");
}

TEST_F(RingTest, GoesOnAtItsBeginning) {
  const auto last = static_cast<std::uint32_t>(kMiB - kLogSectorBytes);
  const std::uint32_t at = put(last, write_log_entry(entry(7, last, 'a')));  // Wraps inside.
  put(at, write_log_entry(entry(8, last, 'b')));

  EXPECT_EQ(replayed(), "ab");
}

TEST_F(RingTest, ATornEndIsLeftOut) {
  std::uint32_t at = put(0, write_log_entry(entry(7, 0, 'a')));
  at = put(at, write_log_entry(entry(8, 0, 'b')));
  const std::uint32_t torn = at;
  put(at, write_log_entry(entry(9, 0, 'c')));
  log[torn + 2 * kLogSectorBytes - 100] ^= 1;

  EXPECT_EQ(replayed(), "ab");
}

TEST_F(RingTest, ATornMiddleLeavesOnlyWhatIsCompleteBeforeIt) {
  const std::uint32_t second = put(0, write_log_entry(entry(7, 0, 'a')));
  const std::uint32_t third = put(second, write_log_entry(entry(8, 0, 'b')));
  put(third, write_log_entry(entry(9, 0, 'c')));
  log[second + kLogSectorBytes + 100] ^= 1;

  EXPECT_EQ(replayed(), "a");  // 9 needs all from 7 on.
}

TEST_F(RingTest, AGapInTheNumbersEndsARow) {
  const std::uint32_t second = put(0, write_log_entry(entry(7, 0, 'a')));
  put(second, write_log_entry(entry(9, 0, 'c')));
  EXPECT_EQ(replayed(), "a");

  put(second, write_log_entry(entry(9, second, 'c')));  // Complete by itself, and newer.
  EXPECT_EQ(replayed(), "c");
}

TEST_F(RingTest, TheNewestOfSeveralRowsIsTaken) {
  put(0, write_log_entry(entry(20, 0, 'n')));
  put(512 * 1024, write_log_entry(entry(19, 512 * 1024, 'o')));
  EXPECT_EQ(replayed(), "n");

  put(512 * 1024, write_log_entry(entry(21, 512 * 1024, 'p')));
  EXPECT_EQ(replayed(), "p");
}

TEST_F(RingTest, EntriesOfAnotherLogDoNotCount) {
  LogEntry other = entry(30, 0, 'x');
  other.guid = Guid{};
  const std::uint32_t second = put(0, write_log_entry(other));
  EXPECT_EQ(replayed(), "corrupt");

  put(second, write_log_entry(entry(7, second, 'a')));
  EXPECT_EQ(replayed(), "a");
}

TEST_F(RingTest, ARowWhoseTailIsElsewhereDoesNotCount) {
  put(0, write_log_entry(entry(7, 64 * 1024, 'a')));

  EXPECT_EQ(replayed(), "corrupt");
}

TEST_F(RingTest, ZerosAndEmptyEntriesAreEntriesToo) {
  LogEntry first = entry(1, 0, 'a');
  first.updates.push_back({.at = 16 * kMiB, .zero_bytes = 8 * kMiB});
  first.updates.push_back({.at = 4 * kMiB, .bytes = page('b')});
  LogEntry second = entry(2, 0, 'c');
  second.updates.clear();
  second.last_file_bytes = 77 * kMiB;
  second.flushed_file_bytes = 33 * kMiB;
  put(put(0, write_log_entry(first)), write_log_entry(second));

  const auto active = read_log(log, kLog);

  ASSERT_TRUE(active) << to_text(active.error());
  EXPECT_EQ(replayed(), "a0b");
  EXPECT_EQ(active->updates[1].zero_bytes, 8 * kMiB);
  EXPECT_EQ(active->last_file_bytes, 77 * kMiB);
  EXPECT_EQ(active->flushed_file_bytes, 33 * kMiB);
}

TEST_F(RingTest, ManyDescriptorsTakeMoreThanOneSector) {
  LogEntry large = entry(1, 0, 'a');
  large.updates.clear();
  std::string expected;
  for (int i = 0; i < 200; ++i) {
    const char fill = static_cast<char>('a' + i % 26);
    expected += fill;
    large.updates.push_back({.at = static_cast<std::uint64_t>(i) * kMiB, .bytes = page(fill)});
  }
  const std::string bytes = write_log_entry(large);
  EXPECT_EQ(bytes.size(), 202 * kLogSectorBytes);
  put(300 * 1024, bytes);
  EXPECT_EQ(replayed(), "corrupt");  // Its tail is at 0, where there is nothing.

  large.tail = 300 * 1024;
  put(300 * 1024, write_log_entry(large));
  EXPECT_EQ(replayed(), expected);
}

TEST_F(RingTest, EveryBitOfAnEntryCounts) {
  const std::string good = write_log_entry(entry(7, 0, 'a'));
  for (std::size_t at = 0; at < good.size(); at += at < 160 ? 1 : 61) {
    for (const int bit : {0, 7}) {
      std::string bad = good;
      bad[at] = static_cast<char>(bad[at] ^ (1 << bit));
      put(0, bad);
      ASSERT_EQ(replayed(), "corrupt") << "byte " << at;
    }
  }
}

// Whole files with such a log.
struct ReplayTest : testing::Test {
  Share share;
  std::string old_bat;
  std::string new_bat;

  // The last write is in the log alone: the table is as it was before.
  void SetUp() override {
    share.create("disk.vhdx", {.disk_bytes = 16 * kMiB, .block_bytes = kBlockBytesMin});
    auto image = share.write("disk.vhdx");
    ASSERT_TRUE(image->write_at(0, std::string(kMiB, 'a')));
    ASSERT_TRUE(image->flush());
    old_bat = file().read(kBatAt, kLogSectorBytes);
    ASSERT_TRUE(image->write_at(5 * kMiB, std::string(kMiB, 'b')));
    ASSERT_TRUE(image->flush());
    new_bat = file().read(kBatAt, kLogSectorBytes);
    ASSERT_NE(old_bat, new_bat);
    file().write(kBatAt, old_bat);
  }
  test::Bytes& file() { return share.files["disk.vhdx"]; }
  Header header() {
    return current_header(file().read(kHeaderAt[0], kHeaderBytes),
                          file().read(kHeaderAt[1], kHeaderBytes))
        .value()
        .header;
  }
  // Replaces the log by one entry.
  void put(LogEntry made) {
    made.guid = header().log;
    file().write(kMiB, std::string(kMiB, '\0'));
    file().write(kMiB, write_log_entry(made));
  }
  std::string expected() const {
    std::string disk(16 * kMiB, '\0');
    return disk.replace(0, kMiB, kMiB, 'a').replace(5 * kMiB, kMiB, kMiB, 'b');
  }
};

TEST_F(ReplayTest, ReadersSeeItAndLeaveTheFileAlone) {
  const std::string before = file().read(0, file().size());

  EXPECT_EQ(share.contents("disk.vhdx"), expected());

  EXPECT_EQ(file().read(0, file().size()), before);
}

TEST_F(ReplayTest, WritersPutItInItsPlaceAndEmptyTheLog) {
  const Header before = header();
  auto image = share.write("disk.vhdx");
  image.reset();

  EXPECT_EQ(file().read(kBatAt, kLogSectorBytes), new_bat);
  EXPECT_TRUE(header().log.is_zero());
  EXPECT_NE(header().file_write, before.file_write);
  EXPECT_EQ(header().data_write, before.data_write);  // The disk holds what it held.
  EXPECT_EQ(share.contents("disk.vhdx"), expected());
}

TEST_F(ReplayTest, AFileThatWasCutIsRefused) {
  put({.sequence = 1, .flushed_file_bytes = 1000 * kMiB, .last_file_bytes = 1000 * kMiB});

  const auto image = Image::open(test::open(file()));

  ASSERT_FALSE(image);
  EXPECT_EQ(image.error().code, ErrorCode::kCorrupt);
  EXPECT_TRUE(image.error().what.contains("the file was cut"));
}

TEST_F(ReplayTest, AFileThatHadGrownGrowsAgain) {
  const std::uint64_t grown = round_up(file().size(), kMiB) + 8 * kMiB;
  std::string bat = new_bat;
  store(bat, 64, BatEntry(BlockState::kFullyPresent, grown - kMiB).bits());
  put({.sequence = 1, .last_file_bytes = grown, .updates = {{.at = kBatAt, .bytes = bat}}});

  EXPECT_EQ(share.contents("disk.vhdx"), expected());  // The new block is all zeros.
  auto chain = share.chain("disk.vhdx");
  const auto pieces = chain->map(8 * kMiB, kMiB);
  ASSERT_TRUE(pieces);
  EXPECT_FALSE(pieces->front().file);  // Nobody is sent beyond the file's end.
  share.write("disk.vhdx").reset();
  EXPECT_EQ(file().size(), grown);
  EXPECT_EQ(share.contents("disk.vhdx"), expected());
}

TEST_F(ReplayTest, ChangesWhereTheLogMustNotAreRefused) {
  const std::uint64_t payload = BatEntry(load<std::uint64_t>(old_bat, 0)).at();
  for (const std::uint64_t at : {std::uint64_t{0}, kHeaderAt[0], kMiB, 2 * kMiB - 4096, payload,
                                 payload + kMiB - 4096, ~std::uint64_t{4095}}) {
    put({.sequence = 1, .updates = {{.at = at, .bytes = page('x')}}});
    const auto image = Image::open(test::open(file()));
    ASSERT_FALSE(image) << at;
    EXPECT_EQ(image.error().code, ErrorCode::kCorrupt);
  }
}

TEST_F(ReplayTest, ZerosReachTheMetadata) {
  put({.sequence = 1, .updates = {{.at = kBatAt, .zero_bytes = kLogSectorBytes}}});
  EXPECT_EQ(share.contents("disk.vhdx"), std::string(16 * kMiB, '\0'));

  share.write("disk.vhdx").reset();

  EXPECT_EQ(file().read(kBatAt, kLogSectorBytes), std::string(kLogSectorBytes, '\0'));
  EXPECT_EQ(share.contents("disk.vhdx"), std::string(16 * kMiB, '\0'));
}

TEST_F(ReplayTest, MoreZerosThanADiskHoldsAreNotWritten) {
  const std::uint64_t end = file().size();
  put({.sequence = 1,
       .updates = {{.at = kBatAt, .bytes = new_bat},
                   {.at = end + 8 * kMiB, .bytes = page('x')},
                   {.at = end, .zero_bytes = 16 * kTiB}}});
  EXPECT_EQ(share.contents("disk.vhdx"), expected());

  share.write("disk.vhdx").reset();

  EXPECT_EQ(file().size(), end + 16 * kTiB);
  EXPECT_EQ(file().read(end + 8 * kMiB, kLogSectorBytes), std::string(kLogSectorBytes, '\0'));
  EXPECT_EQ(share.contents("disk.vhdx"), expected());
}

TEST_F(ReplayTest, RegionTablesComeThroughTheLogToo) {
  for (const std::uint64_t at : kRegionTableAt) file().write(at, std::string(4096, 'x'));
  share.create("other.vhdx", {.disk_bytes = 16 * kMiB, .block_bytes = kBlockBytesMin});
  const std::string table = share.files["other.vhdx"].read(kRegionTableAt[0], kLogSectorBytes);
  put({.sequence = 1,
       .updates = {{.at = kRegionTableAt[0], .bytes = table}, {.at = kBatAt, .bytes = new_bat}}});

  EXPECT_EQ(share.contents("disk.vhdx"), expected());
}

}  // namespace
}  // namespace farside::agent::vhdx
