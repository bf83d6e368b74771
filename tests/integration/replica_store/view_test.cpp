// Recovery points over NBD, with the real nbdkit.
#include <gtest/gtest.h>
#include <libnbd.h>
#include <signal.h>
#include <sys/stat.h>

#include <filesystem>
#include <fstream>
#include <map>

#include "services/agent/replica_store/replica_store.h"
#include "services/agent/view/views.h"
#include "tests/support/temp_folder.h"
#include "tests/unit/replica_store/writes.h"

namespace farside::replica {
namespace {

class Client {
 public:
  Client(const std::string& socket, const std::string& disk) : nbd_(nbd_create()) {
    nbd_set_export_name(nbd_, disk.c_str());
    nbd_add_meta_context(nbd_, LIBNBD_CONTEXT_BASE_ALLOCATION);
    connected_ = nbd_connect_unix(nbd_, socket.c_str()) == 0;
  }
  ~Client() { nbd_close(nbd_); }
  Client(const Client&) = delete;
  Client& operator=(const Client&) = delete;

  bool connected() const { return connected_; }
  std::uint64_t size() { return static_cast<std::uint64_t>(nbd_get_size(nbd_)); }
  bool is_read_only() { return nbd_is_read_only(nbd_) == 1; }
  std::string read(std::uint64_t offset, std::size_t length) {
    std::string out(length, '?');
    if (nbd_pread(nbd_, out.data(), length, offset, 0) != 0) return nbd_get_error();
    return out;
  }
  // Bytes of the disk that are not holes.
  std::uint64_t allocated() {
    std::uint64_t allocated = 0;
    std::uint64_t at = 0;
    while (at < size()) {
      struct Found {
        std::uint64_t length = 0;
        std::uint64_t data = 0;
      } found;
      const auto callback = [](void* user, const char*, uint64_t, uint32_t* entries, size_t count,
                               int*) {
        auto& f = *static_cast<Found*>(user);
        for (size_t i = 0; i < count; i += 2) {
          f.length += entries[i];
          if ((entries[i + 1] & LIBNBD_STATE_HOLE) == 0) f.data += entries[i];
        }
        return 0;
      };
      nbd_extent_callback extent{.callback = callback, .user_data = &found, .free = nullptr};
      const std::uint64_t part = std::min<std::uint64_t>(size() - at, 0xffff'fe00U);
      if (nbd_block_status(nbd_, part, at, extent, 0) != 0 || found.length == 0) return ~0ULL;
      allocated += found.data;
      at += found.length;
    }
    return allocated;
  }

 private:
  nbd_handle* nbd_;
  bool connected_ = false;
};

class ViewTest : public testing::Test {
 protected:
  void SetUp() override {
    store_ = ReplicaStore::open(folder_ / "replicas", {.reserve_bytes = 1}).value();
    item_ = store_->create("web", disks_).value();
    write({{0, pattern('a')}, {5, pattern('b')}});
    write({{0, pattern('c')}, {160'000, pattern('d')}});
    write({{5, pattern('\0')}});
  }
  void TearDown() override {
    for (const auto& [view, seq] : item_->pins()) EXPECT_TRUE(views_.close(*item_, view));
  }

  void write(const std::map<std::uint32_t, std::string>& blocks) {
    ASSERT_TRUE(item_->begin_delta({.cycle = "c", .epoch = 1}));
    Writes writes;
    for (const auto& [block, plain] : blocks) writes.add(0, block, plain);
    ASSERT_TRUE(item_->append(writes.list()));
    ASSERT_TRUE(item_->commit_delta({.captured_at = 1, .epoch = 1, .blocks = blocks.size()}));
  }

  test::TempFolder folder_;
  const std::vector<msg::ReplicaDisk> disks_{
      {.name = "vda", .bytes = std::uint64_t{200'000} * kBlockBytes},
      {.name = "vdb", .bytes = 512}};
  std::unique_ptr<ReplicaStore> store_;
  SharedItem item_;
  Views views_{folder_ / "run", FARSIDE_VIEW_PLUGIN};
};

TEST_F(ViewTest, ServesEveryDiskAsItWasAtThePoint) {
  const auto first = views_.open(*item_, "one", 1);
  ASSERT_TRUE(first) << first.error().what;
  const auto second = views_.open(*item_, "two", 2);
  ASSERT_TRUE(second) << second.error().what;

  Client at1(first->socket, "vda");
  Client at2(second->socket, "vda");
  Client small(first->socket, "vdb");
  ASSERT_TRUE(at1.connected() && at2.connected() && small.connected());

  EXPECT_EQ(at1.size(), disks_[0].bytes);
  EXPECT_EQ(small.size(), 512U);
  EXPECT_TRUE(at1.is_read_only());
  EXPECT_EQ(at1.read(0, kBlockBytes), pattern('a'));
  EXPECT_EQ(at2.read(0, kBlockBytes), pattern('c'));
  EXPECT_EQ(at2.read(5 * kBlockBytes + 100, 1000), std::string(1000, 'b'));
  EXPECT_EQ(at1.read(std::uint64_t{160'000} * kBlockBytes, 4096), std::string(4096, '\0'));
  EXPECT_EQ(at2.read(std::uint64_t{160'000} * kBlockBytes - 10, 20),
            std::string(10, '\0') + std::string(10, 'd'));
  EXPECT_EQ(small.read(0, 512), std::string(512, '\0'));
  EXPECT_EQ(at1.allocated(), 2U * kBlockBytes) << "holes cost nothing";
  EXPECT_EQ(at2.allocated(), 3U * kBlockBytes);
  Client unknown(first->socket, "vdz");
  EXPECT_FALSE(unknown.connected());
}

TEST_F(ViewTest, StaysTheSameWhileReplicationAndConsolidationGoOn) {
  const auto view = views_.open(*item_, "test", 2);
  ASSERT_TRUE(view) << view.error().what;
  Client client(view->socket, "vda");

  write({{0, pattern('x')}, {5, pattern('y')}});
  ASSERT_TRUE(item_->drop_points({1, 3}));
  while (item_->consolidate(1).value()) {
  }

  EXPECT_EQ(client.read(0, kBlockBytes), pattern('c'));
  EXPECT_EQ(client.read(5 * kBlockBytes, kBlockBytes), pattern('b'));
}

TEST_F(ViewTest, OutlivesTheAgentAndIsFoundAgain) {
  const auto view = views_.open(*item_, "test", 2);
  ASSERT_TRUE(view) << view.error().what;
  const int pid = ViewProcess({.folder = item_->folder(), .view = "test", .socket = view->socket})
                      .pid()
                      .value();

  item_.reset();  // The agent ends and starts again.
  store_.reset();
  store_ = ReplicaStore::open(folder_ / "replicas", {.reserve_bytes = 1}).value();
  item_ = store_->find("web").value();
  Views again(folder_ / "run", FARSIDE_VIEW_PLUGIN);

  EXPECT_TRUE(again.is_alive(*item_, "test"));
  EXPECT_EQ(again.revive(*item_).value(), 0);
  const auto reopened = again.open(*item_, "test", 2);
  ASSERT_TRUE(reopened) << reopened.error().what;
  EXPECT_EQ(reopened->socket, view->socket);
  EXPECT_EQ(ViewProcess({.folder = item_->folder(), .view = "test", .socket = view->socket}).pid(),
            pid);
}

TEST_F(ViewTest, ADeadViewIsRevived) {
  const auto view = views_.open(*item_, "test", 1);
  ASSERT_TRUE(view) << view.error().what;
  const ViewProcess process(
      {.folder = item_->folder(), .view = "test", .seq = 1, .socket = view->socket});
  const int pid = process.pid().value();
  ASSERT_EQ(kill(pid, SIGKILL), 0);
  while (process.is_alive()) usleep(1000);

  EXPECT_EQ(views_.revive(*item_).value(), 1);

  Client client(view->socket, "vda");
  EXPECT_EQ(client.read(0, kBlockBytes), pattern('a'));
  EXPECT_NE(process.pid().value(), pid);
}

TEST_F(ViewTest, ClosingLeavesNothingBehind) {
  const auto view = views_.open(*item_, "test", 1);
  ASSERT_TRUE(view) << view.error().what;
  const int pid = ViewProcess({.folder = item_->folder(), .view = "test", .socket = view->socket})
                      .pid()
                      .value();

  ASSERT_TRUE(views_.close(*item_, "test"));

  // A zombie, where nobody collects orphans, has no command line.
  std::ifstream line("/proc/" + std::to_string(pid) + "/cmdline");
  std::string command;
  EXPECT_FALSE(std::getline(line, command) && !command.empty()) << command;
  EXPECT_FALSE(std::filesystem::exists(view->socket));
  EXPECT_TRUE(item_->pins().empty());
  EXPECT_TRUE(views_.close(*item_, "test")) << "repeating it is fine";
}

TEST_F(ViewTest, SaysWhyItCannotStart) {
  Views broken(folder_ / "run", folder_ / "no-plugin.so");

  const auto view = broken.open(*item_, "test", 1);

  ASSERT_FALSE(view);
  EXPECT_EQ(view.error().code, ErrorCode::kNotFound);
  EXPECT_TRUE(item_->pins().empty()) << "nothing stays pinned for a view that never was";
  EXPECT_EQ(views_.open(*item_, "test", 9).error().code, ErrorCode::kNotFound);
}

TEST_F(ViewTest, DamageIsAnErrorAndNeverBytes) {
  const std::string segment = segment_path(item_->folder(), 1);
  std::string bytes = read_file(segment).value();
  for (std::size_t i = kSegmentMagic.size() + kRecordHeaderBytes; i < bytes.size(); ++i) {
    bytes[i] = static_cast<char>(bytes[i] ^ 1);
  }
  ASSERT_TRUE(replace_file(segment, bytes));
  const auto view = views_.open(*item_, "test", 2);
  ASSERT_TRUE(view) << view.error().what;

  Client client(view->socket, "vda");

  EXPECT_NE(client.read(0, 4096).size(), 4096U);
}

}  // namespace
}  // namespace farside::replica
