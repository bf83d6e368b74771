#include "common/bus/curve_keys.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/stat.h>

#include <filesystem>
#include <fstream>
#include <sstream>

namespace farside::bus {
namespace {

using testing::HasSubstr;

class CurveKeysTest : public testing::Test {
 protected:
  CurveKeysTest() {
    std::string pattern = (std::filesystem::temp_directory_path() / "keys-XXXXXX").string();
    folder_ = ::mkdtemp(pattern.data());
    path_ = folder_ + "/identity.toml";
  }
  ~CurveKeysTest() override { std::filesystem::remove_all(folder_); }

  std::string text() const {
    std::ifstream in(path_);
    std::ostringstream out;
    out << in.rdbuf();
    return std::move(out).str();
  }
  void rewrite(const std::string& text) const {
    std::ofstream(path_, std::ios::trunc) << text;
    ::chmod(path_.c_str(), 0600);
  }

  std::string folder_;
  std::string path_;
};

TEST_F(CurveKeysTest, TheFirstStartMakesAnIdentityAndTheNextOnesKeepIt) {
  const auto first = load_or_create_keys(path_);
  const auto second = load_or_create_keys(path_);

  ASSERT_TRUE(first) << first.error().what;
  ASSERT_TRUE(second) << second.error().what;
  EXPECT_EQ(first->public_key, second->public_key);
  EXPECT_EQ(first->secret_key, second->secret_key);
  EXPECT_TRUE(is_key(first->public_key));
}

TEST_F(CurveKeysTest, OnlyTheOwnerCanReadTheFileAndNoDraftStays) {
  ASSERT_TRUE(load_or_create_keys(path_));

  struct stat facts{};
  ASSERT_EQ(::stat(path_.c_str(), &facts), 0);
  EXPECT_EQ(facts.st_mode & 0777U, 0600U);
  const std::filesystem::directory_iterator entries(folder_);
  EXPECT_EQ(std::distance(begin(entries), end(entries)), 1);
}

TEST_F(CurveKeysTest, AFileThatOthersCanReadIsRefused) {
  ASSERT_TRUE(load_or_create_keys(path_));
  for (const mode_t mode : {0640U, 0604U, 0620U}) {
    ::chmod(path_.c_str(), mode);

    const auto loaded = load_or_create_keys(path_);

    ASSERT_FALSE(loaded);
    EXPECT_EQ(loaded.error().code, ErrorCode::kForbidden);
    EXPECT_THAT(loaded.error().advice, HasSubstr("chmod 600 " + path_));
  }
}

TEST_F(CurveKeysTest, AFileCutAnywhereIsRefusedAndNeverReplaced) {
  ASSERT_TRUE(load_or_create_keys(path_));
  const std::string whole = text();

  // The last two characters are the closing quote and the end of line.
  for (std::size_t bytes = 0; bytes + 2 < whole.size(); ++bytes) {
    rewrite(whole.substr(0, bytes));
    const auto loaded = load_or_create_keys(path_);
    ASSERT_FALSE(loaded) << bytes;
    EXPECT_EQ(loaded.error().code, ErrorCode::kCorrupt) << bytes;
    EXPECT_EQ(text().size(), bytes);
  }
}

TEST_F(CurveKeysTest, KeysThatDoNotBelongTogetherAreRefused) {
  CurveKeys keys = generate_keys().value();
  keys.public_key = generate_keys()->public_key;
  ASSERT_TRUE(save_keys(path_, keys));

  const auto loaded = load_keys(path_);

  ASSERT_FALSE(loaded);
  EXPECT_THAT(loaded.error().what, HasSubstr("do not belong together"));
}

TEST_F(CurveKeysTest, SavingNeverReplacesAnIdentity) {
  ASSERT_TRUE(load_or_create_keys(path_));
  const std::string before = text();

  const Status saved = save_keys(path_, generate_keys().value());

  ASSERT_FALSE(saved);
  EXPECT_EQ(saved.error().code, ErrorCode::kAlreadyExists);
  EXPECT_EQ(text(), before);
}

TEST_F(CurveKeysTest, AMissingFolderIsAnErrorThatNamesTheFile) {
  const auto loaded = load_or_create_keys(folder_ + "/nowhere/identity.toml");

  ASSERT_FALSE(loaded);
  EXPECT_EQ(loaded.error().code, ErrorCode::kIo);
  EXPECT_THAT(loaded.error().what, HasSubstr("/nowhere/identity.toml"));
}

TEST_F(CurveKeysTest, TellsKeysFromOtherTexts) {
  EXPECT_FALSE(is_key(""));
  EXPECT_FALSE(is_key(std::string(39, '0')));
  EXPECT_FALSE(is_key(std::string(40, '"')));
  EXPECT_FALSE(is_key(std::string(40, '\xff')));
  EXPECT_TRUE(is_key(std::string(40, '0')));
}

}  // namespace
}  // namespace farside::bus
