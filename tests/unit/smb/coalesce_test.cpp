// Merging pieces into requests loses no byte and reads no more than it may.
#include "services/agent/platforms/hyperv/smb/coalesce.h"

#include <gtest/gtest.h>

#include "common/base/random.h"

namespace farside::agent::smb {
namespace {

std::vector<Extent> extents_of(const std::vector<ReadRequest>& requests) {
  std::vector<Extent> extents;
  for (const ReadRequest& request : requests) extents.push_back(request.extent);
  return extents;
}

TEST(CoalesceTest, NearPiecesShareARequestAndFarOnesDoNot) {
  const std::vector<Extent> pieces{{0, 10}, {15, 10}, {40, 10}};

  const auto requests = coalesce(pieces, 5, 1000);

  EXPECT_EQ(extents_of(requests), (std::vector<Extent>{{0, 25}, {40, 10}}));
  EXPECT_EQ(requests[0].parts, (std::vector<Part>{{0, 0, 0, 10}, {1, 0, 15, 10}}));
}

TEST(CoalesceTest, AGapThatIsOneByteTooWideSeparates) {
  EXPECT_EQ(coalesce(std::vector<Extent>{{0, 10}, {15, 1}}, 4, 1000).size(), 2u);
}

TEST(CoalesceTest, ALongPieceIsSplitAtTheMaximum) {
  const std::vector<Extent> pieces{{100, 25}};

  const auto requests = coalesce(pieces, 0, 10);

  EXPECT_EQ(extents_of(requests), (std::vector<Extent>{{100, 10}, {110, 10}, {120, 5}}));
  EXPECT_EQ(requests[2].parts, (std::vector<Part>{{0, 20, 0, 5}}));
}

TEST(CoalesceTest, PiecesAreSortedAndEmptyOnesIgnored) {
  const std::vector<Extent> pieces{{50, 5}, {7, 0}, {0, 5}};

  EXPECT_EQ(extents_of(coalesce(pieces, 0, 10)), (std::vector<Extent>{{0, 5}, {50, 5}}));
  EXPECT_TRUE(coalesce({}, 1, 1).empty());
}

TEST(CoalesceTest, OffsetsNearTheEndOfTheNumbersDoNotOverflow) {
  const std::uint64_t far = ~std::uint64_t{0} - 100;

  EXPECT_EQ(extents_of(coalesce(std::vector<Extent>{{0, 5}, {far, 50}}, 10, 100)),
            (std::vector<Extent>{{0, 5}, {far, 50}}));
}

// Any pieces, also overlapping ones, over a file whose every byte tells its offset.
TEST(CoalesceTest, EveryPieceGetsItsBytes) {
  std::string file(4096, '\0');
  for (std::size_t i = 0; i < file.size(); ++i) file[i] = static_cast<char>((i * 131) ^ (i >> 5U));
  SeededRandom random(1);
  for (int round = 0; round < 500; ++round) {
    std::vector<Extent> pieces;
    std::uint64_t asked = 0;
    for (std::uint64_t i = random.next() % 12; i > 0; --i) {
      const std::uint64_t offset = random.next() % file.size();
      pieces.push_back({offset, random.next() % (file.size() - offset)});
      asked += pieces.back().length;
    }
    const std::uint64_t gap = random.next() % 300;
    const std::uint64_t max = 1 + random.next() % 1500;
    std::vector<std::string> got;
    std::vector<char*> to;
    for (const Extent& piece : pieces) got.emplace_back(piece.length, '?');
    for (std::string& one : got) to.push_back(one.data());

    std::uint64_t covered = 0;
    for (const ReadRequest& request : coalesce(pieces, gap, max)) {
      EXPECT_LE(request.extent.length, max);
      ASSERT_LE(request.extent.offset + request.extent.length, file.size());
      scatter(request, file.substr(request.extent.offset, request.extent.length), to);
      for (const Part& part : request.parts) covered += part.length;
    }

    EXPECT_EQ(covered, asked);
    for (std::size_t i = 0; i < pieces.size(); ++i) {
      EXPECT_EQ(got[i], file.substr(pieces[i].offset, pieces[i].length));
    }
  }
}

}  // namespace
}  // namespace farside::agent::smb
