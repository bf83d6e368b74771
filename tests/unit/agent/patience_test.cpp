#include "services/agent/patience.h"

#include <gtest/gtest.h>

#include "common/schema/envelope.fields.h"

namespace farside::agent {
namespace {

TEST(Patience, NoJobMayHangForEverUnseen) {
  msg::for_each_arm(std::type_identity<msg::Message>(), [](const char* name, const auto& message) {
    EXPECT_GT(patience_for(message).max, Micros{0}) << name;
  });
}

TEST(Patience, WhatMovesDataIsJudgedByItsProgress) {
  EXPECT_TRUE(patience_for(msg::Message(msg::RunCycle{})).by_progress);
  EXPECT_TRUE(patience_for(msg::Message(msg::DetachReplica{})).by_progress);
  EXPECT_TRUE(patience_for(msg::Message(msg::CommitReplica{})).by_progress);
  EXPECT_FALSE(patience_for(msg::Message(msg::StartReplica{})).by_progress);
}

TEST(Patience, FencesAndObservationAreTriedAgainBesideATryThatHangs) {
  EXPECT_TRUE(patience_for(msg::Message(msg::EnforceFences{})).may_repeat);
  EXPECT_TRUE(patience_for(msg::Message(msg::ObserveHost{})).may_repeat);
  EXPECT_FALSE(patience_for(msg::Message(msg::StartReplica{})).may_repeat);
}

TEST(Patience, AGuestGetsTheTimeItsOrderGivesIt) {
  const auto shut_down = patience_for(msg::Message(msg::ShutDownSource{.deadline_seconds = 3600}));

  EXPECT_GT(shut_down.max, Micros{std::chrono::seconds{3600}});
}

TEST(Patience, NamesTheItemAndItsVolumeOrHost) {
  const auto cycle = patience_for(msg::Message(
      msg::RunCycle{.source = {.item = "i-1", .vm = "web", .endpoint = "tcp://b:8084"}}));
  const auto upkeep = patience_for(
      msg::Message(msg::MaintainReplica{.replica = {.item = "i-1", .storage_path = "/srv/fast"}}));

  for (const std::string part : {"i-1", "web", "tcp://b:8084"}) {
    EXPECT_NE(cycle.of.find(part), std::string::npos) << cycle.of;
  }
  EXPECT_NE(upkeep.of.find("/srv/fast"), std::string::npos) << upkeep.of;
  EXPECT_NE(patience_for(msg::Message(msg::ListPoints{.item = "i-1"})).of.find("i-1"),
            std::string::npos);
}

}  // namespace
}  // namespace farside::agent
