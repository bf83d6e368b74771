// What must not stay unseen: at the item, at the vault, on /healthz and in figures.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "tests/unit/vault/rest_fixture.h"

namespace farside::vault {
namespace {

using std::chrono::seconds;
using testing::AllOf;
using testing::HasSubstr;
using testing::Not;

class HealthTest : public RestTest {
 protected:
  // Protected by a policy of 30 s, both agents heard of, and no job under way.
  void SetUp() override {
    item_ = protect();
    report("A");
    report("B");
    end_job();
    tick();
  }

  void end_job() {
    call("GET", "/replicationJobs");
    const std::string id = body().at("value").at(0).at("name");
    job({.id = id,
         .workflow = "enable_protection",
         .phase = msg::FlowPhase::succeeded,
         .started_at = 1,
         .ended_at = 2,
         .revision = 1'000,
         .item = item_});
  }
  void tick() {
    turn([&](auto& effects) { core_.on_timer("tick", effects); });
  }
  void pass(seconds time) {
    now_ = now_ + time;
    tick();
  }
  // The source's view of a point, well and just made.
  void source_has(std::uint64_t seq) {
    status({.item = item_,
            .phase = msg::ReplicationPhase::waiting,
            .health = msg::Health::normal,
            .newest = {.seq = seq, .captured_at = now_.micros, .arrived_at = now_.micros}});
  }
  void target_has(std::uint64_t seq, Time arrived) {
    replica({.item = item_, .newest = {.seq = seq, .arrived_at = arrived.micros}});
  }
  void trouble(const std::string& site, msg::VmTrouble what) {
    report(msg::Inventory{.site = site,
                          .hosts = {{.host = {.name = "host", .troubles = {std::move(what)}},
                                     .principal = "agent/" + site + "/host",
                                     .connected = true}}});
  }
  void fail_over() {
    record({.item = item_,
            .state = msg::ItemState::commitRequired,
            .active_location = "Recovery",
            .failed_over_at = 1});
  }
  void falls_silent(const std::string& site) {
    report(msg::Inventory{.site = site,
                          .hosts = {{.host = {.name = "host"},
                                     .principal = "agent/" + site + "/host",
                                     .connected = false}}});
  }
  // As the provider of `site` tells it.
  void host_problem(const std::string& site, const std::string& agent, const std::string& what) {
    report(msg::Inventory{
        .site = site,
        .hosts = {
            {.host = {.name = "host", .problem = what}, .principal = agent, .connected = true}}});
  }
  std::string health() {
    call("GET", kItem);
    return body().at("properties").at("replicationHealth");
  }
  std::vector<std::string> reasons() {
    call("GET", kItem);
    std::vector<std::string> out;
    const auto item = body();
    for (const auto& error : item.at("properties").at("healthErrors")) {
      out.push_back(error.at("farside").at("reason"));
      EXPECT_NE(error.at("recommendedAction"), "") << error;
    }
    return out;
  }
  bool has_reason(const std::string& reason) {
    const auto all = reasons();
    return std::ranges::find(all, reason) != all.end();
  }

