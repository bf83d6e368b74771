// Files that are not as they should be are refused, with what is wrong and where.
#include "services/agent/platforms/hyperv/vhdx/image.h"

#include <gtest/gtest.h>

#include "services/agent/platforms/hyperv/vhdx/crc32c.h"
#include "tests/unit/vhdx/disks.h"

namespace farside::agent::vhdx {
namespace {

using test::Share;

constexpr std::uint64_t kBatAt = 3 * kMiB;
constexpr std::uint64_t kMetadataAt = 2 * kMiB;

// Places of the items in the metadata region, in the order in which they are written.
constexpr std::uint64_t kItemsAt = kMetadataAt + kMetadataTableBytes;
constexpr std::uint64_t kBlockBytesAt = kItemsAt;
constexpr std::uint64_t kFlagsAt = kItemsAt + 4;
constexpr std::uint64_t kDiskBytesAt = kItemsAt + 8;
constexpr std::uint64_t kLogicalAt = kItemsAt + 32;

struct ImageTest : testing::Test {
  Share share;
  void SetUp() override {
    share.create("base.vhdx", {.disk_bytes = 16 * kMiB, .block_bytes = kBlockBytesMin});
    auto base = share.write("base.vhdx");
    ASSERT_TRUE(base->write_at(0, std::string(3 * kMiB, 'a')));
    ASSERT_TRUE(base->close());
    share.create_child("child.avhdx", "base.vhdx");
    auto child = share.write("child.avhdx");
    ASSERT_TRUE(child->write_at(0, std::string(512, 'b')));
    ASSERT_TRUE(child->write_at(kMiB, std::string(kMiB, 'c')));
    ASSERT_TRUE(child->close());
  }

  test::Bytes& file(const std::string& name = "base.vhdx") { return share.files[name]; }

  template <class T>
  void put(std::uint64_t at, T value, const std::string& name = "base.vhdx") {
    std::string bytes(sizeof(T), '\0');
    store(bytes, 0, value);
    file(name).write(at, bytes);
  }
  // Into both headers or both region tables, with a right checksum.
  template <class T>
  void put_in_headers(std::uint64_t at, T value) {
    for (const std::uint64_t header : kHeaderAt) {
      put(header + at, value);
      fix_checksum(header, kHeaderBytes);
    }
  }
  template <class T>
  void put_in_regions(std::uint64_t at, T value) {
    for (const std::uint64_t table : kRegionTableAt) {
      put(table + at, value);
      fix_checksum(table, kRegionTableBytes);
    }
  }
  void fix_checksum(std::uint64_t at, std::uint64_t length) {
    put(at + 4, checksum_without(file().read(at, length), 4));
  }
  std::uint64_t entry(std::uint64_t index, const std::string& name = "base.vhdx") {
    return load<std::uint64_t>(file(name).read(kBatAt + index * 8, 8), 0);
  }

