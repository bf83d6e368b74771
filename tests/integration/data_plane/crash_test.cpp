// Source and target as two processes, each killed with -9 at random instants, over and over: the
// target never shows anything but a whole point of the source (P1, P2), acknowledged points are
// there (P8), and an interrupted initial copy comes to an end.
#include <fcntl.h>
#include <gtest/gtest.h>
#include <signal.h>
#include <sys/wait.h>
#include <unistd.h>

#include <array>
#include <fstream>
#include <optional>

#include "common/base/clock.h"
#include "common/base/file.h"
#include "services/agent/data_plane/receiver.h"
#include "services/agent/data_plane/shipper.h"
#include "services/agent/replica_store/replica_store.h"
#include "tests/support/memory_vm.h"
#include "tests/support/temp_folder.h"

namespace farside::data {
namespace {

using replica::kBlockBytes;

constexpr std::uint64_t kBlocks = 400;

// The guest's disk after `writes` writes; it never depends on who asks or when.
std::string disk_after(std::uint64_t writes) {
  std::string disk(kBlocks * kBlockBytes, '\0');
  SeededRandom random(1);
  for (std::uint64_t i = 0; i < 600; ++i) {
    std::string noise(2048, '\0');
    for (char& c : noise) c = static_cast<char>(random.next());
    const std::uint64_t at = random.below(kBlocks) * kBlockBytes + random.below(30) * 2048;
    if (i < 400) disk.replace(at, noise.size(), noise);  // What it starts with.
  }
  SeededRandom later(2);
  for (std::uint64_t i = 0; i < writes; ++i) {
    const std::uint64_t at = later.below(kBlocks * 128) * 512;
    std::string sector(512, static_cast<char>('a' + later.below(26)));
    if (later.chance(0.2)) sector.assign(512, '\0');
    disk.replace(at, sector.size(), sector);
  }
  return disk;
}

struct World {
  std::string folder;
  bus::CurveKeys source;
  bus::CurveKeys target;
  std::string endpoint;

