#include "common/base/advice.h"

#include <gtest/gtest.h>

#include <set>

#include "common/base/similar.h"

namespace farside {
namespace {

TEST(Advice, EveryCodeHasOneOfItsOwn) {
  std::set<std::string_view> seen;
  for (std::uint16_t code = 1; to_text(static_cast<ErrorCode>(code)) != "Unknown"; ++code) {
    const auto advice = default_advice(static_cast<ErrorCode>(code));
    EXPECT_FALSE(advice.empty()) << code;
    EXPECT_TRUE(seen.insert(advice).second) << code << ": " << advice;
  }
  EXPECT_GE(seen.size(), 21U);
  EXPECT_FALSE(default_advice(static_cast<ErrorCode>(999)).empty()) << "of another release";
}

TEST(Advice, ThatOfTheCallSiteComesFirst) {
  EXPECT_EQ(advice_of({.code = ErrorCode::kIo, .what = "x", .advice = "replace the disk"}),
            "replace the disk");
  EXPECT_EQ(advice_of({.code = ErrorCode::kPlatform, .what = "x", .advice = ""}),
            default_advice(ErrorCode::kPlatform));
}

TEST(Similar, OnlyWhatCanBeMeantIsSuggested) {
  const std::vector<std::string> known{"protect", "points", "jobs"};

  EXPECT_EQ(nearest_of(known, "protct"), "protect");
  EXPECT_EQ(nearest_of(known, "job"), "jobs");
  EXPECT_EQ(nearest_of(known, "fly"), "");
  EXPECT_EQ(nearest_of({}, "jobs"), "");
  EXPECT_EQ(edit_distance("kitten", "sitting"), 3U);
}

}  // namespace
}  // namespace farside
