#include "services/agent/replica_store/segment.h"

#include <fmt/core.h>
#include <gtest/gtest.h>

#include <fstream>

#include "tests/support/temp_folder.h"

namespace farside::replica {
namespace {

class SegmentTest : public testing::Test {
 protected:
  void SetUp() override {
    ASSERT_TRUE(make_folders(folder_ / "segments"));
    auto writer = SegmentWriter::create(folder_.path(), 1);
    ASSERT_TRUE(writer);
    for (std::uint32_t block = 0; block < 3; ++block) {
      // Raw: zstd has bits that mean nothing, so that not every change of one is damage.
      const std::string plain(512, static_cast<char>('a' + block));
      auto entry = writer->append({.disk = 0, .block = block, .seq = 9}, Codec::kRaw, plain, 512,
                                  hash_of(plain));
      ASSERT_TRUE(entry);
      entries_.push_back(*entry);
    }
    ASSERT_TRUE(writer->take_dirty().value().sync());
    path_ = segment_path(folder_.path(), 1);
    bytes_ = read_file(path_).value();
  }

  bool rewrite(const std::string& bytes) const {
    std::ofstream out(path_, std::ios::binary | std::ios::trunc);
    return static_cast<bool>((out << bytes).flush());
  }

  test::TempFolder folder_;
  std::string path_;
  std::string bytes_;
  std::vector<BlockEntry> entries_;
};

TEST_F(SegmentTest, CanBeCheckedWithoutTheIndex) {
  const auto check = check_segment(path_);

  ASSERT_TRUE(check);
  EXPECT_EQ(check->records, 3U);
  EXPECT_EQ(check->bytes, bytes_.size());
  EXPECT_EQ(check->problem, "");
}

// As it lies on volumes: see segment.h.
TEST_F(SegmentTest, ARecordHasTheBytesThatAreStored) {
  std::string head;
  for (const char c : bytes_.substr(0, 56)) {
    head += fmt::format("{:02x}", static_cast<unsigned char>(c));
  }
  EXPECT_EQ(head,
            "46415253494445205345474d454e540a"  // Of the file.
            "4653423101000000000000000000020000000200eae7a6fc00000000000000094659a548a9cc8db1");
  EXPECT_EQ(bytes_.substr(56, 512), std::string(512, 'a'));
  EXPECT_EQ(entries_[1].offset, 16U + 40U + 512U + 40U);
}

TEST_F(SegmentTest, EveryDamagedByteIsFound) {
  for (std::size_t at = 0; at < bytes_.size(); ++at) {
    std::string damaged = bytes_;
    damaged[at] = static_cast<char>(damaged[at] ^ 0x01);
    ASSERT_TRUE(rewrite(damaged));

    const auto check = check_segment(path_);

    EXPECT_TRUE(!check || (!check->problem.empty() && check->bytes <= at)) << "byte " << at;
  }
}

TEST_F(SegmentTest, ATornTailEndsAtTheLastGoodRecord) {
  ASSERT_TRUE(rewrite(bytes_.substr(0, bytes_.size() - 1)));

  const auto check = check_segment(path_);

  ASSERT_TRUE(check);
  EXPECT_EQ(check->records, 2U);
  EXPECT_EQ(check->bytes, entries_[2].offset - kRecordHeaderBytes);
  EXPECT_NE(check->problem, "");
}

TEST(Segment, OnlyAnExactNameIsOneOfASegment) {
  EXPECT_EQ(segment_number("00000012.seg"), 12U);
  EXPECT_EQ(segment_number("123456789.seg"), 123'456'789U);
  for (const char* name : {"notes.txt", "12.seg", "00000012.seg.old", "00000012", "0000001x.seg",
                           "00000012.SEG", "", ".seg", "00000000000012.seg"}) {
    EXPECT_EQ(segment_number(name), std::nullopt) << name;
  }
}

}  // namespace
}  // namespace farside::replica