  replica::Limits limits() const {
    return {.segment_bytes = 3U << 20U, .flush_bytes = 512U << 10U, .reserve_bytes = 1};
  }
};

[[noreturn]] void run_target(const World& world, int ready) {
  SystemClock clock;
  auto store = replica::ReplicaStore::open(world.folder + "/replicas", world.limits());
  if (!store) _exit(2);
  auto receiver = Receiver::start(
      {.endpoint = world.endpoint,
       .keys = world.target,
       .window_bytes = 2U << 20U,
       .open_item =
           [&](const std::string& item, const std::vector<msg::ReplicaDisk>& disks) {
             return (*store)->create(item, disks);
           },
       .on_durable = {}},
      clock);
  if (!receiver || !(*receiver)->allow("web", world.source.public_key, 1)) _exit(3);
  const std::string endpoint = (*receiver)->endpoint() + "\n";
  if (write(ready, endpoint.data(), endpoint.size()) < 0) _exit(4);
  for (;;) {
    pause();
  }
}

// A token is the number of writes its point holds: "w123-5".  That stands for change tracking,
// which lives in the platform and survives the agent.
std::uint64_t writes_of(const std::string& token) {
  return token.empty() ? 0 : std::strtoull(token.c_str() + 1, nullptr, 10);
}

[[noreturn]] void run_source(const World& world, int acks) {
  SystemRandom random;
  Shipper shipper(world.folder + "/source", random);
  const std::string progress = world.folder + "/token";
  std::string token = farside::read_file(progress).value_or("");
  if (token == "none") token.clear();
  for (;;) {
    const std::uint64_t seed = random.next();
    const auto pending = shipper.pending("web");
    if (!pending) _exit(2);
    const std::string since = pending->cycle.empty() ? token : pending->attempt;
    const std::uint64_t writes = writes_of(since) + seed % 40;
    const std::string attempt =
        "w" + std::to_string(writes) + "-" + std::to_string(random.next() % 1'000'000);
    test::MemoryVm vm;
    vm.add_disk("vda", kBlocks * kBlockBytes);
    if (!since.empty()) {
      vm.disks[0] = disk_after(writes_of(since));
      [[maybe_unused]] const auto old = vm.point(since, "");
    }
    vm.disks[0] = disk_after(writes);
    const auto point = vm.point(attempt, since);
    point->captured_at = static_cast<std::int64_t>(writes);
    const auto shipped =
        shipper.ship(*point, {.item = "web",
                              .epoch = 1,
                              .endpoint = world.endpoint,
                              .target_key = world.target.public_key,
                              .keys = world.source,
                              .attempt = attempt,
                              .since = since,
                              .mode = token.empty() ? ShipMode::kEverything : ShipMode::kChanged,
                              .bytes_per_second = 30U << 20U,
                              .silent_s = 2});
    if (!shipped) {
      if (shipped.error().code == ErrorCode::kTrackingLost) _exit(5);
      continue;  // The target is away; the next attempt goes on.
    }
    token = attempt;
    if (!farside::replace_file(progress, token)) _exit(3);
    const std::array<std::uint64_t, 2> ack{shipped->point.seq, writes};
    if (write(acks, ack.data(), sizeof ack) != sizeof ack) _exit(4);
  }
}

void end(pid_t& pid) {
  if (pid <= 0) return;
  kill(pid, SIGKILL);
  int status = 0;
  waitpid(pid, &status, 0);
  EXPECT_TRUE(WIFSIGNALED(status)) << "gave up with " << WEXITSTATUS(status);
  pid = 0;
}

TEST(DataPlaneCrash, WhicheverEndDiesThePointsAreWhole) {
  const test::TempFolder folder;
  World world{.folder = folder.path(),
              .source = bus::generate_keys().value(),
              .target = bus::generate_keys().value(),
              .endpoint = "tcp://127.0.0.1:*"};
  std::array<int, 2> acks{};
  ASSERT_EQ(pipe2(acks.data(), O_CLOEXEC | O_NONBLOCK), 0);
  SeededRandom random(static_cast<std::uint64_t>(getpid()));
  pid_t target = 0;
  pid_t source = 0;
  std::uint64_t acked = 0;
  const auto start_target = [&] {
    std::array<int, 2> ready{};
    ASSERT_EQ(pipe2(ready.data(), O_CLOEXEC), 0);
    target = fork();
    ASSERT_GE(target, 0);
    if (target == 0) run_target(world, ready[1]);
    close(ready[1]);
    std::string endpoint;
    char c = 0;
    while (read(ready[0], &c, 1) == 1 && c != '\n') endpoint += c;
    close(ready[0]);
    ASSERT_FALSE(endpoint.empty()) << "the target did not start";
    world.endpoint = endpoint;
  };
  const auto start_source = [&] {
    source = fork();
    ASSERT_GE(source, 0);
    if (source == 0) run_source(world, acks[1]);
  };
  ASSERT_NO_FATAL_FAILURE(start_target());
  ASSERT_NO_FATAL_FAILURE(start_source());

  for (int round = 0; round < 14; ++round) {
    usleep(static_cast<useconds_t>(100'000 + random.below(600'000)));
    if (random.chance(0.5)) {
      end(source);
      ASSERT_NO_FATAL_FAILURE(start_source());
    } else {
      end(target);
      ASSERT_NO_FATAL_FAILURE(start_target());
    }
  }
  // Left alone, both get on; bounded by the test's own deadline.
  const auto collect = [&] {
    std::array<std::uint64_t, 2> ack{};
    while (read(acks[0], ack.data(), sizeof ack) == sizeof ack) acked = std::max(acked, ack[0]);
  };
  collect();
  for (const std::uint64_t before = acked; acked < before + 2;) {
    usleep(20'000);
    collect();
    ASSERT_EQ(waitpid(source, nullptr, WNOHANG), 0) << "the source gave up";
  }
  end(source);
  end(target);
  collect();
  close(acks[0]);
  close(acks[1]);

  auto store = replica::ReplicaStore::open(world.folder + "/replicas", world.limits()).value();
  auto found = store->find("web");
  ASSERT_TRUE(found) << found.error().what;
  replica::Item& item = **found;
  EXPECT_GE(item.newest().seq, acked);
  for (const msg::RecoveryPoint& point : item.points()) {
    std::string bytes(kBlocks * kBlockBytes, '?');
    ASSERT_TRUE(item.read(0, point.seq, 0, bytes));
    ASSERT_TRUE(bytes == disk_after(static_cast<std::uint64_t>(point.captured_at)))
        << "point " << point.seq << " is no state the source ever had";
  }
  RecordProperty("points", static_cast<int>(item.newest().seq));
}

}  // namespace
}  // namespace farside::data
