// Checkpoints of a machine that runs: what they freeze, and what changed between two of them.
#include <gtest/gtest.h>
#include <poll.h>
#include <sys/stat.h>

#include <fstream>
#include <iterator>
#include <thread>

#include "tests/integration/hvsim/real_host_world.h"

namespace farside::hvsim {
namespace {

using wsman::Instance;
using wsman::Value;

std::string bytes_of(const std::string& path) {
  std::ifstream in(path, std::ios::binary);
  return {std::istreambuf_iterator<char>(in), {}};
}

std::uint64_t total(const std::vector<wsman::ChangedRange>& ranges) {
  std::uint64_t bytes = 0;
  for (const auto& one : ranges) bytes += one.bytes;
  return bytes;
}

unsigned mode_of(const std::string& path) {
  struct stat found{};
  ::stat(path.c_str(), &found);
  return found.st_mode & 0777U;
}

struct CheckpointTest : testing::Test {
  RealHostWorld world;

  // Raw copies of all that a checkpoint froze.
  std::vector<std::string> copies(const Instance& checkpoint, const std::string& name) {
    std::vector<std::string> raw;
    for (const std::string& path : world.frozen(checkpoint)) {
      raw.push_back(world.raw_copy(path, name + std::to_string(raw.size())));
    }
    return raw;
  }
  std::vector<std::string> marks(const Instance& point) {
    return point.texts("ResilientChangeTrackingIdentifiers");
  }
  // Applies what changed since `point` to `older`; they must be what `newer` are then.
  void expect_changes_lead(const std::vector<std::string>& older, const Instance& point,
                           const Instance& checkpoint, const std::vector<std::string>& newer) {
    const auto paths = world.frozen(checkpoint);
    for (std::size_t i = 0; i < paths.size(); ++i) {
      const auto changed = world.changes(paths[i], marks(point)[i]);
      ASSERT_TRUE(changed) << to_text(changed.error());
      std::string image = bytes_of(older[i]);
      const std::string wanted = bytes_of(newer[i]);
      ASSERT_EQ(image.size(), wanted.size());
      for (const auto& one : *changed) {
        image.replace(one.offset, one.bytes, wanted, one.offset, one.bytes);
      }
      EXPECT_TRUE(image == wanted) << paths[i];
      EXPECT_LT(total(*changed), wanted.size()) << "not everything";
    }
  }
};

TEST_F(CheckpointTest, ChangesBetweenTwoCheckpointsAreExact) {
  const std::uint64_t before = world.write_more(50);
  ASSERT_GT(before, 0u) << world.serial(kWitness);
  const auto first = world.checkpoint(kWitness);
  ASSERT_TRUE(first) << to_text(first.error());
  EXPECT_EQ(first->text("VirtualSystemType"), "Microsoft:Hyper-V:Snapshot:Recovery");
  const auto files = world.frozen(*first);
  ASSERT_EQ(files.size(), 2u);
  EXPECT_EQ(mode_of(world.file_of(files[0])), 0444u);

  const auto older = copies(*first, "older");
  ASSERT_GT(world.write_more(30), 0u) << "the guest goes on";
  EXPECT_TRUE(bytes_of(older[0]) == bytes_of(world.raw_copy(files[0], "again"))) << "frozen";
  const guest::Verdict verdict = world.check(older, before);
  EXPECT_TRUE(verdict.ok) << to_json(verdict);

  EXPECT_FALSE(world.checkpoint(kWitness)) << "one at a time";
  const auto point = world.convert(*first);
  ASSERT_TRUE(point) << to_text(point.error());
  EXPECT_EQ(marks(*point).size(), 2u);
  EXPECT_EQ(mode_of(world.file_of(files[0])), 0000u) << "live again";
  const std::uint64_t later = world.write_more(50);
  ASSERT_GT(later, 0u);
  const auto second = world.checkpoint(kWitness);
  ASSERT_TRUE(second) << to_text(second.error());
  const auto newer = copies(*second, "newer");
  expect_changes_lead(older, *point, *second, newer);
  EXPECT_TRUE(world.check(newer, later).ok);

  // Several reference points live at once.
  const auto second_point = world.convert(*second);
  ASSERT_TRUE(second_point);
  ASSERT_GT(world.write_more(20), 0u);
  const auto third = world.checkpoint(kWitness);
  ASSERT_TRUE(third);
  const auto newest = copies(*third, "newest");
  expect_changes_lead(older, *point, *third, newest);
  expect_changes_lead(newer, *second_point, *third, newest);
}

TEST_F(CheckpointTest, ApplicationsHoldStillIfTheyAreAsked) {
  ASSERT_GT(world.write_more(20), 0u);
  // Its agent comes up a little later than the witness.
  EXPECT_TRUE(world.wait_until([&] {
    const auto checkpoint = world.checkpoint(kWitness, 1);
    EXPECT_TRUE(checkpoint) << to_text(checkpoint.error());
    const auto point = checkpoint ? world.convert(*checkpoint) : checkpoint;
    return !point || point->number_or("ConsistencyLevel", 0) == 1;
  }));
  EXPECT_TRUE(world.serial(kWitness).contains("witness: quiesced"));
  EXPECT_GT(world.write_more(10), 0u) << "it goes on";
}

TEST_F(CheckpointTest, AVmThatIsOffIsFrozenToo) {
  ASSERT_GT(world.write_more(20), 0u);
  const auto first = world.checkpoint(kWitness);
  ASSERT_TRUE(first) << to_text(first.error());
  const auto older = copies(*first, "older");
  const auto point = world.convert(*first);
  ASSERT_TRUE(point) << to_text(point.error());
  const std::uint64_t last = world.write_more(20);
  ASSERT_TRUE(world.request_state(kWitness, 3));
  EXPECT_EQ(world.state(kWitness), 3u);

  const auto second = world.checkpoint(kWitness);
  ASSERT_TRUE(second) << to_text(second.error());
  EXPECT_EQ(world.state(kWitness), 3u);
  const auto newer = copies(*second, "newer");
  expect_changes_lead(older, *point, *second, newer);
  EXPECT_TRUE(world.check(newer, last).ok);

  // It may run meanwhile, and be turned off; what it writes is found after the merge.
  ASSERT_TRUE(world.request_state(kWitness, 2));
  ASSERT_GT(world.write_more(20), 0u);
  ASSERT_TRUE(world.request_state(kWitness, 3));
  const auto second_point = world.convert(*second);
  ASSERT_TRUE(second_point) << to_text(second_point.error());
  const auto third = world.checkpoint(kWitness);
  ASSERT_TRUE(third) << to_text(third.error());
  const auto newest = copies(*third, "newest");
  expect_changes_lead(newer, *second_point, *third, newest);
  expect_changes_lead(older, *point, *third, newest);
}

TEST_F(CheckpointTest, APowerCutLosesNoWriteThatWasAcknowledged) {
  ASSERT_GT(world.write_more(20), 0u);
  const auto first = world.checkpoint(kWitness);
  ASSERT_TRUE(first);
  const auto point = world.convert(*first);
  ASSERT_TRUE(point);
  const auto open = world.checkpoint(kWitness);
  ASSERT_TRUE(open);
  const std::uint64_t last = world.write_more(40);
  ASSERT_GT(last, 0u);
  std::ofstream(world.folder() / "vms.json") << "[]";

  world.kill_and_start_again();

  EXPECT_EQ(world.state(kWitness), 3u);
  EXPECT_EQ(world.reference_points(kWitness).size(), 1u);
  const auto files = world.frozen(*open);
  ASSERT_EQ(files.size(), 2u) << "the checkpoint is left over";
  EXPECT_EQ(world.changes(files[0], marks(*point)[0]).error().code, ErrorCode::kTrackingLost);
  const auto next = world.convert(*open);
  ASSERT_TRUE(next) << to_text(next.error());
  const auto merged = world.checkpoint(kWitness);
  ASSERT_TRUE(merged) << to_text(merged.error());
  const auto verdict = world.check(copies(*merged, "merged"), last);
  EXPECT_TRUE(verdict.ok) << to_json(verdict);
  ASSERT_TRUE(world.changes(files[0], marks(*next)[0])) << "tracked anew";
  ASSERT_TRUE(world.request_state(kWitness, 2));
  EXPECT_GT(world.write_more(10), last);
}

TEST_F(CheckpointTest, AKillAtAnyInstantLosesNoWriteThatWasAcknowledged) {
  std::ofstream(world.folder() / "vms.json") << "[]";
  SeededRandom random(3);
  for (int round = 0; round < 5; ++round) {
    ASSERT_GT(world.write_more(10), 0u);
    {
      const std::jthread killer([&] {
        ::poll(nullptr, 0, static_cast<int>(random.below(400)));
        world.process().kill();
      });
      // Until the host is gone.
      for (auto made = world.checkpoint(kWitness); made; made = world.checkpoint(kWitness)) {
        if (!world.convert(*made)) break;
      }
    }
    const std::uint64_t last = world.acknowledged();
    world.kill_and_start_again();

    const auto left = world.client().query(
        "SELECT * FROM Msvm_VirtualSystemSettingData WHERE "
        "VirtualSystemType='Microsoft:Hyper-V:Snapshot:Recovery'");
    ASSERT_TRUE(left) << to_text(left.error());
    if (!left->empty()) {
      ASSERT_TRUE(world.convert(left->at(0)));
    }
    const auto checkpoint = world.checkpoint(kWitness);
    ASSERT_TRUE(checkpoint) << to_text(checkpoint.error());
    const auto verdict = world.check(copies(*checkpoint, "round"), last);
    ASSERT_TRUE(verdict.ok) << round << ": " << to_json(verdict);
    ASSERT_TRUE(world.convert(*checkpoint));
    ASSERT_TRUE(world.request_state(kWitness, 2));
  }
}

TEST_F(CheckpointTest, AShutdownOfTheHostKeepsTracking) {
  ASSERT_GT(world.write_more(20), 0u);
  const auto first = world.checkpoint(kWitness);
  ASSERT_TRUE(first);
  const auto older = copies(*first, "older");
  const auto point = world.convert(*first);
  ASSERT_TRUE(point);
  const std::uint64_t last = world.write_more(20);
  std::ofstream(world.folder() / "vms.json") << "[]";

  world.stop_and_start_again();

  const auto second = world.checkpoint(kWitness);
  ASSERT_TRUE(second) << to_text(second.error());
  const auto newer = copies(*second, "newer");
  expect_changes_lead(older, *point, *second, newer);
  EXPECT_TRUE(world.check(newer, last).ok);
}

TEST_F(CheckpointTest, TrackingIsLostOnOrderAndByACrash) {
  ASSERT_GT(world.write_more(20), 0u);
  for (const char* order : {R"({"do":"lose_tracking","vm":"5A1B0000-0000-4000-8000-00000000AAAA"})",
                            R"({"do":"kill_vm","vm":"5A1B0000-0000-4000-8000-00000000AAAA"})"}) {
    const auto first = world.checkpoint(kWitness);
    ASSERT_TRUE(first) << to_text(first.error());
    const auto files = world.frozen(*first);
    const auto point = world.convert(*first);
    ASSERT_TRUE(point) << to_text(point.error());
    world.process().order(order);
    const auto second = world.checkpoint(kWitness);
    ASSERT_TRUE(second) << to_text(second.error());

    EXPECT_EQ(world.changes(files[0], marks(*point)[0]).error().code, ErrorCode::kTrackingLost);
    ASSERT_TRUE(world.convert(*second));
  }
  EXPECT_EQ(world.state(kWitness), 3u);
}

TEST_F(CheckpointTest, ARebootOfTheHostLeavesCheckpointsOfOthersBehind) {
  ASSERT_GT(world.write_more(20), 0u);
  world.process().order(R"({"do":"leave_checkpoint","vm":"5A1B0000-0000-4000-8000-00000000AAAA"})");
  const std::uint64_t last = world.write_more(20);
  world.process().order(R"({"do":"host_reboot"})");

  EXPECT_EQ(world.state(kWitness), 3u);
  const auto left = world.client().query(
      "SELECT * FROM Msvm_VirtualSystemSettingData WHERE "
      "VirtualSystemType='Microsoft:Hyper-V:Snapshot:Recovery'");
  ASSERT_TRUE(left);
  ASSERT_EQ(left->size(), 1u);
  EXPECT_EQ(left->at(0).text("VirtualSystemIdentifier"), kWitness);
  EXPECT_FALSE(world.checkpoint(kWitness)) << "it is in the way";
  const auto destroyed =
      world.call(wsman::service("Msvm_VirtualSystemSnapshotService"), "DestroySnapshot",
                 {{"AffectedSnapshot",
                   Value::reference({.class_name = "Msvm_VirtualSystemSettingData",
                                     .keys = {{"InstanceID", left->at(0).text("InstanceID")}}})}});
  ASSERT_TRUE(destroyed) << to_text(destroyed.error());
  const auto merged = world.checkpoint(kWitness);
  ASSERT_TRUE(merged) << to_text(merged.error());
  EXPECT_TRUE(world.check(copies(*merged, "merged"), last).ok);
}

TEST_F(CheckpointTest, FrozenDisksMayBeLockedAsLiveOnesAre) {
  ASSERT_GT(world.write_more(5), 0u);
  const auto checkpoint = world.checkpoint(kWitness);
  ASSERT_TRUE(checkpoint);
  const std::string file = world.file_of(world.frozen(*checkpoint).at(0));

  world.process().order(R"({"do":"lock_frozen","on":true})");
  EXPECT_EQ(mode_of(file), 0u);
  world.process().order(R"({"do":"lock_frozen","on":false})");
  EXPECT_EQ(mode_of(file), 0444u);
}

}  // namespace
}  // namespace farside::hvsim
