// One suite for both stores, so that what tests and simulation rely on is true on disk.
#include <gtest/gtest.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cstdlib>
#include <filesystem>
#include <map>
#include <memory>
#include <string>
#include <vector>

#include "common/base/file.h"
#include "common/base/random.h"
#include "common/schema/types.plain.h"
#include "common/store/mem_store.h"
#include "common/store/rocks_store.h"
#include "common/store/table.h"

namespace farside::store {
namespace {

class OnMemory {
 public:
  Store& store() { return store_; }
  void reopen() { store_.crash(); }

 private:
  MemStore store_;
};

class OnDisk {
 public:
  OnDisk() {
    std::string name = (std::filesystem::temp_directory_path() / "farside-store-XXXXXX").string();
    if (mkdtemp(name.data()) == nullptr) std::abort();
    folder_ = name;
    reopen();
  }
  ~OnDisk() {
    store_.reset();
    std::filesystem::remove_all(folder_);
  }
  Store& store() { return *store_; }
  void reopen() {
    store_.reset();
    store_ = RocksStore::open(folder_ + "/db").value();
  }

 private:
  std::string folder_;
  std::unique_ptr<RocksStore> store_;
};

using Entries = std::vector<std::pair<std::string, std::string>>;

Entries scan(const Reader& reader, std::string_view column, std::string_view prefix = {},
             std::string_view from = {}, std::size_t most = 1000) {
  Entries out;
  const Status status =
      reader.scan(column, prefix, from, [&](std::string_view key, std::string_view value) {
        out.emplace_back(key, value);
        return out.size() < most;
      });
  EXPECT_TRUE(status) << status.error().what;
  return out;
}

template <class Place>
class StoreContract : public testing::Test {
 protected:
  Store& store() { return place_.store(); }
  void put(std::string_view column, std::string_view key, std::string value) {
    Batch batch;
    batch.put(column, key, std::move(value));
    ASSERT_TRUE(store().commit(batch));
  }

