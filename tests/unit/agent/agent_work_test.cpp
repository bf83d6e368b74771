// What an agent's workers do, source and target together over a real data port, on hosts in memory:
// what a VM is like belongs to each recovery point, and the target has proven that it can build it.
#include <gtest/gtest.h>

#include <algorithm>
#include <atomic>
#include <filesystem>
#include <thread>

#include "tests/unit/agent/two_hosts.h"

namespace farside::agent {
namespace {

using AgentWorkTest = TwoHosts;

TEST_F(AgentWorkTest, ADrillHasTheShapeThatTheVmHadAtThePoint) {
  ASSERT_TRUE(prepare());
  point();
  here_.change_vm(kVm, [](msg::Vm& vm) {
    vm.memory_mib = 224;
    vm.processors = 2;
  });
  point();

  const auto before = drill(1);
  const auto after = drill(2);

  EXPECT_EQ(before.memory_mib, 160U);
  EXPECT_EQ(before.processors, 1U);
  EXPECT_EQ(after.memory_mib, 224U);
  EXPECT_EQ(after.processors, 2U);
  ASSERT_EQ(after.nics.size(), 1U);
  EXPECT_EQ(after.nics[0].network, "blue");
}

TEST_F(AgentWorkTest, DisksOfAPointStayItsOwnWhateverCameOrWentSince) {
  ASSERT_TRUE(prepare());
  point();
  here_.change_vm(kVm, [](msg::Vm& vm) { vm.disks.pop_back(); });
  point();
  here_.change_vm(kVm, [](msg::Vm& vm) {
    vm.disks.push_back({.name = "vdb", .bytes = kMib, .id = "serial:other"});
  });
  order_disks();
  point();

  EXPECT_EQ(drill(1).disks.size(), 2U);
  EXPECT_EQ(drill(1).disks[1].bytes, 2 * kMib);
  EXPECT_EQ(drill(2).disks.size(), 1U);
  EXPECT_EQ(drill(3).disks.size(), 2U);
  EXPECT_EQ(drill(3).disks[1].bytes, kMib);
}

TEST_F(AgentWorkTest, APointOfDisksThatNobodyOrderedWaitsForTheOrder) {
  ASSERT_TRUE(prepare());
  point();
  here_.change_vm(kVm, [](msg::Vm& vm) { vm.disks[0].bytes = 8 * kMib; });

  const auto early = cycle();
  order_disks();
  const auto late = cycle();

  ASSERT_FALSE(early);
  EXPECT_EQ(early.error().code, ErrorCode::kUnavailable) << "tried again by itself, and soon";
  ASSERT_TRUE(late) << late.error().what;
  EXPECT_EQ(drill(1).disks[0].bytes, 4 * kMib);
  EXPECT_EQ(drill(2).disks[0].bytes, 8 * kMib);
}

TEST_F(AgentWorkTest, ASourceWithAWrongClockIsToldOfAndGoesOn) {
  ASSERT_TRUE(prepare());
  for (const Micros skew : {Micros{std::chrono::hours{24}}, Micros{-std::chrono::hours{1}}}) {
    source_clock_.skew = skew;
    const auto before = clock_.now();
    point();

    const auto status = maintain({.item = kItem}).status;
    EXPECT_GE(status.newest.captured_at, before.micros);
    EXPECT_LE(status.newest.captured_at, clock_.now().micros);
    ASSERT_EQ(status.warnings.size(), 1U);
    EXPECT_NE(status.warnings[0].what.find("cannot be"), std::string::npos);
  }
  source_clock_.skew = Micros{0};
  point();
  EXPECT_TRUE(maintain({.item = kItem}).status.warnings.empty());
}

TEST_F(AgentWorkTest, DamageInTheNewestPointIsToldAndRepairedByItself) {
  ASSERT_TRUE(here_.write(kVm, "vda", 0, std::string(replica::kBlockBytes, 'x')));
  ASSERT_TRUE(prepare());
  point();
  const std::string base =
      folder_ / "storage/farside-replicas/" + std::string(kItem) + "/base-vda.raw";
  {
    const auto file = File::open_to_write(base).value();
    ASSERT_TRUE(file.write_at(100, "rot"));
  }

  const auto found = maintain({.item = kItem}).status;

  EXPECT_EQ(found.damaged, 1U);
  EXPECT_EQ(found.scrub_mismatches, 1U);
  ASSERT_EQ(found.faults.size(), 1U);
  EXPECT_GT(found.proven_at, 0) << "what follows is done all the same";
  const auto repaired = cycle();
  ASSERT_TRUE(repaired) << repaired.error().what;
  EXPECT_TRUE(repaired->resynced);
  EXPECT_TRUE(maintain({.item = kItem}).status.faults.empty());
}

// Its time stands still: maintenance that waits for its next slice waits for ever.
TEST_F(AgentWorkTest, AnOrderDoesNotWaitForMaintenance) {
  ASSERT_TRUE(prepare());
  for (char c = 'a'; c < 'd'; ++c) {
    for (std::uint64_t at = 0; at < 4 * kMib; at += replica::kBlockBytes) {
      ASSERT_TRUE(here_.write(kVm, "vda", at, std::string(replica::kBlockBytes, c)));
    }
    point();
  }
  const msg::ItemSettings newest_only{.item = kItem, .epoch = 1, .policy = {}};
  ASSERT_TRUE(target_.run(newest_only));
  target_clock_.stands = true;

  std::atomic<bool> ended = false;
  std::thread maintenance([&] {
    // It gives way to an order that is there first, too.
    while (!target_.run(msg::MaintainReplica{.replica = {.item = kItem}})) {
      std::this_thread::yield();
    }
    ended = true;
  });
  while (!ended) {
    EXPECT_TRUE(target_.run(newest_only));
    std::this_thread::yield();
  }

  maintenance.join();
}

TEST_F(AgentWorkTest, AReplicaLiesWhereThisHostsOperatorSaidAndNowhereElse) {
  auto order = preparation();
  TargetWork target{{.endpoint = "",
                     .public_key = target_keys_.public_key,
                     .storage = {folder_ / "elsewhere"},
                     .log_folder = folder_ / "logs"},
                    *target_platform_,
                    views_,
                    clock_,
                    [](auto) {}};
  target.attach(*receiver_);

  const auto prepared = target.run(order);

  ASSERT_FALSE(prepared);
  EXPECT_EQ(prepared.error().code, ErrorCode::kForbidden);
  EXPECT_FALSE(std::filesystem::exists(order.storage_path + "/farside-replicas"));
}

// With a point every second, some grow too old in each round; what went comes back all the same.
TEST_F(AgentWorkTest, ManyBlocksOfPointsThatWentComeBackThoughPointsAgeInEachRound) {
  constexpr std::uint32_t kEach = 1000;
  constexpr std::uint32_t kLarge = 12;
  constexpr int kRoundsMax = 60;
  constexpr std::int64_t kSecond = 1'000'000;
  constexpr std::int64_t kHour = 3600 * kSecond;
  auto order = preparation();
  order.vm.disks.resize(1);
  order.vm.disks[0].bytes = std::uint64_t{kEach} * kLarge * replica::kBlockBytes;
  TargetWork target{{.endpoint = "",
                     .public_key = target_keys_.public_key,
                     .log_folder = folder_ / "logs",
                     .upkeep_per_second = 64 * kMib,
                     .upkeep_turn = std::chrono::milliseconds{200}},
                    *target_platform_,
                    views_,
                    clock_,
                    [](auto) {}};
  target.attach(*receiver_);
  ASSERT_TRUE(target.run(order));
  const auto item = target.open_item(kItem, {}).value();
  const std::int64_t start = (clock_.now().micros / kHour - 3) * kHour;
  int cycles = 0;
  const auto point = [&](std::int64_t second, std::uint32_t first, std::uint32_t count) {
    ASSERT_TRUE(item->begin_delta({.cycle = std::to_string(++cycles), .epoch = 1}));
    std::vector<replica::BlockWrite> writes;
    const std::string zeros(replica::kBlockBytes, '\0');
    for (std::uint32_t block = first; block < first + count; ++block) {
      writes.push_back({.block = block,
                        .codec = replica::Codec::kZero,
                        .hash = replica::hash_of(zeros),
                        .payload = {}});
    }
    ASSERT_TRUE(item->append(writes));
    const std::int64_t at = start + second * kSecond;
    ASSERT_TRUE(
        item->commit_delta({.captured_at = at, .arrived_at = at, .epoch = 1, .blocks = count}));
  };
  point(0, 0, 1);
  for (std::uint32_t i = 0; i < kLarge; ++i) point(1 + i, i * kEach, kEach);
  for (int i = 0; i <= kRoundsMax; ++i) point(1 + kLarge + i, 0, 1);

  int rounds = 0;
  std::uint64_t dropped = 0;
  do {
    ++rounds;
    point(3600 + kLarge + 1 + rounds, 0, 1);
    const std::size_t before = item->points().size();
    ASSERT_TRUE(target.run(
        msg::MaintainReplica{.replica = {.item = kItem, .scrubbed_at = clock_.now().micros}}));
    ASSERT_LT(item->points().size(), before) << "one more is too old";
    dropped = item->usage().dropped;
  } while (dropped > 0 && rounds < kRoundsMax);

  EXPECT_EQ(dropped, 0U);
}

TEST_F(AgentWorkTest, ACopyThatDoesNotGetOnEndsWithItsCause) {
  fail_over();
  there_.break_copies(true);

  const auto stands = target_.run(msg::DetachReplica{.item = kItem, .vm = kTestVm}, "");

  ASSERT_FALSE(stands);
  EXPECT_EQ(stands.error().code, ErrorCode::kTimeout);
  EXPECT_NE(stands.error().what.find("has not got on"), std::string::npos);
  there_.break_copies(false);
  EXPECT_TRUE(target_.run(msg::DetachReplica{.item = kItem, .vm = kTestVm}, ""));
}

TEST_F(AgentWorkTest, ACommittedVmIsTheOperatorsAndItsReplicaStaysForAWhile) {
  fail_over();
  const auto committed =
      target_.run(msg::CommitReplica{.item = kItem, .vm = kTestVm, .keep_hours = 24}, "");

  ASSERT_TRUE(committed) << committed.error().what;
  const auto& done = std::get<msg::ReplicaCommitted>(committed->value);
  EXPECT_EQ(done.vm, kTestVm);
  EXPECT_GT(done.kept_until, (clock_.now() + std::chrono::hours{23}).micros);
  EXPECT_FALSE(there_.find_vm(kTestVm)->is_replica);
  EXPECT_FALSE(cycle()) << "nothing is added to it any more";
  const auto kept = maintain({.item = kItem}).status;
  EXPECT_EQ(kept.kept_until, done.kept_until);
  EXPECT_EQ(kept.points, 1U) << "it is all there";
  EXPECT_TRUE(has_replica());

  target_clock_.skew = std::chrono::hours{25};
  EXPECT_EQ(maintain({.item = kItem}).status.kept_until, done.kept_until) << "a jump is no time";
  EXPECT_TRUE(has_replica());
  target_clock_.skew = Micros{0};
  target_clock_.passed = std::chrono::hours{25};

  EXPECT_EQ(maintain({.item = kItem}).status.kept_until, 0);
  EXPECT_FALSE(has_replica());
  EXPECT_EQ(target_platform_->describe_vm(kTestVm)->state, msg::PowerState::running);
}

TEST_F(AgentWorkTest, ACommitOnceMoreLetsTheReplicaGoSooner) {
  fail_over();
  const msg::CommitReplica commit{.item = kItem, .vm = kTestVm, .keep_hours = 24};
  ASSERT_TRUE(target_.run(commit, ""));
  ASSERT_TRUE(target_.run(commit, "")) << "its answer was lost";

  ASSERT_TRUE(target_.run(msg::CommitReplica{.item = kItem, .vm = kTestVm}, ""));

  EXPECT_FALSE(has_replica());
}

// The vault may not know that the replica was started: it asks for all to be removed.
TEST_F(AgentWorkTest, DisablingNeverRemovesAVmThatRan) {
  fail_over();
  const auto removed = target_.run(msg::RemoveReplica{.item = kItem, .vm = kTestVm});

  ASSERT_TRUE(removed) << removed.error().what;
  const auto vm = target_platform_->describe_vm(kTestVm);
  ASSERT_TRUE(vm);
  EXPECT_EQ(vm->state, msg::PowerState::running);
  EXPECT_FALSE(vm->is_replica) << "it belongs to the operator";
  EXPECT_FALSE(has_replica());
}

// Its state was lost with the record: the VM is its operator's all the same, once it reads no view.
TEST_F(AgentWorkTest, TheVmOfAReplicaThatNobodyKnowsIsReleasedWhenItNeedsNone) {
  const std::string gone = "6f0d6a0e-0000-4000-8000-00000000000f";
  ASSERT_TRUE(target_platform_->create_vm(
      {.shape = {.id = gone, .name = "web"}, .id = gone, .item_id = gone, .start = true}));
  ASSERT_TRUE(target_platform_->describe_vm(gone)->is_replica);
  there_.fail_next("detach_view", Error{.code = ErrorCode::kConflict, .what = "no"});
  EXPECT_FALSE(target_.run(msg::RemoveReplica{.item = gone}));
  EXPECT_TRUE(target_platform_->describe_vm(gone)->is_replica);

  Result<msg::Message> removed = target_.run(msg::RemoveReplica{.item = gone});
  for (int i = 0; i < 100 && !removed; ++i) removed = target_.run(msg::RemoveReplica{.item = gone});

  EXPECT_TRUE(removed);
  EXPECT_FALSE(target_platform_->describe_vm(gone)->is_replica);
  EXPECT_TRUE(target_.run(msg::RemoveReplica{.item = "nothing-here"}));
}

// Nothing that the VM came from goes before it stands on its own disks and belongs to the operator.
TEST_F(AgentWorkTest, ACommitThatMeetsTroubleKeepsTheReplica) {
  fail_over();
  for (const char* call : {"detach_view", "release_vm"}) {
    there_.fail_next(call, Error{.code = ErrorCode::kPlatform, .what = "no"});
    EXPECT_FALSE(target_.run(msg::CommitReplica{.item = kItem, .vm = kTestVm}, "")) << call;
    there_.fail_next(call, Error{.code = ErrorCode::kPlatform, .what = "no"});
    EXPECT_FALSE(target_.run(msg::RemoveReplica{.item = kItem, .keep_vm = true, .vm = kTestVm}));
    EXPECT_TRUE(has_replica()) << call;
  }
  EXPECT_TRUE(target_.run(msg::CommitReplica{.item = kItem, .vm = kTestVm}, ""));
}

TEST_F(AgentWorkTest, AVmThatCouldNotBeBuiltIsNotProtected) {
  const auto prepared = prepare("green");

  ASSERT_FALSE(prepared);
  EXPECT_EQ(prepared.error().code, ErrorCode::kNotFound);
  EXPECT_NE(prepared.error().what.find("green"), std::string::npos) << prepared.error().what;
}

TEST_F(AgentWorkTest, WhatIsProvenIsToldAndProvenAgainWhenTheVmChanged) {
  ASSERT_TRUE(prepare());
  point();
  msg::ReplicaItem replica{.item = kItem};

  auto first = maintain(replica);
  EXPECT_GT(first.status.proven_at, 0);
  EXPECT_FALSE(first.status.proof_fault);
  replica.proven_at = first.status.proven_at;
  replica.proven_definition = first.proven_definition;
  there_.fail_next("prove_vm", {.code = ErrorCode::kPlatform, .what = "no such machine"}, 1);
  maintain(replica);  // Nothing changed: nothing is asked.
  here_.change_vm(kVm, [](msg::Vm& vm) { vm.memory_mib = 512; });
  point();
  const auto changed = maintain(replica);

  ASSERT_TRUE(changed.status.proof_fault);
  EXPECT_NE(changed.status.proof_fault->what.find("no such machine"), std::string::npos);
}

TEST_F(AgentWorkTest, AHostThatDoesNotAnswerProvesNothingEitherWay) {
  ASSERT_TRUE(prepare());
  point();
  there_.fail_next("prove_vm", {.code = ErrorCode::kUnavailable, .what = "away"}, 1);

  const auto asked = maintain({.item = kItem});

  EXPECT_FALSE(asked.status.proof_fault);
  EXPECT_EQ(asked.status.proven_at, 0);
}

TEST_F(AgentWorkTest, AProofThatHasNotBeenMadeForDaysIsAFault) {
  ASSERT_TRUE(prepare());
  point();
  there_.fail_next("prove_vm", {.code = ErrorCode::kUnavailable, .what = "away"}, 1);

  const auto asked =
      maintain({.item = kItem, .proven_at = (clock_.now() - std::chrono::hours{24 * 4}).micros});

  ASSERT_TRUE(asked.status.proof_fault);
  EXPECT_NE(asked.status.proof_fault->what.find("not proven since"), std::string::npos);
  EXPECT_NE(asked.status.proof_fault->what.find("away"), std::string::npos);
}

TEST_F(AgentWorkTest, WhatACrashLeavesOfAProofGoesWhenTheAgentStarts) {
  ASSERT_TRUE(prepare());
  const msg::ReplicaItem replica{.item = kItem, .epoch = 1, .storage_path = folder_ / "storage"};
  const auto left = vm_folder(replica, proof_id(kItem));
  std::filesystem::create_directories(left);

  ASSERT_TRUE(target_.run(msg::Reconcile{.replicas = {replica}}));

  EXPECT_FALSE(std::filesystem::exists(left));
}

TEST_F(AgentWorkTest, AHypervisorThatDoesNotAnswerKeepsNoSourceFromReplicating) {
  ASSERT_TRUE(prepare());
  point();
  there_.fail_next("reconcile", {.code = ErrorCode::kUnavailable, .what = "libvirtd is away"}, 1);
  receiver_->forbid(kItem);

  const auto reconciled = target_.run(msg::Reconcile{
      .replicas = {{.item = kItem,
                    .epoch = 1,
                    .storage_path = folder_ / "storage",
                    .source_key = source_keys_.public_key,
                    .disks = {{.name = "vda", .bytes = 4 * kMib, .id = "serial:a"},
                              {.name = "vdb", .bytes = 2 * kMib, .id = "serial:b"}}}}});

  ASSERT_TRUE(reconciled);
  const auto& done = std::get<msg::Reconciled>(reconciled->value);
  ASSERT_TRUE(done.platform_fault);
  EXPECT_EQ(done.platform_fault->what, "libvirtd is away");
  point();
}

TEST_F(AgentWorkTest, APlanSaysHowTheVmWillBe) {
  ASSERT_TRUE(prepare());
  point();

  const auto asked = target_.run(msg::ProveReplica{.item = kItem, .plan_only = true}, "");

  ASSERT_TRUE(asked) << asked.error().what;
  const auto& plan = std::get<msg::ReplicaProven>(asked->value).plan;
  const auto card = std::ranges::find(plan, msg::PlanRule::mapped, &msg::PlanRow::rule);
  ASSERT_NE(card, plan.end());
  EXPECT_EQ(card->target, "blue");
}

TEST_F(AgentWorkTest, AnUndoLeavesAVmThatItsOperatorSavedAsItIs) {
  ASSERT_TRUE(prepare());
  ASSERT_TRUE(source_platform_->power_off(kVm));
  here_.fail_next("start", {.code = ErrorCode::kConflict, .what = "it is in use"}, 1);
  EXPECT_FALSE(source_.run(msg::RestartSource{.item = kItem, .vm = kVm, .start = true}))
      << "production stays off: somebody has to know";
  here_.fail_next("start", {.code = ErrorCode::kAlreadyExists, .what = "it is saved"}, 1);

  EXPECT_TRUE(source_.run(msg::RestartSource{.item = kItem, .vm = kVm, .start = true}));
  EXPECT_EQ(source_platform_->describe_vm(kVm)->state, msg::PowerState::off);
  EXPECT_TRUE(source_.run(msg::RestartSource{.item = kItem, .vm = kVm, .start = true}));
  EXPECT_EQ(source_platform_->describe_vm(kVm)->state, msg::PowerState::running);
}

TEST_F(AgentWorkTest, AVmThatIsNoNameOfAFolderRemovesNone) {
  ASSERT_TRUE(prepare());
  const std::string precious = folder_ / "precious";
  std::filesystem::create_directories(precious);
  std::filesystem::create_directories(folder_ / "storage/farside-vms");
  const std::string out = "../../precious";

  const std::vector<Result<msg::Message>> answers{
      target_.run(msg::RemoveTestVm{.item = kItem, .vm = out}),
      target_.run(msg::RemoveReplica{.item = kItem, .test_vm = out}),
      target_.run(msg::RemoveReplica{.item = kItem, .vm = out})};

  for (const auto& answer : answers) {
    ASSERT_FALSE(answer);
    EXPECT_EQ(answer.error().code, ErrorCode::kForbidden);
  }
  EXPECT_TRUE(std::filesystem::exists(precious));
  EXPECT_TRUE(has_replica());
}

}  // namespace
}  // namespace farside::agent
