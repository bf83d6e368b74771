// Disks of several files.
#include "services/agent/platforms/hyperv/vhdx/chain.h"

#include <gtest/gtest.h>

#include "tests/unit/vhdx/disks.h"

namespace farside::agent::vhdx {
namespace {

using test::Share;

struct ChainTest : testing::Test {
  Share share;

  // Three files of a disk of 8 MiB: 'b' in [0, 4) MiB below; above it 'm' in a part and 't' in one.
  void SetUp() override {
    share.create("base.vhdx", {.disk_bytes = 8 * kMiB, .block_bytes = kBlockBytesMin});
    put("base.vhdx", 0, 4 * kMiB, 'b');
    share.create_child("middle.avhdx", "base.vhdx");
    put("middle.avhdx", kMiB, kMiB, 'm');
    put("middle.avhdx", 5 * kMiB, 4096, 'm');
    share.create_child("top.avhdx", "middle.avhdx");
    put("top.avhdx", kMiB + 1024, 512, 't');
  }
  void put(const std::string& name, std::uint64_t offset, std::uint64_t length, char fill) {
    auto image = share.write(name);
    ASSERT_TRUE(image->write_at(offset, std::string(length, fill)));
    ASSERT_TRUE(image->close());
  }
  Error refused(const std::string& name) {
    const auto chain = Chain::open(test::open(share.files[name]), share.opener());
    EXPECT_FALSE(chain);
    return chain ? Error{} : chain.error();
  }
};

TEST_F(ChainTest, TellsWhichFileToRead) {
  const auto chain = share.chain("top.avhdx");
  ASSERT_EQ(chain->files(), 3u);

  const auto pieces = chain->map(kMiB - 10, kMiB + 20);

  ASSERT_TRUE(pieces);
  ASSERT_EQ(pieces->size(), 5u);
  const std::vector<std::size_t> files{2, 1, 0, 1, 2};
  const std::vector<std::uint64_t> lengths{10, 1024, 512, kMiB - 1536, 10};
  std::string read;
  for (std::size_t i = 0; i < pieces->size(); ++i) {
    EXPECT_EQ((*pieces)[i].file, files[i]);
    EXPECT_EQ((*pieces)[i].length, lengths[i]);
    std::string part((*pieces)[i].length, '?');
    ASSERT_TRUE(chain->file(files[i]).read_at((*pieces)[i].file_offset, part));
    read += part;
  }
  EXPECT_EQ(read, std::string(10, 'b') + std::string(1024, 'm') + std::string(512, 't') +
                      std::string(kMiB - 1536, 'm') + std::string(10, 'b'));
}

TEST_F(ChainTest, JoinsWhatLiesSideBySide) {
  const auto chain = share.chain("base.vhdx");

  const auto pieces = chain->map(0, 8 * kMiB);

  ASSERT_TRUE(pieces);
  EXPECT_EQ(pieces->size(), 2u);
}

TEST_F(ChainTest, ListsWhatMayHaveData) {
  const auto chain = share.chain("top.avhdx");

  const std::vector<Extent> expected{
      {.offset = 0, .length = 4 * kMiB, .is_zero = false},
      {.offset = 4 * kMiB, .length = kMiB, .is_zero = true},
      {.offset = 5 * kMiB, .length = 4096, .is_zero = false},
      {.offset = 5 * kMiB + 4096, .length = 3 * kMiB - 4096, .is_zero = true}};
  EXPECT_EQ(chain->allocated(), expected);
  EXPECT_EQ(chain->allocated(kMiB, 0), std::vector<Extent>{});
}

TEST_F(ChainTest, RefusesWhatIsNotOnTheDisk) {
  const auto chain = share.chain("top.avhdx");
  std::string buffer(2, '?');

  EXPECT_EQ(chain->map(8 * kMiB, 1).error().code, ErrorCode::kInvalidArgument);
  EXPECT_EQ(chain->map(~std::uint64_t{0}, 2).error().code, ErrorCode::kInvalidArgument);
  EXPECT_EQ(chain->read_at(8 * kMiB - 1, buffer).error().code, ErrorCode::kInvalidArgument);
  EXPECT_EQ(chain->allocated(1, 8 * kMiB).error().code, ErrorCode::kInvalidArgument);
  EXPECT_TRUE(chain->map(8 * kMiB, 0));
}

TEST_F(ChainTest, TellsWhichParentIsMissing) {
  share.files.erase("base.vhdx");

  const Error error = refused("top.avhdx");

  EXPECT_EQ(error.code, ErrorCode::kNotFound);
  EXPECT_TRUE(error.what.contains("parent 2 of the disk, 'base.vhdx'")) << error.what;
}

TEST_F(ChainTest, RefusesAParentThatIsAnotherDisk) {
  share.files["base.vhdx"] = {};
  share.create("base.vhdx", {.disk_bytes = 8 * kMiB, .block_bytes = kBlockBytesMin});

  EXPECT_EQ(refused("top.avhdx").code, ErrorCode::kCorrupt);
}

TEST_F(ChainTest, AcceptsAParentByItsSecondLinkage) {
  const auto base = Image::open(test::open(share.files["base.vhdx"]));
  NewImage child = child_of(**base, "base.vhdx", "");
  child.parent->linkage2 = child.parent->linkage;
  child.parent->linkage = Guid::random(share.random);
  share.create("other.avhdx", child);

  EXPECT_EQ(share.contents("other.avhdx"), share.contents("base.vhdx"));
}

TEST_F(ChainTest, RefusesAParentOfOtherSectors) {
  const auto base = Image::open(test::open(share.files["base.vhdx"]));
  NewImage child = child_of(**base, "base.vhdx", "");
  child.logical_sector_bytes = 4096;
  share.create("other.avhdx", child);

  EXPECT_TRUE(refused("other.avhdx").what.contains("its sectors"));
}

TEST_F(ChainTest, EndsWhereItWouldGoOnForEver) {
  const auto base = Image::open(test::open(share.files["base.vhdx"]));
  NewImage child = child_of(**base, "self.avhdx", "");
  share.create("self.avhdx", child);
  // A file that is its own parent: its linkage becomes what its headers say.
  const auto self = Image::open(test::open(share.files["self.avhdx"]));
  Header header = (*self)->header();
  header.data_write = child.parent->linkage;
  header.sequence += 1;
  share.files["self.avhdx"].write(kHeaderAt[0], write_header(header));

  EXPECT_EQ(refused("self.avhdx").code, ErrorCode::kTooLarge);
}

TEST_F(ChainTest, AChildMayBeLongerOrShorterThanItsParent) {
  const auto base = Image::open(test::open(share.files["base.vhdx"]));
  for (const std::uint64_t bytes : {2 * kMiB, 8 * kMiB + 512, 40 * kMiB}) {
    NewImage child = child_of(**base, "base.vhdx", "");
    child.disk_bytes = bytes;
    share.files.erase("resized.avhdx");
    share.create("resized.avhdx", child);
    put("resized.avhdx", bytes - 512, 512, 'e');

    std::string expected(40 * kMiB, '\0');
    expected.replace(0, 4 * kMiB, 4 * kMiB, 'b');
    expected.replace(bytes - 512, 512, 512, 'e');
    EXPECT_EQ(share.contents("resized.avhdx"), expected.substr(0, bytes));
  }
}

}  // namespace
}  // namespace farside::agent::vhdx
