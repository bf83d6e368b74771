#include "common/base/file_name.h"

#include <gtest/gtest.h>

#include <string>

namespace farside {
namespace {

TEST(FileName, StaysInsideOfItsFolder) {
  for (const char* good : {"web", "3f2504e0-4f89-41d3-9a0c-0305e82c3301", "a b", "a..b"}) {
    EXPECT_TRUE(is_file_name(good)) << good;
  }
  EXPECT_TRUE(is_file_name(std::string(255, 'a')));
  for (const std::string& bad :
       {std::string(), std::string("."), std::string(".."), std::string("../x"), std::string("a/b"),
        std::string("/"), std::string(".hidden"), std::string("a\n"), std::string("a\x7f"),
        std::string("a\0b", 3), std::string(256, 'a')}) {
    EXPECT_FALSE(is_file_name(bad)) << bad;
  }
}

TEST(FileName, ARefusalIsShortAndEscaped) {
  const auto refused = check_file_name("VM", "../" + std::string(5'000, '\x1b'));

  ASSERT_FALSE(refused);
  EXPECT_EQ(refused.error().code, ErrorCode::kForbidden);
  EXPECT_LT(refused.error().what.size(), 400U);
  EXPECT_TRUE(refused.error().what.starts_with("VM \"../")) << refused.error().what;
  EXPECT_EQ(refused.error().what.find('\x1b'), std::string::npos);
}

}  // namespace
}  // namespace farside
