#include "common/base/secret_file.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/stat.h>
#include <unistd.h>

#include <filesystem>
#include <fstream>

#include "tests/support/temp_folder.h"

namespace farside {
namespace {

using testing::HasSubstr;

class SecretFileTest : public testing::Test {
 protected:
  void write(const std::string& text, mode_t mode = 0600) const {
    std::ofstream(path_, std::ios::binary | std::ios::trunc) << text;
    ::chmod(path_.c_str(), mode);
  }
  Result<std::string> read() const { return read_secret_file(path_, "password file"); }
  Result<std::string> line() const { return read_secret_line(path_, "password file"); }

  const test::TempFolder folder_;
  const std::string path_ = folder_ / "secret";
};

TEST_F(SecretFileTest, IsReadWholeWhereNobodyElseCanReadIt) {
  for (const mode_t mode : {0600U, 0400U, 0700U}) {
    write("one\ntwo\n", mode);

    const auto text = read();

    ASSERT_TRUE(text) << to_text(text.error());
    EXPECT_EQ(*text, "one\ntwo\n");
  }
}

TEST_F(SecretFileTest, IsRefusedWhereOthersCanReadOrChangeIt) {
  for (const mode_t mode : {0640U, 0604U, 0620U, 0602U, 0644U, 0610U}) {
    write("secret", mode);

    const auto text = read();

    ASSERT_FALSE(text);
    EXPECT_EQ(text.error().code, ErrorCode::kForbidden);
    EXPECT_THAT(text.error().what, HasSubstr("password file '" + path_ + "' has mode 0"));
    EXPECT_THAT(text.error().advice, HasSubstr("chmod 600 " + path_));
  }
}

TEST_F(SecretFileTest, IsRefusedWhereSomebodyElseOwnsIt) {
  if (::geteuid() != 0) GTEST_SKIP() << "only root can give files away";
  write("secret");
  ASSERT_EQ(::chown(path_.c_str(), 65'534, 65'534), 0);

  const auto text = read();
  const auto by_operator =
      read_secret_file(path_, "token file", SecretOwner::kUsOrRootOrAnyoneForRoot);

  ASSERT_FALSE(text);
  EXPECT_EQ(text.error().code, ErrorCode::kForbidden);
  EXPECT_THAT(text.error().what, HasSubstr("user 65534"));
  EXPECT_THAT(text.error().advice, HasSubstr("chown 0 " + path_));
  EXPECT_TRUE(by_operator);
}

TEST_F(SecretFileTest, IsAFileAndNothingThatWaits) {
  ASSERT_EQ(::mkfifo(path_.c_str(), 0600), 0);
  const auto pipe = read();
  std::filesystem::remove(path_);
  std::filesystem::create_directory(path_);
  const auto folder = read();

  for (const auto& refused : {pipe, folder}) {
    ASSERT_FALSE(refused);
    EXPECT_EQ(refused.error().code, ErrorCode::kInvalidArgument);
    EXPECT_THAT(refused.error().what, HasSubstr("regular file"));
  }
}

TEST_F(SecretFileTest, IsNotLargerThanASecretIs) {
  write(std::string(kSecretBytesMax, 'x'));
  const auto fits = read();
  write(std::string(kSecretBytesMax + 1, 'x'));
  const auto large = read();

  ASSERT_TRUE(fits);
  EXPECT_EQ(fits->size(), kSecretBytesMax);
  ASSERT_FALSE(large);
  EXPECT_EQ(large.error().code, ErrorCode::kTooLarge);
}

TEST_F(SecretFileTest, ThatIsMissingIsToldApart) {
  const auto text = read();

  ASSERT_FALSE(text);
  EXPECT_EQ(text.error().code, ErrorCode::kNotFound);
  EXPECT_THAT(text.error().what, HasSubstr(path_));
}

TEST_F(SecretFileTest, OfOneLineHasOne) {
  write(" correct horse \r\n");
  const auto password = line();
  write("\n");
  const auto empty = line();
  write("one\ntwo\n");
  const auto two = line();

  ASSERT_TRUE(password);
  EXPECT_EQ(*password, " correct horse ");
  ASSERT_FALSE(empty);
  EXPECT_EQ(empty.error().code, ErrorCode::kInvalidArgument);
  ASSERT_FALSE(two);
  EXPECT_THAT(two.error().what, HasSubstr("more than one line"));
  EXPECT_THAT(two.error().what, testing::Not(HasSubstr("one\n")));
}

}  // namespace
}  // namespace farside
