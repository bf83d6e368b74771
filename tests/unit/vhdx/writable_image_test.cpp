// What is written is read, whatever the kind of disk; and what else a write does to the file.
#include "services/agent/platforms/hyperv/vhdx/writable_image.h"

#include <gtest/gtest.h>

#include "tests/unit/vhdx/disks.h"

namespace farside::agent::vhdx {
namespace {

using test::pattern;
using test::Share;

// Random writes, zeroes, flushes and reopens, against a plain buffer.
void write_at_random(Share& share, const std::string& name, std::string& expected,
                     std::uint64_t sector, std::uint64_t seed) {
  SeededRandom random(seed);
  auto image = share.write(name);
  ASSERT_NE(image, nullptr);
  const std::uint64_t sectors = expected.size() / sector;
  for (int i = 0; i < 60; ++i) {
    const std::uint64_t first = random.below(sectors);
    const std::uint64_t longest = random.chance(0.3) ? 8192 : random.chance(0.5) ? 64 : 1;
    const std::uint64_t count = 1 + random.below(std::min(longest, sectors - first));
    const std::uint64_t offset = first * sector;
    const std::uint64_t length = count * sector;
    if (random.chance(0.3)) {
      const Status done = image->zero(offset, length);
      ASSERT_TRUE(done) << to_text(done.error());
      expected.replace(offset, length, length, '\0');
    } else {
      const std::string bytes = pattern(random, length);
      const Status done = image->write_at(offset, bytes);
      ASSERT_TRUE(done) << to_text(done.error());
      expected.replace(offset, length, bytes);
    }
    if (random.chance(0.1)) {
      ASSERT_TRUE(image->flush());
    }
    if (random.chance(0.05)) {
      const Status closed = image->close();
      ASSERT_TRUE(closed) << to_text(closed.error());
      ASSERT_EQ(share.contents(name), expected) << "after " << i;
      image = share.write(name);
    }
    if (random.chance(0.05)) {  // As after a kill, with everything flushed.
      ASSERT_TRUE(image->flush());
      ASSERT_EQ(share.contents(name), expected) << "not closed, after " << i;
      image = share.write(name);
    }
  }
  ASSERT_TRUE(image->close());
  ASSERT_EQ(share.contents(name), expected);
}

struct Kind {
  std::string name;
  std::uint32_t block_bytes;
  std::uint32_t sector_bytes;
  bool is_fixed;
};

class EveryKindTest : public testing::TestWithParam<Kind> {};

TEST_P(EveryKindTest, ReadsWhatWasWritten) {
  const Kind& kind = GetParam();
  for (std::uint64_t seed = 1; seed <= 4; ++seed) {
    Share share;
    std::string expected(11 * kMiB + 48 * kKiB, '\0');  // The last block is a part of one.
    share.create("disk.vhdx", {.disk_bytes = expected.size(),
                               .block_bytes = kind.block_bytes,
                               .logical_sector_bytes = kind.sector_bytes,
                               .is_fixed = kind.is_fixed});

    write_at_random(share, "disk.vhdx", expected, kind.sector_bytes, seed);
  }
}

TEST_P(EveryKindTest, ReadsThroughAChainOfThreeFiles) {
  const Kind& kind = GetParam();
  for (std::uint64_t seed = 1; seed <= 3; ++seed) {
    Share share;
    std::string expected(7 * kMiB + 4096, '\0');
    share.create("base.vhdx", {.disk_bytes = expected.size(),
                               .block_bytes = kind.block_bytes,
                               .logical_sector_bytes = kind.sector_bytes,
                               .is_fixed = kind.is_fixed});
    write_at_random(share, "base.vhdx", expected, kind.sector_bytes, seed);
    const std::string of_base = expected;
    share.create_child("middle.avhdx", "base.vhdx", 2U << 20U);
    EXPECT_EQ(share.contents("middle.avhdx"), of_base);
    write_at_random(share, "middle.avhdx", expected, kind.sector_bytes, seed + 10);
    const std::string of_middle = expected;
    share.create_child("top.avhdx", "middle.avhdx");
    write_at_random(share, "top.avhdx", expected, kind.sector_bytes, seed + 20);

    EXPECT_EQ(share.contents("base.vhdx"), of_base);
    EXPECT_EQ(share.contents("middle.avhdx"), of_middle);
    EXPECT_EQ(share.contents("top.avhdx"), expected);
  }
}

INSTANTIATE_TEST_SUITE_P(Disks, EveryKindTest,
                         testing::Values(Kind{"Dynamic1M", 1U << 20U, 512, false},
                                         Kind{"Dynamic2M", 2U << 20U, 512, false},
                                         Kind{"Dynamic32M", 32U << 20U, 512, false},
                                         Kind{"Dynamic4K", 1U << 20U, 4096, false},
                                         Kind{"Fixed", 2U << 20U, 512, true}),
                         [](const auto& kind) { return kind.param.name; });

struct WritableImageTest : testing::Test {
  Share share;
  void SetUp() override {
    share.create("disk.vhdx", {.disk_bytes = 64 * kMiB, .block_bytes = kBlockBytesMin});
  }
  Header header() { return Image::open(test::open(share.files["disk.vhdx"])).value()->header(); }
};

TEST_F(WritableImageTest, ChangesNothingUntilTheFirstWrite) {
  const std::uint64_t bytes = share.files["disk.vhdx"].size();
  const std::string before = share.files["disk.vhdx"].read(0, bytes);

  auto image = share.write("disk.vhdx");
  EXPECT_TRUE(image->flush());
  EXPECT_TRUE(image->close());

  EXPECT_EQ(share.files["disk.vhdx"].read(0, share.files["disk.vhdx"].size()), before);
}

TEST_F(WritableImageTest, TheFirstWriteOfEachOpeningGivesNewGuids) {
  const Header before = header();

  auto image = share.write("disk.vhdx");
  ASSERT_TRUE(image->write_at(0, std::string(512, 'a')));
  const Header once = header();
  ASSERT_TRUE(image->write_at(512, std::string(512, 'a')));
  ASSERT_TRUE(image->flush());
  const Header open = header();
  ASSERT_TRUE(image->close());
  const Header closed = header();

  EXPECT_NE(once.file_write, before.file_write);
  EXPECT_NE(once.data_write, before.data_write);
  EXPECT_GT(once.sequence, before.sequence);
  EXPECT_EQ(open.data_write, once.data_write);
  EXPECT_FALSE(open.log.is_zero());
  EXPECT_TRUE(closed.log.is_zero());
  EXPECT_EQ(closed.data_write, once.data_write);
}

TEST_F(WritableImageTest, BothHeadersAreValidOnceItIsClosed) {
  auto image = share.write("disk.vhdx");
  ASSERT_TRUE(image->write_at(0, std::string(512, 'a')));
  ASSERT_TRUE(image->close());

  const auto one = parse_header(share.files["disk.vhdx"].read(kHeaderAt[0], kHeaderBytes));
  const auto two = parse_header(share.files["disk.vhdx"].read(kHeaderAt[1], kHeaderBytes));

  ASSERT_TRUE(one && two);
  EXPECT_EQ(one->data_write, two->data_write);
  EXPECT_EQ(std::max(one->sequence, two->sequence), std::min(one->sequence, two->sequence) + 1);
}

TEST_F(WritableImageTest, ZeroedBlocksGiveBackTheirSpace) {
  auto image = share.write("disk.vhdx");
  ASSERT_TRUE(image->write_at(0, std::string(10 * kMiB, 'a')));
  ASSERT_TRUE(image->close());
  const std::uint64_t full = share.files["disk.vhdx"].size();

  image = share.write("disk.vhdx");
  ASSERT_TRUE(image->zero(0, 5 * kMiB));
  ASSERT_TRUE(image->flush());
  ASSERT_TRUE(image->write_at(30 * kMiB + 512, std::string(5 * kMiB - 1024, 'b')));
  ASSERT_TRUE(image->close());

  EXPECT_EQ(share.files["disk.vhdx"].size(), full);
  const std::string disk = share.contents("disk.vhdx");
  EXPECT_EQ(disk.substr(0, 5 * kMiB), std::string(5 * kMiB, '\0'));
  // The old contents of the space must not come up again around the new ones.
  EXPECT_EQ(disk.substr(30 * kMiB, 512), std::string(512, '\0'));
  EXPECT_EQ(disk.substr(35 * kMiB - 512, 512), std::string(512, '\0'));
}

TEST_F(WritableImageTest, SpaceAtTheEndIsGivenBackWhenItIsClosed) {
  const std::uint64_t empty = share.files["disk.vhdx"].size();
  auto image = share.write("disk.vhdx");
  ASSERT_TRUE(image->write_at(0, std::string(3 * kMiB, 'a')));
  ASSERT_TRUE(image->close());
  EXPECT_EQ(share.files["disk.vhdx"].size(), empty + 3 * kMiB);

  image = share.write("disk.vhdx");
  ASSERT_TRUE(image->zero(0, 64 * kMiB));
  ASSERT_TRUE(image->close());

  EXPECT_EQ(share.files["disk.vhdx"].size(), empty);
}

TEST_F(WritableImageTest, ZeroesHideWhatTheParentHas) {
  auto image = share.write("disk.vhdx");
  ASSERT_TRUE(image->write_at(0, std::string(4 * kMiB, 'a')));
  ASSERT_TRUE(image->close());
  share.create_child("child.avhdx", "disk.vhdx");

  image = share.write("child.avhdx");
  ASSERT_TRUE(image->zero(0, kMiB));
  ASSERT_TRUE(image->zero(kMiB + 512, 512));
  ASSERT_TRUE(image->write_at(512, std::string(512, 'b')));  // Into a block that is all zeros.
  ASSERT_TRUE(image->close());

  std::string expected(4 * kMiB, 'a');
  expected.replace(0, kMiB, kMiB, '\0').replace(kMiB + 512, 512, 512, '\0');
  expected.replace(512, 512, 512, 'b');
  EXPECT_EQ(share.contents("child.avhdx").substr(0, 4 * kMiB), expected);
}

// A crash between two log entries, or another writer, may leave bits without a partial block.
TEST_F(WritableImageTest, BitsOfABlockThatIsNotPresentMeanNothing) {
  auto image = share.write("disk.vhdx");
  ASSERT_TRUE(image->write_at(0, std::string(4 * kMiB, 'a')));
  ASSERT_TRUE(image->close());
  share.create_child("child.avhdx", "disk.vhdx");
  image = share.write("child.avhdx");
  ASSERT_TRUE(image->write_at(0, std::string(512, 'b')));
  ASSERT_TRUE(image->close());
  // 1 MiB blocks of 512-byte sectors: 4,096 blocks in the table, then their bitmap.
  test::Bytes& file = share.files["child.avhdx"];
  const auto bitmap = load<std::uint64_t>(file.read(3 * kMiB + 32 * kKiB, 8), 0) & ~(kMiB - 1);
  file.write(bitmap + 256, std::string(256, '\xFF'));  // Of block 1.

  image = share.write("child.avhdx");
  ASSERT_TRUE(image->write_at(kMiB + 512, std::string(512, 'b')));
  ASSERT_TRUE(image->close());

  std::string expected(4 * kMiB, 'a');
  expected.replace(0, 512, 512, 'b').replace(kMiB + 512, 512, 512, 'b');
  EXPECT_EQ(share.contents("child.avhdx").substr(0, 4 * kMiB), expected);
}

TEST_F(WritableImageTest, MoreChangesThanALogEntryHoldsAreLoggedInSeveral) {
  // 64 GiB in blocks of 1 MiB: a BAT of 129 log sectors.
  share.create("large.vhdx", {.disk_bytes = 64 * (1024 * kMiB), .block_bytes = kBlockBytesMin});
  auto image = share.write("large.vhdx");
  ASSERT_TRUE(image->zero(0, image->disk_bytes()));
  ASSERT_TRUE(image->write_at(7 * kMiB, std::string(512, 'a')));
  ASSERT_TRUE(image->flush());
  image.reset();

  const auto chain = share.chain("large.vhdx");

  const std::vector<Extent> expected{
      {.offset = 0, .length = 7 * kMiB, .is_zero = true},
      {.offset = 7 * kMiB, .length = kMiB, .is_zero = false},
      {.offset = 8 * kMiB, .length = 65536 * kMiB - 8 * kMiB, .is_zero = true}};
  EXPECT_EQ(chain->allocated(), expected);
}

TEST_F(WritableImageTest, TakesOnlyWholeSectorsOfTheDisk) {
  auto image = share.write("disk.vhdx");

  EXPECT_EQ(image->write_at(1, std::string(512, 'a')).error().code, ErrorCode::kInvalidArgument);
  EXPECT_EQ(image->write_at(0, "a").error().code, ErrorCode::kInvalidArgument);
  EXPECT_EQ(image->write_at(64 * kMiB, std::string(512, 'a')).error().code,
            ErrorCode::kInvalidArgument);
  EXPECT_EQ(image->zero(64 * kMiB - 512, 1024).error().code, ErrorCode::kInvalidArgument);
  ASSERT_TRUE(image->close());
  EXPECT_EQ(image->write_at(0, std::string(512, 'a')).error().code, ErrorCode::kConflict);
  EXPECT_TRUE(image->close());
}

TEST_F(WritableImageTest, IsNotCreatedOverAFile) {
  const Status again =
      create(*test::open(share.files["disk.vhdx"]), {.disk_bytes = kMiB}, share.random);

  ASSERT_FALSE(again);
  EXPECT_EQ(again.error().code, ErrorCode::kAlreadyExists);
}

TEST_F(WritableImageTest, CannotBeOfSizesThatTheFormatDoesNotHave) {
  for (const NewImage& wrong :
       {NewImage{.disk_bytes = 0}, NewImage{.disk_bytes = 513}, NewImage{.disk_bytes = 65 * kTiB},
        NewImage{.disk_bytes = kMiB, .block_bytes = 3U << 20U},
        NewImage{.disk_bytes = kMiB, .block_bytes = 512U << 20U},
        NewImage{.disk_bytes = kMiB, .logical_sector_bytes = 1024},
        NewImage{.disk_bytes = kMiB, .parent = ParentLocator{}}}) {
    test::Bytes bytes;
    const Status made = create(*test::open(bytes), wrong, share.random);
    ASSERT_FALSE(made);
    EXPECT_EQ(made.error().code, ErrorCode::kInvalidArgument);
    EXPECT_EQ(bytes.size(), 0u);
  }
}

TEST_F(WritableImageTest, WritingToABaseCutsOffItsChildren) {
  share.create_child("child.avhdx", "disk.vhdx");
  auto base = share.write("disk.vhdx");
  ASSERT_TRUE(base->write_at(0, std::string(512, 'a')));
  ASSERT_TRUE(base->close());

  const auto chain = Chain::open(test::open(share.files["child.avhdx"]), share.opener());

  ASSERT_FALSE(chain);
  EXPECT_EQ(chain.error().code, ErrorCode::kCorrupt);
  EXPECT_TRUE(chain.error().what.contains("written to since its child was made"));
}

}  // namespace
}  // namespace farside::agent::vhdx
