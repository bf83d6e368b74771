#include "services/agent/replica_store/replica_store.h"

#include <gtest/gtest.h>

#include <filesystem>

#include "tests/support/temp_folder.h"
#include "tests/unit/replica_store/writes.h"

namespace farside::replica {
namespace {

class ReplicaStoreTest : public testing::Test {
 protected:
  void SetUp() override { open(); }
  void open() {
    store_.reset();
    store_ = ReplicaStore::open(folder_ / "replicas", {.reserve_bytes = 1}).value();
  }
  test::TempFolder folder_;
  std::vector<msg::ReplicaDisk> disks_{{.name = "vda", .bytes = kBlockBytes}};
  std::unique_ptr<ReplicaStore> store_;
};

TEST_F(ReplicaStoreTest, FindsAgainWhatItCreated) {
  EXPECT_EQ(store_->find("web").error().code, ErrorCode::kNotFound);
  ASSERT_TRUE(store_->create("web", disks_));
  ASSERT_TRUE(store_->create("db", disks_));

  open();

  EXPECT_EQ(store_->list().value(), (std::vector<std::string>{"db", "web"}));
  ASSERT_TRUE(store_->find("web"));
  EXPECT_EQ(store_->find("web").value(), store_->create("web", disks_).value());
  EXPECT_EQ(store_->find("web").value()->disks(), disks_);
}

// A folder that cannot be looked into is not an absent replica, and nobody else's trouble.
TEST_F(ReplicaStoreTest, AReplicaThatCannotBeLookedAtKeepsNoOtherDown) {
  ASSERT_TRUE(store_->create("web", disks_));
  const std::string sick = folder_ / "replicas/db";
  std::filesystem::create_directory(sick);
  std::filesystem::create_symlink("index", sick + "/index");  // Of itself: ELOOP.

  open();

  EXPECT_EQ(store_->list().value(), (std::vector<std::string>{"db", "web"}));
  EXPECT_TRUE(store_->find("web"));
  const auto found = store_->find("db");
  ASSERT_FALSE(found);
  EXPECT_NE(found.error().code, ErrorCode::kNotFound) << "it would be begun anew";
  EXPECT_NE(found.error().what.find(sick), std::string::npos) << found.error().what;
}

TEST_F(ReplicaStoreTest, NamesCannotLeaveTheRoot) {
  for (const char* name : {"", ".", "..", "../x", "a/b", ".hidden", "a b"}) {
    EXPECT_EQ(store_->create(name, disks_).error().code, ErrorCode::kInvalidArgument) << name;
    EXPECT_FALSE(store_->remove(name)) << name;
  }
}

TEST_F(ReplicaStoreTest, RemovesAllOfAReplicaAndOnlyOnceItIsUnused) {
  const SharedItem item = store_->create("web", disks_).value();
  ASSERT_TRUE(item->begin_delta({.cycle = "c", .epoch = 1}));
  ASSERT_TRUE(item->commit_delta({.captured_at = 1, .epoch = 1}));
  ASSERT_TRUE(item->pin("view", 1));

  EXPECT_EQ(store_->remove("web").error().code, ErrorCode::kConflict);
  ASSERT_TRUE(item->unpin("view"));
  ASSERT_TRUE(store_->remove("web"));

  EXPECT_TRUE(store_->remove("web")) << "repeating it is fine";
  EXPECT_EQ(store_->find("web").error().code, ErrorCode::kNotFound);
  for (const auto& left : std::filesystem::directory_iterator(folder_ / "replicas")) {
    const auto name = left.path().filename().string();
    EXPECT_TRUE(name == "format" || name == ".ballast") << name;
  }
}

TEST_F(ReplicaStoreTest, WhoeverStillHoldsARemovedReplicaCannotTouchTheNextOne) {
  const SharedItem old = store_->create("web", disks_).value();
  ASSERT_TRUE(old->begin_delta({.cycle = "c", .epoch = 1}));
  ASSERT_TRUE(store_->remove("web"));

  const SharedItem fresh = store_->create("web", disks_).value();
  ASSERT_TRUE(fresh->begin_delta({.cycle = "d", .epoch = 1}));

  Writes writes;
  writes.add(0, 0, std::string(kBlockBytes, 'x'));
  EXPECT_EQ(old->append(writes.list()).error().code, ErrorCode::kNotFound);
  EXPECT_EQ(old->commit_delta({.epoch = 1}).error().code, ErrorCode::kNotFound);
  EXPECT_EQ(old->flush().error().code, ErrorCode::kNotFound);
  ASSERT_TRUE(fresh->append(writes.list()));
  EXPECT_TRUE(fresh->commit_delta({.captured_at = 1, .epoch = 1, .blocks = 1}));
}

}  // namespace
}  // namespace farside::replica
