// What an agent lets in through its door, and what not.
#include "services/agent/order_check.h"

#include <gtest/gtest.h>

#include <limits>
#include <string>
#include <vector>

#include "common/base/file_name.h"

namespace farside::agent {
namespace {

constexpr const char* kUuid = "3F2504E0-4f89-41d3-9a0c-0305e82c3301";

template <class Order>
Error refusal(const Order& order) {
  const auto good = check_order(msg::Message(order));
  return good ? Error{.code = ErrorCode{0}, .what = "let in"} : good.error();
}
template <class Order>
ErrorCode code(const Order& order) {
  return refusal(order).code;
}

const std::vector<std::string>& bad_ids() {
  static const std::vector<std::string> kIds{
      "..",  ".",   ".hidden", "../../etc/x",         "a/b",  "/etc",
      "a b", "a\n", "a,b",     std::string("a\0", 2), "\xff", std::string(129, 'a')};
  return kIds;
}

msg::Policy policy() {
  return {.frequency_seconds = 30, .retention_hours = 24};
}
msg::PrepareReplica preparation() {
  return {.item = kUuid,
          .vm = {.id = kUuid},
          .epoch = 1,
          .storage_path = "/srv/replicas",
          .policy = policy()};
}
msg::StartReplication start() {
  return {.item = kUuid,
          .vm = kUuid,
          .epoch = 1,
          .policy = policy(),
          .endpoint = "tcp://host-b.example:8084"};
}

TEST(OrderCheck, IdsAreUuidsAndNamesThatPeopleChoose) {
  for (const std::string id : {kUuid, "web", "vm-1", "a.b_c", "7"}) EXPECT_TRUE(is_id(id)) << id;
  EXPECT_TRUE(is_id(std::string(128, 'a')));
  EXPECT_FALSE(is_id(""));
  for (const auto& id : bad_ids()) EXPECT_FALSE(is_id(id)) << id;
}

TEST(OrderCheck, LetsInWhatIsOrdered) {
  EXPECT_EQ(refusal(preparation()).what, "let in");
  EXPECT_EQ(refusal(start()).what, "let in");
  EXPECT_EQ(refusal(msg::CheckSource{.vm = kUuid}).what, "let in");
  EXPECT_EQ(refusal(msg::StopReplication{.item = "i", .vm = "v"}).what, "let in");
  EXPECT_EQ(refusal(msg::ShutDownSource{.item = "i", .vm = "v", .deadline_seconds = 3'600}).what,
            "let in");
  // Ids that the agent fills in.
  EXPECT_EQ(refusal(msg::RemoveReplica{.item = "i"}).what, "let in");
  EXPECT_EQ(refusal(msg::StartTestVm{.item = "i"}).what, "let in");
  EXPECT_EQ(refusal(msg::ItemSettings{.item = "i", .epoch = 1, .policy = policy()}).what, "let in");
  EXPECT_EQ(refusal(msg::ItemSettings{.item = "i", .ended = true}).what, "let in");
}

TEST(OrderCheck, AnItemThatIsNoIdIsRefusedInEveryOrder) {
  for (const auto& bad : bad_ids()) {
    auto prepare = preparation();
    prepare.item = bad;
    auto begin = start();
    begin.item = bad;
    for (const auto& order : std::vector<msg::Message>{
             msg::Message(prepare),
             msg::Message(begin),
             msg::Message(msg::StopReplication{.item = bad, .vm = "v"}),
             msg::Message(msg::AwaitInitial{.item = bad}),
             msg::Message(msg::SyncSource{.item = bad}),
             msg::Message(msg::FinalSync{.item = bad}),
             msg::Message(msg::RetryReplication{.item = bad}),
             msg::Message(msg::ShutDownSource{.item = bad, .vm = "v"}),
             msg::Message(msg::RestartSource{.item = bad, .vm = "v"}),
             msg::Message(msg::FenceSource{.item = bad, .vm = "v", .epoch = 1}),
             msg::Message(msg::UnfenceSource{.item = bad, .vm = "v", .epoch = 1}),
             msg::Message(msg::RemoveReplica{.item = bad}),
             msg::Message(msg::VerifyPoint{.item = bad}),
             msg::Message(msg::PromoteReplica{.item = bad, .epoch = 1}),
             msg::Message(msg::DemoteReplica{.item = bad, .epoch = 1}),
             msg::Message(msg::StartReplica{.item = bad, .epoch = 1}),
             msg::Message(msg::DetachReplica{.item = bad}),
             msg::Message(msg::CommitReplica{.item = bad}),
             msg::Message(msg::StartTestVm{.item = bad}),
             msg::Message(msg::ProveReplica{.item = bad}),
             msg::Message(msg::AwaitLife{.item = bad}),
             msg::Message(msg::RemoveTestVm{.item = bad}),
             msg::Message(msg::ListPoints{.item = bad}),
             msg::Message(msg::ItemSettings{.item = bad, .ended = true})}) {
      const auto good = check_order(order);
      ASSERT_FALSE(good) << msg::name_of(order) << " " << bad;
      EXPECT_EQ(good.error().code, ErrorCode::kInvalidArgument);
      EXPECT_TRUE(good.error().what.contains(".item: ")) << good.error().what;
      EXPECT_FALSE(good.error().advice.empty());
    }
  }
}

TEST(OrderCheck, AVmThatIsNoIdIsRefusedInEveryOrder) {
  for (const auto& bad : bad_ids()) {
    auto prepare = preparation();
    prepare.vm.id = bad;
    auto begin = start();
    begin.vm = bad;
    for (const auto& order : std::vector<msg::Message>{
             msg::Message(prepare), msg::Message(begin), msg::Message(msg::CheckSource{.vm = bad}),
             msg::Message(msg::StopReplication{.item = "i", .vm = bad}),
             msg::Message(msg::ShutDownSource{.item = "i", .vm = bad}),
             msg::Message(msg::RestartSource{.item = "i", .vm = bad}),
             msg::Message(msg::FenceSource{.item = "i", .vm = bad, .epoch = 1}),
             msg::Message(msg::UnfenceSource{.item = "i", .vm = bad, .epoch = 1}),
             msg::Message(msg::RemoveReplica{.item = "i", .vm = bad}),
             msg::Message(msg::RemoveReplica{.item = "i", .test_vm = bad}),
             msg::Message(msg::StartReplica{.item = "i", .epoch = 1, .vm = bad}),
             msg::Message(msg::DetachReplica{.item = "i", .vm = bad}),
             msg::Message(msg::CommitReplica{.item = "i", .vm = bad}),
             msg::Message(msg::StartTestVm{.item = "i", .vm = bad}),
             msg::Message(msg::AwaitLife{.item = "i", .vm = bad}),
             msg::Message(msg::RemoveTestVm{.item = "i", .vm = bad})}) {
      const auto good = check_order(order);
      ASSERT_FALSE(good) << msg::name_of(order) << " " << bad;
      EXPECT_EQ(good.error().code, ErrorCode::kInvalidArgument);
      EXPECT_TRUE(good.error().what.contains("vm")) << good.error().what;
    }
  }
  EXPECT_EQ(code(msg::FenceSource{.item = "i", .epoch = 1}), ErrorCode::kInvalidArgument);
}

TEST(OrderCheck, AStoragePathIsAFolderThatSaysWhereItIs) {
  for (const std::string path : {"", "/", "//", "srv", "/srv/..", "/srv/../etc", "/./srv", "/srv/.",
                                 "/srv//r", "/srv/r//", "/srv\n/r", "C:\\r"}) {
    auto order = preparation();
    order.storage_path = path;
    EXPECT_EQ(code(order), ErrorCode::kForbidden) << path;
  }
  auto order = preparation();
  order.storage_path = "/" + std::string(1'024, 'a');
  EXPECT_EQ(code(order), ErrorCode::kForbidden);
  for (const std::string path : {"/srv", "/srv/r", "/srv/r/", "/srv/.r/a b", "/mnt/größer"}) {
    order.storage_path = path;
    EXPECT_EQ(refusal(order).what, "let in") << path;
  }
}

TEST(OrderCheck, AnEpochLeavesRoomForTheNext) {
  for (const std::uint64_t epoch :
       {std::uint64_t{0}, std::uint64_t{1} << 62U, std::numeric_limits<std::uint64_t>::max()}) {
    auto prepare = preparation();
    prepare.epoch = epoch;
    auto begin = start();
    begin.epoch = epoch;
    EXPECT_EQ(code(prepare), ErrorCode::kInvalidArgument) << epoch;
    EXPECT_EQ(code(begin), ErrorCode::kInvalidArgument) << epoch;
    for (const auto& order : std::vector<msg::Message>{
             msg::Message(msg::FenceSource{.item = "i", .vm = "v", .epoch = epoch}),
             msg::Message(msg::UnfenceSource{.item = "i", .vm = "v", .epoch = epoch}),
             msg::Message(msg::PromoteReplica{.item = "i", .epoch = epoch}),
             msg::Message(msg::DemoteReplica{.item = "i", .epoch = epoch}),
             msg::Message(msg::StartReplica{.item = "i", .epoch = epoch})}) {
      EXPECT_FALSE(check_order(order)) << msg::name_of(order) << " " << epoch;
    }
  }
  EXPECT_EQ(code(msg::ItemSettings{.item = "i", .epoch = ~std::uint64_t{0}, .policy = policy()}),
            ErrorCode::kInvalidArgument);
}

TEST(OrderCheck, TimesAreThoseThatAProductCanMean) {
  constexpr auto kMost = std::numeric_limits<std::uint32_t>::max();
  for (const auto field : {&msg::Policy::retention_hours, &msg::Policy::every_point_hours,
                           &msg::Policy::app_consistent_hours, &msg::Policy::floor_hours,
                           &msg::Policy::keep_hours, &msg::Policy::frequency_seconds}) {
    auto wrong = policy();
    wrong.*field = kMost;
    auto prepare = preparation();
    prepare.policy = wrong;
    auto begin = start();
    begin.policy = wrong;
    EXPECT_EQ(code(prepare), ErrorCode::kInvalidArgument);
    EXPECT_EQ(code(begin), ErrorCode::kInvalidArgument);
    EXPECT_EQ(code(msg::ItemSettings{.item = "i", .epoch = 1, .policy = wrong}),
              ErrorCode::kInvalidArgument);
  }
  auto begin = start();
  begin.policy.frequency_seconds = 0;
  EXPECT_EQ(code(begin), ErrorCode::kInvalidArgument) << "it would replicate without a pause";
  EXPECT_EQ(code(msg::CommitReplica{.item = "i", .keep_hours = kMost}),
            ErrorCode::kInvalidArgument);
  EXPECT_EQ(code(msg::ShutDownSource{.item = "i", .vm = "v", .deadline_seconds = kMost}),
            ErrorCode::kInvalidArgument);
}

TEST(OrderCheck, ATargetIsDialledByTcpOnly) {
  auto order = start();
  order.endpoint = "ipc:///run/libvirt/libvirt-sock";

  const auto refused = refusal(order);

  EXPECT_EQ(refused.code, ErrorCode::kInvalidArgument);
  EXPECT_TRUE(refused.what.starts_with("start_replication.endpoint: ")) << refused.what;
}

TEST(OrderCheck, WhatIsRefusedIsToldShortAndEscaped) {
  const auto refused =
      refusal(msg::RemoveTestVm{.item = "i", .vm = "\x1b[2J" + std::string(10'000, '/')});

  EXPECT_LT(refused.what.size(), 200U);
  EXPECT_EQ(refused.what.find('\x1b'), std::string::npos);
  EXPECT_TRUE(refused.what.starts_with("remove_test_vm.vm: ")) << refused.what;
}

TEST(OrderCheck, AnOrderForAnItemTouchesNoOtherVm) {
  const msg::SourceItem source{.item = "i", .vm = "own"};
  const auto orders = [](const std::string& item, const std::string& vm) {
    return std::vector<msg::Message>{
        msg::Message(msg::ShutDownSource{.item = item, .vm = vm}),
        msg::Message(msg::RestartSource{.item = item, .vm = vm}),
        msg::Message(msg::StopReplication{.item = item, .vm = vm}),
        msg::Message(msg::FenceSource{.item = item, .vm = vm, .epoch = 1}),
        msg::Message(msg::UnfenceSource{.item = item, .vm = vm, .epoch = 1})};
  };
  for (const auto& order : orders("i", "own")) EXPECT_TRUE(check_own_vm(source, order));
  for (const auto& order : orders("other", "theirs")) EXPECT_TRUE(check_own_vm(source, order));
  for (const auto& order : orders("i", "theirs")) {
    const auto good = check_own_vm(source, order);
    ASSERT_FALSE(good) << msg::name_of(order);
    EXPECT_EQ(good.error().code, ErrorCode::kForbidden);
  }
  EXPECT_TRUE(check_own_vm(source, msg::Message(msg::RemoveReplica{.item = "i", .vm = "i"})));
}

}  // namespace
}  // namespace farside::agent