  Place place_;
};

using Places = testing::Types<OnMemory, OnDisk>;
TYPED_TEST_SUITE(StoreContract, Places);

TYPED_TEST(StoreContract, AnAbsentKeyIsEmptyAndNoError) {
  const auto got = this->store().get("c", "k");

  ASSERT_TRUE(got);
  EXPECT_EQ(*got, std::nullopt);
  EXPECT_EQ(scan(this->store(), "c"), Entries{});
}

TYPED_TEST(StoreContract, WhatWasCommittedIsReadAgainAfterReopening) {
  const std::string binary("\0\xff key", 6);
  this->put("c", binary, std::string("\0v", 2));
  this->put("c", "", "empty key");

  this->place_.reopen();

  EXPECT_EQ(this->store().get("c", binary).value(), std::string("\0v", 2));
  EXPECT_EQ(this->store().get("c", "").value(), "empty key");
}

TYPED_TEST(StoreContract, TheLaterOperationOnAKeyWins) {
  Batch batch;
  batch.put("c", "a", "1");
  batch.put("c", "a", "2");
  batch.put("c", "b", "1");
  batch.erase("c", "b");
  batch.erase("c", "d");
  batch.put("c", "d", "4");

  ASSERT_TRUE(this->store().commit(batch));

  EXPECT_EQ(scan(this->store(), "c"), (Entries{{"a", "2"}, {"d", "4"}}));
}

TYPED_TEST(StoreContract, ColumnsDoNotMixEvenIfOneNameStartsWithTheOther) {
  this->put("item", "z", "1");
  this->put("items", "a", "2");
  this->put("ite", "m", "3");

  EXPECT_EQ(scan(this->store(), "item"), (Entries{{"z", "1"}}));
  EXPECT_EQ(scan(this->store(), "items"), (Entries{{"a", "2"}}));
}

TYPED_TEST(StoreContract, ScansInByteOrderWithinPrefixAndFrom) {
  for (const char* key : {"a", "b\x01", "b\x7f", "b\xff", "b\xff\xff", "c"}) {
    this->put("c", key, "v");
  }

  const auto keys = [&](std::string_view prefix, std::string_view from, std::size_t most = 100) {
    std::vector<std::string> out;
    for (auto& [key, value] : scan(this->store(), "c", prefix, from, most)) out.push_back(key);
    return out;
  };

  using Keys = std::vector<std::string>;
  EXPECT_EQ(keys("b", ""), (Keys{"b\x01", "b\x7f", "b\xff", "b\xff\xff"}));
  EXPECT_EQ(keys("b", "b\x7f"), (Keys{"b\x7f", "b\xff", "b\xff\xff"}));
  EXPECT_EQ(keys("b\xff", ""), (Keys{"b\xff", "b\xff\xff"}));
  EXPECT_EQ(keys("b", "c"), Keys{});
  EXPECT_EQ(keys("", "b\xff\xff"), (Keys{"b\xff\xff", "c"}));
  EXPECT_EQ(keys("", "", 2), (Keys{"a", "b\x01"}));
}

// Overlay against the truth: committing the batch to the store below must look the same.
TYPED_TEST(StoreContract, AnOverlayShowsWhatTheCommitWillShow) {
  SeededRandom random(7);
  const auto key = [&] { return std::string(1, static_cast<char>('a' + random.below(12))); };
  for (int round = 0; round < 40; ++round) {
    Batch batch;
    for (std::uint64_t n = random.below(10); n > 0; --n) {
      const std::string column = random.chance(0.8) ? "c" : "d";
      if (random.chance(0.3)) {
        batch.erase(column, key());
      } else {
        batch.put(column, key(), std::to_string(random.next()));
      }
    }
    const std::string from = key();
    const Overlay overlay(this->store(), batch);
    const Entries all = scan(overlay, "c");
    const Entries some = scan(overlay, "c", "", from, 3);
    std::map<std::string, std::optional<std::string>> single;
    for (char c = 'a'; c < 'm'; ++c) {
      single[{c}] = overlay.get("c", std::string(1, c)).value();
    }

    ASSERT_TRUE(this->store().commit(batch));

    EXPECT_EQ(scan(this->store(), "c"), all) << "round " << round;
    EXPECT_EQ(scan(this->store(), "c", "", from, 3), some) << "round " << round;
    for (const auto& [name, value] : single) {
      EXPECT_EQ(this->store().get("c", name).value(), value) << name;
    }
  }
}

TYPED_TEST(StoreContract, ATableKeepsRecordsAndNamesTheOneThatIsBroken) {
  const Table<msg::Disk> disks("disks");
  Batch batch;
  disks.put(batch, "vm1/vda", {.name = "vda", .bytes = 1});
  disks.put(batch, "vm1/vdb", {.name = "vdb", .bytes = 2});
  disks.put(batch, "vm2/vda", {.name = "vda", .bytes = 3});
  ASSERT_TRUE(this->store().commit(batch));

  EXPECT_EQ(disks.get(this->store(), "vm1/vdb").value()->bytes, 2U);
  EXPECT_EQ(disks.get(this->store(), "vm3/vdb").value(), std::nullopt);
  EXPECT_EQ(disks.all(this->store(), "vm1/").value().size(), 2U);
  EXPECT_EQ(disks.all(this->store()).value().back().first, "vm2/vda");

  this->put("disks", "vm1/vdb", "rubbish!");
  const auto broken = disks.all(this->store());
  ASSERT_FALSE(broken);
  EXPECT_EQ(broken.error().code, ErrorCode::kCorrupt);
  EXPECT_NE(broken.error().what.find("disks/vm1/vdb"), std::string::npos) << broken.error().what;
}

TEST(MemStore, AFailedCommitShowsNothing) {
  MemStore store;
  store.fail_next_commit({.code = ErrorCode::kNoSpace, .what = "full", .advice = ""});
  Batch batch;
  batch.put("c", "a", "1");

  EXPECT_EQ(store.commit(batch).error().code, ErrorCode::kNoSpace);
  EXPECT_EQ(store.get("c", "a").value(), std::nullopt);
  EXPECT_TRUE(store.commit(batch));
}

class RocksStoreTest : public testing::Test {
 protected:
  void SetUp() override {
    std::string name = (std::filesystem::temp_directory_path() / "farside-rocks-XXXXXX").string();
    ASSERT_NE(mkdtemp(name.data()), nullptr);
    folder_ = name;
  }
  void TearDown() override { std::filesystem::remove_all(folder_); }
  std::string folder_;
};

TEST_F(RocksStoreTest, SaysInOurWordsThatAnotherProcessHasItOpen) {
  const auto first = RocksStore::open(folder_ + "/db");
  ASSERT_TRUE(first);

  const auto second = RocksStore::open(folder_ + "/db");

  ASSERT_FALSE(second);
  EXPECT_EQ(second.error().code, ErrorCode::kConflict);
  EXPECT_NE(second.error().what.find("locked by another process"), std::string::npos);
  EXPECT_FALSE(second.error().advice.empty());
}

TEST_F(RocksStoreTest, ReadOnlyOpenOfNothingIsNotFound) {
  const auto nothing = RocksStore::open(folder_ + "/none", RocksStore::Mode::kReadOnly);

  ASSERT_FALSE(nothing);
  EXPECT_EQ(nothing.error().code, ErrorCode::kNotFound) << nothing.error().what;
}

TEST_F(RocksStoreTest, ACheckpointStaysAsItWasWhileTheStoreGoesOn) {
  auto store = RocksStore::open(folder_ + "/db").value();
  Batch batch;
  batch.put("c", "a", "1");
  ASSERT_TRUE(store->commit(batch));

  ASSERT_TRUE(store->checkpoint(folder_ + "/frozen"));
  batch.put("c", "a", "2");
  ASSERT_TRUE(store->commit(batch));

  auto frozen = RocksStore::open(folder_ + "/frozen", RocksStore::Mode::kReadOnly).value();
  EXPECT_EQ(frozen->get("c", "a").value(), "1");
  EXPECT_EQ(store->get("c", "a").value(), "2");
}

// ---- What a crash leaves of the log is normal; what a volume forgot of it is not.

class StoreLogTest : public RocksStoreTest {
 protected:
  void SetUp() override {
    RocksStoreTest::SetUp();
    auto store = RocksStore::open(folder_ + "/db").value();
    for (int i = 0; i < 100; ++i) {
      Batch batch;
      batch.put("c", std::to_string(i), std::string(1000, 'v'));  // Some over ends of blocks.
      ASSERT_TRUE(store->commit(batch));
    }
    store.reset();
    for (const auto& file : std::filesystem::directory_iterator(folder_ + "/db")) {
      if (file.path().extension() == ".log") log_ = file.path().string();
    }
    ASSERT_FALSE(log_.empty());
    bytes_ = read_file(log_).value();
    ASSERT_GT(bytes_.size(), 100'000U);
  }
  void write() { ASSERT_TRUE(replace_file(log_, bytes_)); }
  std::size_t kept() {
    const auto store = RocksStore::open(folder_ + "/db");
    EXPECT_TRUE(store) << store.error().what;
    std::size_t n = 0;
    EXPECT_TRUE((*store)->scan("c", "", "", [&](auto, auto) { return ++n > 0; }));
    return n;
  }

  std::string log_;
  std::string bytes_;
};

TEST_F(StoreLogTest, AWholeLogIsRead) {
  EXPECT_EQ(kept(), 100U);
}

TEST_F(StoreLogTest, ATornTailIsDropped) {
  bytes_.resize(bytes_.size() - 5);
  write();
  EXPECT_EQ(kept(), 99U);
}

TEST_F(StoreLogTest, ATailOfGarbageIsDropped) {
  bytes_.replace(bytes_.size() - 300, 300, 300, '\x5a');
  bytes_ += std::string(5000, '\0');
  write();
  EXPECT_EQ(kept(), 99U);
}

TEST_F(StoreLogTest, DamageBeforeTheTailRefusesTheStore) {
  for (const std::size_t at : {std::size_t{3}, std::size_t{5}, std::size_t{5000},
                               std::size_t{32'768}, bytes_.size() / 2, bytes_.size() - 1500}) {
    const std::string whole = bytes_;
    bytes_[at] = static_cast<char>(bytes_[at] ^ 1);
    write();

    const auto store = RocksStore::open(folder_ + "/db");

    ASSERT_FALSE(store) << at;
    EXPECT_EQ(store.error().code, ErrorCode::kCorrupt);
    EXPECT_NE(store.error().what.find("commits follow"), std::string::npos) << store.error().what;
    EXPECT_FALSE(store.error().advice.empty());
    bytes_ = whole;
  }
  write();
  EXPECT_EQ(kept(), 100U);
}

// Opening makes the next log, writes an empty commit to it, and only then forgets the old one.
class StoreOpenTest : public StoreLogTest {
 protected:
  void SetUp() override {
    StoreLogTest::SetUp();
    bytes_.resize(bytes_.size() - 5);
    write();
    before_ = folder_ + "/before";
    std::filesystem::copy(folder_ + "/db", before_);
  }
  // Opens the store and makes `commits` more; returns the log they are in.
  std::string open_and_commit(int commits) {
    auto store = RocksStore::open(folder_ + "/db").value();
    for (int i = 0; i < commits; ++i) {
      Batch batch;
      batch.put("c", "later " + std::to_string(i), "v");
      EXPECT_TRUE(store->commit(batch));
    }
    store.reset();
    std::string later;
    for (const auto& file : std::filesystem::directory_iterator(folder_ + "/db")) {
      if (file.path().extension() == ".log") later = file.path().string();
    }
    EXPECT_NE(later, log_);
    EXPECT_FALSE(std::filesystem::exists(log_));
    return later;
  }
  // As a crash leaves it that came before the manifest was written.
  void stop_before_manifest(const std::string& later) {
    std::filesystem::copy(later, before_);
    std::filesystem::remove_all(folder_ + "/db");
    std::filesystem::rename(before_, folder_ + "/db");
  }
  std::string before_;
};

TEST_F(StoreOpenTest, ACrashBeforeTheManifestIsWrittenLosesNothing) {
  stop_before_manifest(open_and_commit(0));
  EXPECT_EQ(kept(), 99U);
  EXPECT_EQ(kept(), 99U);
}

TEST_F(StoreOpenTest, ACrashWhileTheEmptyCommitIsWrittenLosesNothing) {
  const std::string later = open_and_commit(0);
  const std::string whole = read_file(later).value();
  ASSERT_FALSE(whole.empty());
  for (std::size_t bytes = 0; bytes < whole.size(); bytes += 6) {
    ASSERT_TRUE(replace_file(later, whole.substr(0, bytes)));
    std::filesystem::copy(before_, folder_ + "/again");
    std::filesystem::copy(later, folder_ + "/again");
    const auto store = RocksStore::open(folder_ + "/again");
    ASSERT_TRUE(store) << store.error().what;
    EXPECT_TRUE((*store)->get("c", "98").value());
    std::filesystem::remove_all(folder_ + "/again");
  }
}

TEST_F(StoreOpenTest, AnOldLogThatStayedBesideTheNextIsNoLoss) {
  open_and_commit(10);
  write();
  EXPECT_EQ(kept(), 109U);
}

TEST_F(StoreOpenTest, ALaterLogThatDoesNotContinueTheTornOneRefusesTheStore) {
  const std::string later = open_and_commit(10);
  bytes_.resize(bytes_.size() / 2);
  ASSERT_TRUE(
      replace_file(before_ + "/" + std::filesystem::path(log_).filename().string(), bytes_));
  stop_before_manifest(later);

  const auto store = RocksStore::open(folder_ + "/db");

  ASSERT_FALSE(store);
  EXPECT_EQ(store.error().code, ErrorCode::kCorrupt);
}

TEST_F(StoreOpenTest, TwoTornLogsInARowAreNoLossIfEachContinues) {
  const std::string later = open_and_commit(10);
  std::string torn = read_file(later).value();
  torn.resize(torn.size() - 5);
  ASSERT_TRUE(replace_file(later, torn));
  stop_before_manifest(later);
  EXPECT_EQ(kept(), 108U);
}

// A process killed at any instant loses none of the commits it had reported.
TEST_F(RocksStoreTest, ReportedCommitsSurviveKillMinusNine) {
  for (int round = 0; round < 5; ++round) {
    int pipe_ends[2];
    ASSERT_EQ(pipe(pipe_ends), 0);
    const pid_t child = fork();
    ASSERT_GE(child, 0);
    if (child == 0) {
      auto store = RocksStore::open(folder_ + "/db").value();
      for (std::uint32_t i = 0;; ++i) {
        Batch batch;
        batch.put("round" + std::to_string(round), std::to_string(i), "v");
        if (!store->commit(batch)) _exit(1);
        if (write(pipe_ends[1], &i, sizeof i) != sizeof i) _exit(1);
      }
    }
    close(pipe_ends[1]);  // Its end is the end of the pipe.
    std::uint32_t last = 0;
    for (int n = 0; n < 20 + 37 * round; ++n) {
      ASSERT_EQ(read(pipe_ends[0], &last, sizeof last), static_cast<ssize_t>(sizeof last));
    }
    kill(child, SIGKILL);
    while (read(pipe_ends[0], &last, sizeof last) == static_cast<ssize_t>(sizeof last)) {
    }
    close(pipe_ends[0]);
    waitpid(child, nullptr, 0);

    auto store = RocksStore::open(folder_ + "/db").value();
    for (std::uint32_t i = 0; i <= last; ++i) {
      ASSERT_NE(store->get("round" + std::to_string(round), std::to_string(i)).value(),
                std::nullopt)
          << i << " of " << last;
    }
  }
}

}  // namespace
}  // namespace farside::store