  std::string item_;
};

TEST_F(HealthTest, APointInTimeIsNormal) {
  source_has(1);
  pass(seconds{140});
  source_has(2);
  pass(seconds{140});

  EXPECT_EQ(health(), "Normal") << answer_->body;
  EXPECT_EQ(notices_.text(), "");
  EXPECT_THAT(registry_.text(), HasSubstr("farside_vault_health 1"));
}

TEST_F(HealthTest, AMissedRpoIsCriticalAlsoIfTheAgentSaysItIsWell) {
  source_has(1);

  pass(seconds{160});  // More than five intervals of 30 s.
  source_has(1);
  tick();

  EXPECT_EQ(health(), "Critical");
  EXPECT_THAT(answer_->body, AllOf(HasSubstr("no recovery point has arrived since"),
                                   HasSubstr("one every 30 s"), HasSubstr("farside item show")));
  EXPECT_THAT(notices_.text(), HasSubstr("web: no recovery point has arrived since"));
  EXPECT_THAT(registry_.text(),
              AllOf(HasSubstr("farside_item_rpo_missed{"), HasSubstr("reason=\"missed_rpo\"} 3"),
                    HasSubstr("farside_vault_health 3")));
  call("GET", "");
  EXPECT_EQ(body().at("properties").at("farside").at("health"), "Critical");
  EXPECT_EQ(body().at("properties").at("farside").at("reasons").at(0).at("vm"), "web");

  source_has(2);
  tick();
  EXPECT_EQ(health(), "Normal");
  EXPECT_EQ(notices_.text(), "");
}

TEST_F(HealthTest, AMissedRpoIsSeenWhenBothAgentsAreSilentAndTheVaultWasRestarted) {
  source_has(1);
  pass(seconds{100});
  source_has(2);
  tick();

  restart();  // What agents told is forgotten, and nobody tells it again.
  pass(seconds{100});
  EXPECT_FALSE(has_reason("missed_rpo"));
  pass(seconds{100});

  EXPECT_TRUE(has_reason("missed_rpo"));
  EXPECT_EQ(health(), "Critical");
}

TEST_F(HealthTest, AVaultThatWasDownHearsTheAgentsOutFirst) {
  source_has(1);
  tick();
  now_ = now_ + seconds{1'000};

  restart();
  tick();

  EXPECT_FALSE(has_reason("missed_rpo")) << "points may have arrived meanwhile";
  pass(seconds{31});
  EXPECT_TRUE(has_reason("missed_rpo"));
}

TEST_F(HealthTest, WhatWasNeverHeardOfCountsFromTheVaultsFirstLook) {
  pass(seconds{100});
  EXPECT_FALSE(has_reason("missed_rpo"));
  pass(seconds{100});
  EXPECT_TRUE(has_reason("missed_rpo"));
}

TEST_F(HealthTest, TheTargetsClockCountsOnlyBetweenTwoLooks) {
  target_has(1, now_);
  for (std::uint64_t seq = 2; seq < 12; ++seq) {
    pass(seconds{30});
    target_has(seq, now_ - std::chrono::hours{1});  // Its clock went back.
    tick();
    EXPECT_FALSE(has_reason("missed_rpo"));
  }
  target_has(12, now_ + std::chrono::hours{5});  // And far ahead.
  pass(seconds{200});

  EXPECT_TRUE(has_reason("missed_rpo"));
}

TEST_F(HealthTest, TheTargetsArrivalCountsWhereTheVaultDidNotLook) {
  target_has(1, now_);
  now_ = now_ + seconds{600};
  target_has(2, now_ - seconds{300});

  tick();

  EXPECT_TRUE(has_reason("missed_rpo")) << "it arrived 300 s ago, while the vault heard nothing";
}

TEST_F(HealthTest, TimeInWhichAnOperatorHasPausedItDoesNotCount) {
  source_has(1);
  call("POST", kItem + "/farside/pause");
  pass(seconds{1'000});
  EXPECT_FALSE(has_reason("missed_rpo"));
  EXPECT_TRUE(has_reason("paused"));

  call("POST", kItem + "/farside/resume");
  pass(seconds{100});
  EXPECT_FALSE(has_reason("missed_rpo"));
  pass(seconds{100});
  EXPECT_TRUE(has_reason("missed_rpo"));
}

TEST_F(HealthTest, NoRpoIsMissedBeforeInitialReplicationHasEnded) {
  record({.item = item_, .state = msg::ItemState::initialReplication});
  source_has(1);

  pass(seconds{10'000});

  EXPECT_FALSE(has_reason("missed_rpo"));
}

TEST_F(HealthTest, AFencedVmThatWasFoundRunningIsCritical) {
  trouble("A", {.vm = "vm-A",
                .kind = msg::VmTroubleKind::stray,
                .what = "fenced VM 'web' was found running and turned off"});
  tick();

  EXPECT_EQ(health(), "Critical");
  EXPECT_TRUE(has_reason("stray_vm"));
  EXPECT_THAT(answer_->body, HasSubstr("agent/A/host"));
  EXPECT_THAT(notices_.text(), HasSubstr("fenced VM 'web' was found running"));
  report("A");  // Without it.
  EXPECT_FALSE(has_reason("stray_vm"));
}

TEST_F(HealthTest, AnUncleanVmIsCritical) {
  trouble("A", {.vm = "vm-A",
                .kind = msg::VmTroubleKind::unclean,
                .what = "what an earlier point left is not cleaned up: no answer"});
  tick();

  EXPECT_EQ(health(), "Critical");
  EXPECT_TRUE(has_reason("unclean_vm"));
  EXPECT_THAT(registry_.text(), HasSubstr("reason=\"unclean_vm\"} 3"));
}

TEST_F(HealthTest, TroubleWithAVmThatIsNotProtectedAnyMoreIsTheVaults) {
  trouble("A", {.vm = "vm-of-old", .kind = msg::VmTroubleKind::stray, .what = "it was running"});
  tick();

  EXPECT_FALSE(has_reason("stray_vm"));
  EXPECT_THAT(notices_.text(), HasSubstr("it was running"));
  call("GET", "");
  EXPECT_EQ(body().at("properties").at("farside").at("reasons").at(0).at("item"), "");
}

// Its fences outlive the items that they were made for.
TEST_F(HealthTest, AHostInTroubleIsTheVaultsAlsoWithoutAnItemOnIt) {
  host_problem("A", "agent/A/old", "whether fenced VMs are off cannot be checked");
  tick();

  EXPECT_THAT(notices_.text(), HasSubstr("whether fenced VMs are off cannot be checked"));
}

TEST_F(HealthTest, AProviderSpeaksOfNoOtherSitesAgents) {
  host_problem("B", "agent/A/old", "whatever it likes to say");
  tick();

  EXPECT_THAT(notices_.text(), Not(HasSubstr("whatever it likes to say")));
}

TEST_F(HealthTest, AJobThatWaitsForAnOperatorIsToldWithWhatItStandsAt) {
  call("POST", kItem + "/testFailover");
  const auto started = std::get<msg::StartWorkflow>(requests_.at(0).body.value);
  job({.id = started.job,
       .workflow = "test_failover",
       .phase = msg::FlowPhase::needsOperator,
       .steps = {{.name = "start_test_vm",
                  .title = "Start the test virtual machine",
                  .state = msg::StepState::undoFailed,
                  .fault = msg::Fault{.code = 20, .what = "the hypervisor refused"}}},
       .fault = msg::Fault{.code = 17, .what = "cancelled by an operator"},
       .started_at = 1,
       .revision = 9,
       .item = item_});
  tick();

  EXPECT_EQ(health(), "Critical");
  EXPECT_THAT(answer_->body, AllOf(HasSubstr("could not be undone: the hypervisor refused"),
                                   HasSubstr("farside jobs restart " + started.job)));
  EXPECT_THAT(notices_.text(), HasSubstr("web: its job waits for an operator"));
  call("GET", "/replicationJobs/" + started.job);
  EXPECT_EQ(body().at("properties").at("state"), "Suspended");
  EXPECT_THAT(answer_->body, Not(HasSubstr("\"recommendedAction\":\"\"")));
}

TEST_F(HealthTest, AnEndOfProtectionThatWasGivenUpIsNotForgotten) {
  call("DELETE", kItem);
  const auto id = std::get<msg::StartWorkflow>(requests_.at(0).body.value).job;
  const auto tell = [&](msg::FlowPhase phase, std::int64_t ended, std::uint64_t revision) {
    job({.id = id,
         .workflow = "disable_protection",
         .phase = phase,
         .fault = msg::Fault{.code = 11, .what = "site B is silent"},
         .started_at = 1,
         .ended_at = ended,
         .revision = revision,
         .item = item_});
    tick();
  };
  tell(msg::FlowPhase::needsOperator, 0, 9);
  call("GET", "/replicationJobs/" + id);
  EXPECT_THAT(answer_->body, HasSubstr("\"Cancel\"")) << "nobody may be left to answer";
  call("DELETE", kItem);
  EXPECT_EQ(answer_->status, 409U);
  EXPECT_THAT(answer_->body, HasSubstr("farside jobs cancel"));

  tell(msg::FlowPhase::cancelled, 2, 10);

  EXPECT_EQ(health(), "Critical");
  EXPECT_THAT(answer_->body, HasSubstr("given up half-way"));
  EXPECT_EQ(call("DELETE", kItem).status, 202U) << "once more, and by force";
}

// Whether the copy that was failed over is off is known to nobody but its agent.
TEST_F(HealthTest, ASilentAgentThatKeepsAFenceIsCritical) {
  fail_over();
  tick();
  EXPECT_EQ(health(), "Normal");

  falls_silent("A");
  tick();

  EXPECT_EQ(health(), "Critical");
  EXPECT_THAT(answer_->body, HasSubstr("whether the VM that was failed over is off"));
}

// Where production runs now.
TEST_F(HealthTest, ASilentTargetOfAFailoverIsNotNormal) {
  fail_over();
  falls_silent("B");
  tick();

  EXPECT_EQ(health(), "Warning");
  EXPECT_THAT(answer_->body, HasSubstr("'agent/B/host' is not heard of"));
}

// A fence outlives its item.
TEST_F(HealthTest, ASilentAgentThatKeepsAFenceOfNoItemIsCriticalForTheVault) {
  const auto inventory = [](bool connected) {
    return msg::Inventory{
        .site = "A",
        .hosts = {{.host = {.name = "host"}, .principal = "agent/A/host", .connected = true},
                  {.host = {.name = "other"},
                   .principal = "agent/A/other",
                   .connected = connected,
                   .vms = {{.id = "v", .name = "old", .fenced = true}}}}};
  };
  report(inventory(true));
  tick();
  EXPECT_EQ(notices_.text(), "");

  report(inventory(false));
  tick();

  EXPECT_THAT(notices_.text(), HasSubstr("whether 'old', which must not run there any more"));
  call("DELETE",
       "/farside/identities/agent%2FA%2Fother");  // As it advises for a host that is gone.
  tick();
  EXPECT_THAT(notices_.text(), testing::Not(HasSubstr("'old'")));
}

TEST_F(HealthTest, AJobThatWasSentOnDoesNotWaitForAnOperatorAnyMore) {
  call("POST", kItem + "/testFailover");
  const auto id = std::get<msg::StartWorkflow>(requests_.at(0).body.value).job;
  const auto tell = [&](msg::FlowPhase phase, std::uint64_t revision) {
    job({.id = id,
         .workflow = "test_failover",
         .phase = phase,
         .revision = revision,
         .item = item_});
  };
  tell(msg::FlowPhase::needsOperator, 9);
  turn([&](auto& effects) {
    core_.on_peer(
        {.peer = {.principal = "orchestrator", .role = msg::Role::orchestrator}, .connected = true},
        effects);
  });
  turn([&](auto& effects) {
    core_.on_job(
        "http/3",
        reactor::message(msg::HttpRequest{.method = "POST",
                                          .path = kBase + "/replicationJobs/" + id + "/restart",
                                          .query = "api-version=2023-06-01",
                                          .authorization = "Bearer secret"}),
        effects);
  });
  ASSERT_FALSE(requests_.empty());
  turn([&](auto& effects) {
    core_.on_message({.principal = "orchestrator", .role = msg::Role::orchestrator},
                     {.id = requests_.at(0).id,
                      .from = "orchestrator",
                      .to = "vault",
                      .reply = true,
                      .body = reactor::message(msg::WorkflowAccepted{.job = id})},
                     effects);
  });

  call("GET", "/replicationJobs/" + id);

  EXPECT_EQ(body().at("properties").at("state"), "InProgress");
  tell(msg::FlowPhase::needsOperator, 10);
  call("GET", "/replicationJobs/" + id);
  EXPECT_EQ(body().at("properties").at("state"), "Suspended");
}

TEST_F(HealthTest, ASilentOrchestratorIsTheVaultsTrouble) {
  turn([&](auto& effects) {
    core_.on_peer({.peer = {.principal = "orchestrator", .role = msg::Role::orchestrator},
                   .connected = false},
                  effects);
  });
  tick();

  EXPECT_THAT(notices_.text(), HasSubstr("the orchestrator is not heard of"));
}

TEST_F(HealthTest, ManyReasonsAreCutAndCounted) {
  VaultHealth health;
  for (int i = 0; i < 30; ++i) {
    health.reasons.push_back({.item = "i",
                              .vm = "vm" + std::to_string(i),
                              .reason = {.is_critical = true, .fault = {}}});
  }

  const auto lines = critical_lines(health);

  EXPECT_THAT(lines, AllOf(HasSubstr("vm19"), Not(HasSubstr("vm20")), HasSubstr("and 10 more")));
}

TEST_F(HealthTest, AgentsAreAmongTheIdentitiesThatCanBeRevoked) {
  call("GET", "/farside/identities");

  EXPECT_THAT(answer_->body,
              AllOf(HasSubstr("\"principal\":\"agent/A/host\""), HasSubstr("key-A")));
}

TEST_F(HealthTest, RepairingReplicationComparesAtTheSource) {
  call("GET", kItem);
  EXPECT_THAT(answer_->body, HasSubstr("RepairReplication"));

  const auto asked = call_agent<msg::RetryReplication>("POST", kItem + "/repairReplication", "A",
                                                       msg::ReplicationRetried{.item = item_});

  EXPECT_TRUE(asked.compare);
  EXPECT_EQ(asked.item, item_);
  EXPECT_EQ(answer_->status, 200U);
  EXPECT_EQ(body().at("properties").at("friendlyName"), "web") << "the item, as SDKs read it";
}

TEST_F(HealthTest, TheFrontDoorsCountersAreFigures) {
  probe_.front_door({.connections = 1,
                     .strangers = 4,
                     .accepted = 5,
                     .closed_for_room = 6,
                     .refused = 2,
                     .unauthorized = 7,
                     .requests = 9,
                     .failed_handshakes = 3,
                     .unanswered = 1});

  const auto text = registry_.text();

  EXPECT_THAT(text, AllOf(HasSubstr("# HELP farside_front_door_requests_total "),
                          HasSubstr("farside_front_door_connections 1"),
                          HasSubstr("farside_front_door_connections_total 5"),
                          HasSubstr("farside_front_door_strangers 4"),
                          HasSubstr("farside_front_door_closed_for_room_total 6"),
                          HasSubstr("farside_front_door_refused_total 2"),
                          HasSubstr("farside_front_door_unauthorized_total 7"),
                          HasSubstr("farside_front_door_requests_total 9"),
                          HasSubstr("farside_front_door_failed_handshakes_total 3"),
                          HasSubstr("farside_front_door_unanswered_total 1")));
}

}  // namespace
}  // namespace farside::vault
