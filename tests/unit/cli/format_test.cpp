#include "cli/format.h"

#include <gtest/gtest.h>

#include "cli/paths.h"

namespace farside::cli {
namespace {

TEST(FormatTest, BytesAndSecondsAreShort) {
  EXPECT_EQ(bytes_text(0), "0 B");
  EXPECT_EQ(bytes_text(1023), "1023 B");
  EXPECT_EQ(bytes_text(1536), "1.5 KiB");
  EXPECT_EQ(bytes_text(5.0 * 1024 * 1024 * 1024), "5.0 GiB");
  EXPECT_EQ(seconds_text(-5), "0 s");
  EXPECT_EQ(seconds_text(119), "119 s");
  EXPECT_EQ(seconds_text(185), "3 min 5 s");
  EXPECT_EQ(seconds_text(86400 * 2 + 3600 * 4), "2 d 4 h");
}

TEST(FormatTest, ABarShowsItsPartAndNeverOverflows) {
  EXPECT_EQ(bar(50, 100, 10), "[#####-----]  50 %");
  EXPECT_EQ(bar(300, 100, 4), "[####] 100 %");
  EXPECT_EQ(bar(1, 0, 4), "[----]   0 %");
}

TEST(FormatTest, DatesThatMeanNeverAreADash) {
  const Time now = time_from_iso("2026-03-01T12:00:10Z").value();
  EXPECT_EQ(age_text("", now), "-");
  EXPECT_EQ(age_text("0001-01-01T00:00:00", now), "-");
  EXPECT_EQ(date_text("1753-01-01T01:01:01Z"), "-");
  EXPECT_EQ(age_text("2026-03-01T12:00:00.1234560Z", now), "9 s ago");
  EXPECT_EQ(date_text("2026-03-01T12:00:00.1234560Z"), "2026-03-01 12:00:00");
}

TEST(FormatTest, ColumnsAreAsWideAsTheirWidestCell) {
  EXPECT_EQ(table({"A", "B"}, {{"é", "x"}, {"long", "y"}}),
            "A     B\n"
            "é     x\n"
            "long  y\n");
  EXPECT_EQ(table({"A"}, {}), "nothing\n");
}

TEST(FormatTest, NamesSurviveTheWayThroughAPath) {
  const std::string name = "pol 1/é%";
  EXPECT_EQ(last_segment("/a/" + encoded(name)), name);
}

}  // namespace
}  // namespace farside::cli