  void expect_refused(ErrorCode code, const std::string& words,
                      const std::string& name = "base.vhdx") {
    const auto image = Image::open(test::open(file(name)));
    ASSERT_FALSE(image) << "opened, instead of: " << words;
    EXPECT_EQ(image.error().code, code) << to_text(image.error());
    EXPECT_TRUE(image.error().what.contains(words)) << to_text(image.error());
    EXPECT_FALSE(image.error().advice.empty());
  }
  void expect_corrupt(const std::string& words, const std::string& name = "base.vhdx") {
    expect_refused(ErrorCode::kCorrupt, words, name);
  }
  void expect_opens() {
    const auto image = Image::open(test::open(file()));
    EXPECT_TRUE(image) << to_text(image.error());
  }
};

TEST_F(ImageTest, TellsWhatTheDiskIs) {
  const auto base = Image::open(test::open(file()));
  const auto child = Image::open(test::open(file("child.avhdx")));
  ASSERT_TRUE(base && child);

  const Metadata& metadata = (*child)->metadata();
  EXPECT_EQ(metadata.disk_bytes, 16 * kMiB);
  EXPECT_EQ(metadata.block_bytes, kMiB);
  EXPECT_EQ(metadata.logical_sector_bytes, 512u);
  EXPECT_EQ(metadata.physical_sector_bytes, 4096u);
  EXPECT_FALSE(metadata.leave_allocated);
  EXPECT_EQ(metadata.disk_id, (*base)->metadata().disk_id);
  ASSERT_TRUE(metadata.parent);
  EXPECT_EQ(metadata.parent->linkage, (*base)->header().data_write);
  EXPECT_EQ(metadata.parent->relative_path, "base.vhdx");
  EXPECT_EQ(metadata.parent->absolute_win32_path, "\\\\?\\C:\\disks\\base.vhdx");
  EXPECT_FALSE((*base)->metadata().parent);
  EXPECT_NE((*base)->header().data_write, (*child)->header().data_write);
}

TEST_F(ImageTest, MapsWithoutReading) {
  auto image = Image::open(test::open(file("child.avhdx")));
  ASSERT_TRUE(image);
  std::vector<Segment> segments;

  ASSERT_TRUE((*image)->map(100, 4 * kMiB - 100, segments));

  const std::uint64_t first = BatEntry(entry(0, "child.avhdx")).at();
  const std::uint64_t second = BatEntry(entry(1, "child.avhdx")).at();
  const std::vector<Segment> expected{
      {.source = Source::kThisFile, .file_offset = first + 100, .length = 412},
      {.source = Source::kParent, .length = kMiB - 512},
      {.source = Source::kThisFile, .file_offset = second, .length = kMiB},
      {.source = Source::kParent, .length = 2 * kMiB}};
  EXPECT_EQ(segments, expected);
}

TEST_F(ImageTest, OneGoodHeaderIsEnough) {
  for (const std::uint64_t broken : kHeaderAt) {
    const std::string kept = file().read(broken, kHeaderBytes);
    put(broken + 100, std::uint8_t{1});
    expect_opens();
    file().write(broken, kept);
  }
}

TEST_F(ImageTest, TheNewerHeaderCounts) {
  const auto before = Image::open(test::open(file()));
  ASSERT_TRUE(before);
  Header header = (*before)->header();
  header.sequence += 5;
  header.version = 2;

  file().write(kHeaderAt[0], write_header(header));

  expect_refused(ErrorCode::kUnsupported, "version 2");
}

TEST_F(ImageTest, OneGoodRegionTableIsEnough) {
  put(kRegionTableAt[0] + 100, std::uint8_t{1});
  expect_opens();
  put(kRegionTableAt[1] + 100, std::uint8_t{1});
  expect_corrupt("region table's checksum");
}

TEST_F(ImageTest, RefusesWhatIsNoVhdxFile) {
  put(0, 'V');
  expect_corrupt("not a VHDX file");
  file().truncate(0);
  expect_corrupt("only 0 bytes");
  file().truncate(700'000);
  expect_corrupt("only 700000 bytes");
}

TEST_F(ImageTest, RefusesBrokenHeaders) {
  for (const std::uint64_t at : kHeaderAt) put(at + 4000, std::uint8_t{1});
  expect_corrupt("both headers: the header's checksum");
  for (const std::uint64_t at : kHeaderAt) put(at, std::uint8_t{1});
  expect_corrupt("both headers: no header");
}

TEST_F(ImageTest, RefusesTwoDifferentHeadersOfOneNumber) {
  put_in_headers(8, std::uint64_t{9});
  put(kHeaderAt[1] + 16, std::uint8_t{1});
  fix_checksum(kHeaderAt[1], kHeaderBytes);

  expect_corrupt("two headers of sequence number 9");
}

TEST_F(ImageTest, RefusesALogInAWrongPlace) {
  put_in_headers(72, std::uint64_t{kMiB + 512});
  expect_corrupt("the log's place");
  put_in_headers(72, std::uint64_t{0});
  expect_corrupt("the log's place");
  put_in_headers(72, std::uint64_t{100 * kMiB});
  expect_corrupt("lies beyond the file's");
  put_in_headers(72, ~std::uint64_t{0} << 20U);
  expect_corrupt("lies beyond the file's");
  put_in_headers(72, std::uint64_t{2 * kMiB});
  expect_corrupt("overlaps");
  put_in_headers(72, kMiB);
  put_in_headers(68, std::uint32_t{1000});
  expect_corrupt("the log's place");
  put_in_headers(68, std::uint32_t{128U << 20U});
  expect_refused(ErrorCode::kUnsupported, "a log of");
}

TEST_F(ImageTest, RefusesALogOfAnotherVersionOnlyIfItIsToBeReplayed) {
  put_in_headers(64, std::uint16_t{1});
  expect_opens();
  put_in_headers(48, std::uint64_t{1});
  expect_refused(ErrorCode::kUnsupported, "version 1 of the VHDX log");
}

TEST_F(ImageTest, RefusesRegionsThatItCannotTrust) {
  put_in_regions(8, std::uint32_t{2048});
  expect_corrupt("2048 regions");
  put_in_regions(8, std::uint32_t{1});
  expect_corrupt("no region for metadata");
  put_in_regions(8, std::uint32_t{3});  // The third is all zeros.
  expect_corrupt("region 00000000-0000-0000-0000-000000000000");
  put_in_regions(8, std::uint32_t{2});
  put_in_regions(16 + 16, std::uint64_t{kMetadataAt});
  expect_corrupt("overlaps");
  put_in_regions(16 + 16, std::uint64_t{50 * kMiB});
  expect_corrupt("lies beyond the file's");
  put_in_regions(16 + 16, std::uint64_t{kBatAt + 1});
  expect_corrupt("region 2dc27766");
  put_in_regions(16 + 16, std::uint64_t{kBatAt});
  put_in_regions(16 + 24, std::uint32_t{0});
  expect_corrupt("region 2dc27766");
}

TEST_F(ImageTest, RefusesRegionsThatItMustKnowAndOnlyThose) {
  put_in_regions(8, std::uint32_t{3});
  put_in_regions(80, std::uint64_t{77});  // A GUID that nobody knows.
  put_in_regions(96, std::uint64_t{file().size()});
  put_in_regions(104, static_cast<std::uint32_t>(kMiB));
  file().truncate(file().size() + kMiB);
  expect_opens();
  put_in_regions(108, std::uint32_t{1});
  expect_refused(ErrorCode::kUnsupported, "region 0000004d-");
}

TEST_F(ImageTest, ARegionThatNobodyKnowsIsNotWrittenOver) {
  const std::uint64_t at = file().size();
  put_in_regions(8, std::uint32_t{3});
  put_in_regions(80, std::uint64_t{77});
  put_in_regions(96, at);
  put_in_regions(104, static_cast<std::uint32_t>(kMiB));
  file().truncate(at + kMiB);
  put(at, std::uint64_t{4711});
  auto image = share.write("base.vhdx");
  ASSERT_TRUE(image->write_at(5 * kMiB, std::string(5 * kMiB, 'x')));
  ASSERT_TRUE(image->zero(0, 16 * kMiB));
  ASSERT_TRUE(image->close());

  EXPECT_EQ(load<std::uint64_t>(file().read(at, 8), 0), 4711u);
  EXPECT_EQ(file().size(), at + kMiB);
}

TEST_F(ImageTest, RefusesARegionTwice) {
  put_in_regions(8, std::uint32_t{3});
  const std::string bat = file().read(kRegionTableAt[0] + 16, 32);
  for (const std::uint64_t table : kRegionTableAt) file().write(table + 80, bat);
  put_in_regions(96, std::uint64_t{20 * kMiB});

  expect_corrupt("region 2dc27766-f623-4200-9d64-115e9bfd4a08 twice");
}

TEST_F(ImageTest, RefusesMetadataThatItCannotTrust) {
  const auto item = [](std::uint64_t number, std::uint64_t at) {
    return kMetadataAt + 32 + number * 32 + at;
  };
  const std::string kept = file().read(kMetadataAt, kMiB);
  const auto expect = [&](const std::string& words) {
    expect_corrupt(words);
    file().write(kMetadataAt, kept);
  };
  put(kMetadataAt, std::uint8_t{1});
  expect("no metadata table");
  put(kMetadataAt + 10, std::uint16_t{2048});
  expect("2048 metadata items");
  put(kMetadataAt + 10, std::uint16_t{3});
  expect("no metadata item 8141bf1d");
  put(item(1, 16), std::uint32_t{100});
  expect("lies outside");
  put(item(1, 16), std::uint32_t{kMetadataTableBytes});
  expect("lies outside of its region or on another");
  put(item(1, 16), ~std::uint32_t{0});
  expect("lies outside");
  put(item(1, 20), ~std::uint32_t{0});
  expect("lies outside");
  put(item(1, 20), std::uint32_t{0});
  expect("is empty, yet has a place");
  put(item(1, 20), std::uint32_t{4});
  expect("2fa54224-cd1b-4876-b211-5dbed83bf4b8 is too short");
  file().write(item(1, 0), kept.substr(32, 16));
  expect("twice");
  put(kBlockBytesAt, std::uint32_t{3U << 20U});
  expect("blocks of 3145728 bytes");
  put(kBlockBytesAt, std::uint32_t{0});
  expect("blocks of 0 bytes");
  put(kBlockBytesAt, std::uint32_t{1U << 29U});
  expect("blocks of 536870912 bytes");
  put(kDiskBytesAt, std::uint64_t{0});
  expect("a disk of 0 bytes");
  put(kDiskBytesAt, std::uint64_t{513});
  expect("a disk of 513 bytes");
  put(kDiskBytesAt, 65 * kTiB);
  expect("a disk of");
  put(kDiskBytesAt, 200 * (1024 * kMiB));
  expect("a BAT of 1048576 bytes");
  put(kLogicalAt, std::uint32_t{1024});
  expect("logical sectors of 1024 bytes");
  put(kLogicalAt + 4, std::uint32_t{0});
  expect("physical sectors of 0 bytes");
  put(kFlagsAt, std::uint32_t{2});
  expect("without a parent locator");
  expect_opens();
}

TEST_F(ImageTest, RefusesMetadataThatItMustKnow) {
  put(kMetadataAt + 10, std::uint16_t{6});
  put(kMetadataAt + 192, std::uint64_t{77});
  expect_opens();
  put(kMetadataAt + 192 + 24, std::uint32_t{4});
  expect_refused(ErrorCode::kUnsupported, "metadata 0000004d-");
}

TEST_F(ImageTest, RefusesTablesThatPointWhereTheyMustNot) {
  const std::uint64_t good = entry(0);
  const auto expect = [&](std::uint64_t wrong, const std::string& words) {
    put(kBatAt, wrong);
    expect_corrupt(words);
  };
  expect(BatEntry(BlockState::kFullyPresent, 0).bits(), "overlaps");
  expect(BatEntry(BlockState::kFullyPresent, kBatAt).bits(), "overlaps");
  expect(BatEntry(BlockState::kFullyPresent, kMetadataAt).bits(), "overlaps");
  expect(BatEntry(BlockState::kFullyPresent, kMiB).bits(), "overlaps");
  expect(entry(1), "overlaps");
  expect(BatEntry(BlockState::kFullyPresent, 1000 * kMiB).bits(), "block 0 at 1048576000 lies");
  expect(~std::uint64_t{0} << 20U | 6U, "lies beyond");
  expect(good | 1U, "block 0 is partial, on a disk without parent");
  expect((good & ~std::uint64_t{7}) | 4U, "block 0 is in state 4");
  expect((good & ~std::uint64_t{7}) | 5U, "block 0 is in state 5");
  put(kBatAt, good);
  expect_opens();
}

TEST_F(ImageTest, RefusesBitmapsThatPointWhereTheyMustNot) {
  // 1 MiB blocks of 512-byte sectors: 4,096 blocks, then their bitmap.
  const std::uint64_t bitmap = kBatAt + 32 * kKiB;
  const std::uint64_t good = entry(4096, "child.avhdx");
  ASSERT_EQ(good & 7U, kBitmapPresent);
  const auto expect = [&](std::uint64_t wrong, const std::string& words) {
    put(bitmap, wrong, "child.avhdx");
    expect_corrupt(words, "child.avhdx");
  };
  expect(0, "block 0 is partial, without a bitmap");
  expect(entry(0, "child.avhdx") & ~std::uint64_t{1}, "overlaps");
  expect(kBitmapPresent | 1000 * kMiB, "bitmap 0 at 1048576000 lies");
  put(kBatAt, std::uint64_t{0}, "child.avhdx");
  expect(good & ~std::uint64_t{4}, "bitmap 0 is in state 2");
}

TEST_F(ImageTest, RefusesALocatorThatItCannotTrust) {
  const std::string kept = file("child.avhdx").read(kMetadataAt, kMiB);
  const std::uint64_t locator = kItemsAt + 40;
  const auto expect = [&](ErrorCode code, const std::string& words) {
    expect_refused(code, words, "child.avhdx");
    file("child.avhdx").write(kMetadataAt, kept);
  };
  put(locator, std::uint8_t{1}, "child.avhdx");
  expect(ErrorCode::kUnsupported, "whose parent is of type");
  put(locator + 18, std::uint16_t{60'000}, "child.avhdx");
  expect(ErrorCode::kCorrupt, "60000 entries");
  put(locator + 18, std::uint16_t{0}, "child.avhdx");
  expect(ErrorCode::kCorrupt, "no parent_linkage");
  put(locator + 18, std::uint16_t{1}, "child.avhdx");
  expect(ErrorCode::kCorrupt, "no path");
  put(locator + 20, std::uint32_t{0}, "child.avhdx");
  expect(ErrorCode::kCorrupt, "text of 28 bytes at 0");
  put(locator + 20, std::uint32_t{0xFFFFFFF0U}, "child.avhdx");
  expect(ErrorCode::kCorrupt, "text of 28 bytes at");
  put(locator + 28, std::uint16_t{27}, "child.avhdx");
  expect(ErrorCode::kCorrupt, "is not UTF-16");
  put(locator + 24, std::uint32_t{locator == 0 ? 0U : 56U}, "child.avhdx");
  expect(ErrorCode::kCorrupt, "is not a GUID");
}

TEST_F(ImageTest, BlocksWithoutContentsReadAsZeros) {
  put(kBatAt, std::uint64_t{1});
  put(kBatAt + 8, std::uint64_t{3});
  put(kBatAt + 16, entry(2) & ~std::uint64_t{7});  // Not present, with a place that has no meaning.

  EXPECT_EQ(share.contents("base.vhdx"), std::string(16 * kMiB, '\0'));
}

}  // namespace
}  // namespace farside::agent::vhdx
