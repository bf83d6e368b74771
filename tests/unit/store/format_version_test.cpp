#include "common/store/format_version.h"

#include <gtest/gtest.h>

#include <filesystem>

#include "common/base/file.h"
#include "common/store/rocks_store.h"
#include "services/agent/replica_store/replica_store.h"
#include "tests/support/temp_folder.h"

namespace farside::store {
namespace {

class FormatVersionTest : public testing::Test {
 protected:
  test::TempFolder folder_;
  const std::string state_ = folder_ / "state";
  const Format format_{.kind = "agent state", .version = 2};
};

TEST_F(FormatVersionTest, AnEmptyFolderIsMarkedAndKnownAgain) {
  ASSERT_TRUE(claim_folder(state_, format_));

  EXPECT_EQ(read_file(state_ + "/format").value(), "farside agent state 2\n");
  ASSERT_TRUE(RocksStore::open(state_));
  EXPECT_TRUE(claim_folder(state_, format_)) << "beside what the store keeps";
  EXPECT_TRUE(RocksStore::open(state_)) << "which lets the mark be";
  EXPECT_TRUE(claim_folder(state_, format_));
}

TEST_F(FormatVersionTest, AnotherVersionIsRefusedWithFolderBothVersionsAndARemedy) {
  ASSERT_TRUE(claim_folder(state_, {.kind = "agent state", .version = 3}));

  const auto claimed = claim_folder(state_, format_);

  ASSERT_FALSE(claimed);
  EXPECT_EQ(claimed.error().code, ErrorCode::kConflict);
  for (const auto& part : {state_, std::string("agent state 2"), std::string("agent state 3")}) {
    EXPECT_NE(claimed.error().what.find(part), std::string::npos) << claimed.error().what;
  }
  EXPECT_NE(claimed.error().advice, "");
  EXPECT_EQ(read_file(state_ + "/format").value(), "farside agent state 3\n");
}

TEST_F(FormatVersionTest, TheStateOfAnotherProgramIsRefused) {
  ASSERT_TRUE(claim_folder(state_, {.kind = "vault state", .version = 2}));

  EXPECT_FALSE(claim_folder(state_, format_));
}

TEST_F(FormatVersionTest, FilesWithoutAMarkAreRefusedAndStay) {
  ASSERT_TRUE(RocksStore::open(state_));

  const auto claimed = claim_folder(state_, format_);

  ASSERT_FALSE(claimed);
  EXPECT_EQ(claimed.error().code, ErrorCode::kConflict);
  EXPECT_FALSE(std::filesystem::exists(state_ + "/format"));
}

TEST_F(FormatVersionTest, AMarkThatACrashCutShortIsWrittenAgain) {
  ASSERT_TRUE(make_folders(state_));
  ASSERT_TRUE(replace_file(state_ + "/format.new", "farside ag"));

  EXPECT_TRUE(claim_folder(state_, format_));
}

TEST_F(FormatVersionTest, AStoreOfReplicasOfAnotherFormIsNotOpened) {
  const std::string root = folder_ / "replicas";
  ASSERT_TRUE(replica::ReplicaStore::open(root));
  ASSERT_TRUE(replica::ReplicaStore::open(root));
  ASSERT_TRUE(replace_file(root + "/format", "farside replicas 77\n"));

  const auto opened = replica::ReplicaStore::open(root);

  ASSERT_FALSE(opened);
  EXPECT_EQ(opened.error().code, ErrorCode::kConflict);
}

}  // namespace
}  // namespace farside::store
