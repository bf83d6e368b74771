// P2, with a real process and kill -9 at random instants: whatever the replica had acknowledged is
// there afterwards, whole; of a delta that was under way nothing is visible, and what was staged
// of it matches its hashes.
#include <gtest/gtest.h>
#include <signal.h>
#include <sys/wait.h>
#include <unistd.h>

#include <chrono>

#include "services/agent/replica_store/item.h"
#include "tests/support/temp_folder.h"
#include "tests/unit/replica_store/writes.h"

namespace farside::replica {
namespace {

constexpr std::uint64_t kBlocks = 40;
const std::vector<msg::ReplicaDisk> kDisks{{.name = "vda", .bytes = kBlocks * kBlockBytes},
                                           {.name = "vdb", .bytes = kBlocks * kBlockBytes}};
const Limits kLimits{
    .segment_bytes = 20 * kBlockBytes, .flush_bytes = 4 * kBlockBytes, .reserve_bytes = 1};

// Delta `seq` writes the same bytes wherever and however often it is made.
std::map<std::uint32_t, std::string> delta_of(std::uint64_t seq, std::uint16_t disk) {
  SeededRandom random(seq * 2 + disk);
  std::map<std::uint32_t, std::string> out;
  for (int i = 0; i < 8; ++i) {
    out[static_cast<std::uint32_t>(random.below(kBlocks))] = content(random);
  }
  return out;
}

std::string state_at(std::uint64_t seq, std::uint16_t disk) {
  std::string state(kBlocks * kBlockBytes, '\0');
  for (std::uint64_t s = 1; s <= seq; ++s) {
    for (const auto& [block, plain] : delta_of(s, disk)) {
      state.replace(std::size_t{block} * kBlockBytes, kBlockBytes, plain);
    }
  }
  return state;
}

// The agent: makes deltas for ever, telling of each that is acknowledged; drops old points and
// consolidates in between.
[[noreturn]] void run_agent(const std::string& folder, int acks) {
  auto opened = Item::open(folder, "web", kDisks, kLimits);
  if (!opened) _exit(2);
  Item& item = **opened;
  for (;;) {
    const std::uint64_t seq = item.newest().seq + 1;
    const std::string cycle = "cycle-" + std::to_string(seq);
    if (!item.begin_delta({.cycle = cycle, .epoch = 1})) _exit(3);
    std::uint64_t blocks = 0;
    for (std::uint16_t disk = 0; disk < 2; ++disk) {
      const BlockSet there = item.staged(disk).value();
      for (const auto& [block, plain] : delta_of(seq, disk)) {
        ++blocks;
        if (there.has(block)) continue;
        Writes writes;
        writes.add(disk, block, plain);
        if (!item.append(writes.list())) _exit(4);
      }
    }
    const auto point = item.commit_delta(
        {.captured_at = static_cast<std::int64_t>(seq), .epoch = 1, .blocks = blocks});
    if (!point || point->seq != seq) _exit(5);
    if (write(acks, &seq, sizeof seq) != sizeof seq) _exit(6);
    std::vector<std::uint64_t> old;
    for (const auto& kept : item.points()) {
      if (kept.seq + 4 < seq || (kept.seq % 3 != 0 && kept.seq + 2 < seq)) old.push_back(kept.seq);
    }
    if (!item.drop_points(old)) _exit(7);
    if (!item.consolidate(3)) _exit(8);
  }
}

TEST(ReplicaCrash, AcknowledgedPointsSurviveKillMinusNineWhole) {
  const test::TempFolder folder;
  SeededRandom random(static_cast<std::uint64_t>(getpid()));
  std::uint64_t acked = 0;
  // On a busy machine a round may end before its first delta does: those do not count.
  for (int round = 0; round < 15 || acked <= 10; ++round) {
    std::array<int, 2> acks{};
    ASSERT_EQ(pipe(acks.data()), 0);
    const pid_t agent = fork();
    ASSERT_GE(agent, 0);
    if (agent == 0) run_agent(folder / "item", acks[1]);
    close(acks[1]);
    usleep(static_cast<useconds_t>(20'000 + random.below(150'000)));
    kill(agent, SIGKILL);
    std::uint64_t seq = 0;
    while (read(acks[0], &seq, sizeof seq) == static_cast<ssize_t>(sizeof seq)) acked = seq;
    close(acks[0]);
    int status = 0;
    waitpid(agent, &status, 0);
    ASSERT_TRUE(WIFSIGNALED(status)) << "the agent gave up with " << WEXITSTATUS(status);

    auto opened = Item::open(folder / "item", "web", kDisks, kLimits);
    ASSERT_TRUE(opened) << opened.error().what;
    Item& item = **opened;
    const std::uint64_t newest = item.newest().seq;
    ASSERT_GE(newest, acked) << "an acknowledged point is gone";
    ASSERT_LE(newest, acked + 1);
    for (const auto& point : item.points()) {
      for (std::uint16_t disk = 0; disk < 2; ++disk) {
        std::string bytes(kBlocks * kBlockBytes, '?');
        const Status read = item.read(disk, point.seq, 0, bytes);
        ASSERT_TRUE(read) << read.error().what;
        ASSERT_TRUE(bytes == state_at(point.seq, disk))
            << "round " << round << " point " << point.seq << " disk " << disk;
      }
    }
    const auto scrub = item.scrub("", 1'000'000).value();
    ASSERT_TRUE(scrub.mismatches.empty()) << scrub.mismatches[0];
    for (std::uint16_t disk = 0; disk < 2; ++disk) {
      const auto next = delta_of(newest + 1, disk);
      item.staged(disk).value().for_each([&](std::uint64_t block) {
        EXPECT_TRUE(next.contains(static_cast<std::uint32_t>(block))) << "never sent";
      });
    }
  }
}

}  // namespace
}  // namespace farside::replica
