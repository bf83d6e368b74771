// What peers name cannot drive the terminal of whoever reads the log.
#include "common/base/log.h"

#include <gtest/gtest.h>

#include "common/base/log_value.h"

namespace farside::log {
namespace {

std::string shown(std::string_view value) {
  std::string line;
  append_value(line, value);
  return line;
}

TEST(LogValue, IsPlainWhereItCanBe) {
  EXPECT_EQ(shown("web-1"), "web-1");
  EXPECT_EQ(shown("C:\\VMs\\web"), "C:\\VMs\\web");
  EXPECT_EQ(shown("größe-日本-🙂"), "größe-日本-🙂");
  EXPECT_EQ(shown(""), "\"\"");
  EXPECT_EQ(shown("two words"), "\"two words\"");
  EXPECT_EQ(shown("a=b"), "\"a=b\"");
  EXPECT_EQ(shown("say \"x\\y\""), R"("say \"x\\y\"")");
}

TEST(LogValue, HasNoControlCharacters) {
  EXPECT_EQ(shown("\x1b[2Jweb"), R"("\x1b[2Jweb")");
  EXPECT_EQ(shown("a\rb\tc\x7f"), R"("a\x0db\x09c\x7f")");
  EXPECT_EQ(shown(std::string_view("\0", 1)), R"("\x00")");
  EXPECT_EQ(shown("one\ntwo"), "\"one two\"");
  for (char c = 1; c < ' '; ++c) {
    for (const char left : shown(std::string(3, c))) EXPECT_GE(left, ' ') << static_cast<int>(c);
  }
}

TEST(LogValue, IsShownOnATerminalWithoutItsControls) {
  EXPECT_EQ(printable("\x1b[2Jweb \"one\" \\ größe"), R"(\x1b[2Jweb "one" \ größe)");
  EXPECT_EQ(printable(""), "");
  EXPECT_EQ(printable("a\nb\rc\xc2\x9b"), "a\nb\\x0dc\\u{009b}");
}

TEST(LogValue, HasNoControlsOfUnicodeNorOtherDirections) {
  EXPECT_EQ(shown("\u009b2J"), R"("\u{009b}2J")");
  EXPECT_EQ(shown("\u0080\u009f"), R"("\u{0080}\u{009f}")");
  EXPECT_EQ(shown("\u00a0"), "\u00a0");
  for (const char* mark : {"\u202a", "\u202e", "\u2066", "\u2069", "\u200f", "\u2028"}) {
    EXPECT_TRUE(shown(mark).starts_with(R"("\u{20)")) << shown(mark);
  }
}

TEST(LogValue, ShowsBytesThatAreNoText) {
  EXPECT_EQ(shown("\x9b"
                  "2J"),
            R"("\x9b2J")");
  EXPECT_EQ(shown("\xc2"), R"("\xc2")");
  EXPECT_EQ(shown("\xe2\x80"), R"("\xe2\x80")");
  EXPECT_EQ(shown("\xc0\x9b"), R"("\xc0\x9b")");                  // Too long for what it says.
  EXPECT_EQ(shown("\xe0\x82\x9b"), R"("\xe0\x82\x9b")");          // Likewise.
  EXPECT_EQ(shown("\xed\xa0\x80"), R"("\xed\xa0\x80")");          // Half of a pair.
  EXPECT_EQ(shown("\xf4\x90\x80\x80"), R"("\xf4\x90\x80\x80")");  // Beyond Unicode.
}

TEST(Log, WritesValuesEscaped) {
  testing::internal::CaptureStderr();
  write(Level::kWarn, "vm_seen", {{"name", "\x1b]0;owned\x07"}});
  const std::string line = testing::internal::GetCapturedStderr();

  EXPECT_NE(line.find(R"(name="\x1b]0;owned\x07")"), std::string::npos) << line;
  EXPECT_EQ(line.find('\x1b'), std::string::npos);
}

}  // namespace
}  // namespace farside::log
