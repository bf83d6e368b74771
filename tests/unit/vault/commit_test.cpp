// After a failover: whose the VM is, what is left of its replica, and what may be protected.
#include "tests/unit/vault/rest_fixture.h"

namespace farside::vault {
namespace {

class CommitTest : public RestTest {
 protected:
  // The item as a planned failover leaves it, with its replica's VM known at B as "vm-B".
  void fail_over(msg::ItemState state) {
    id_ = protect();
    end_job("enable_protection");
    record({.item = id_, .state = state, .replica_vm = "vm-B", .active_location = "Recovery"});
  }
  void end_job(const std::string& workflow, msg::FlowPhase phase = msg::FlowPhase::succeeded) {
    call("GET", kItem);
    const auto path = body().at("properties").at("currentScenario").at("jobId").get<std::string>();
    job({.id = path.substr(path.rfind('/') + 1),
         .workflow = workflow,
         .phase = phase,
         .started_at = 1,
         .ended_at = 2,
         .revision = 100,
         .item = id_});
  }
  unsigned commit(const Json& hours = nullptr) {
    Json asked;
    if (!hours.is_null()) asked["properties"] = {{"farside", {{"keepHours", hours}}}};
    return call("POST", kItem + "/failoverCommit", asked).status;
  }
  msg::WorkflowInput input() const {
    for (const auto& envelope : requests_) {
      if (const auto* start = std::get_if<msg::StartWorkflow>(&envelope.body.value)) {
        return start->input;
      }
    }
    ADD_FAILURE() << "nothing was started";
    return {};
  }
  Json protection_at_b() const {
    return {{"properties",
             {{"policyId", kBase + "/replicationPolicies/gold"},
              {"protectableItemId", kBase + kCloudB + "/replicationProtectableItems/vm-B"}}}};
  }

  const std::string kItemB = kCloudB + "/replicationProtectedItems/web";
  std::string id_;
};

TEST_F(CommitTest, TheReplicaStaysAsLongAsThePolicyOrTheOperatorSays) {
  fail_over(msg::ItemState::commitRequired);
  EXPECT_EQ(commit(721), 400U);
  EXPECT_EQ(commit(-1), 400U);

  EXPECT_EQ(commit(), 202U) << answer_->body;
  EXPECT_EQ(input().keep_hours, 24U);
}

TEST_F(CommitTest, OnceMoreItGoesSooner) {
  fail_over(msg::ItemState::committed);
  EXPECT_EQ(commit(), 409U) << "that says nothing new";
  EXPECT_NE(answer_->body.find("--keep-hours"), std::string::npos) << answer_->body;

  EXPECT_EQ(commit(0), 202U) << answer_->body;
  EXPECT_EQ(input().keep_hours, 0U);

  end_job("commit_failover", msg::FlowPhase::failed);
  call("GET", kItem);
  EXPECT_EQ(body().at("properties").at("protectionState"), "FailoverCommitted");
}

TEST_F(CommitTest, WhatStaysIsToldWithWhatItTakes) {
  fail_over(msg::ItemState::committed);
  replica({.item = id_,
           .journal_bytes = 5,
           .base_bytes = 7,
           .kept_until = Time{now_ + std::chrono::hours{3}}.micros});

  call("GET", kItem);

  const auto farside = body().at("properties").at("farside");
  EXPECT_TRUE(farside.at("keptUntil").is_string()) << farside;
  EXPECT_EQ(farside.at("baseBytes"), 7);
  EXPECT_EQ(told(), nullptr) << "nothing is ordered of it any more";
}

TEST_F(CommitTest, AFencedCopyIsShownWithWhereTheVmIsAndIsNotProtected) {
  configure();
  report("A", [](msg::Vm& vm) {
    vm.fenced = true;
    vm.active_at = "site 'B' (agent/B/host)";
  });

  call("GET", kCloudA + "/replicationProtectableItems/vm-A");
  EXPECT_EQ(body().at("properties").at("protectionStatus"), "Fenced");
  EXPECT_NE(answer_->body.find("active at site 'B'"), std::string::npos) << answer_->body;

  EXPECT_EQ(call("PUT", kItem, protection()).status, 409U);
  EXPECT_NE(answer_->body.find("active at site 'B'"), std::string::npos) << answer_->body;
}

TEST_F(CommitTest, TheVmOfAFailoverIsProtectedOnceItsItemIsGone) {
  fail_over(msg::ItemState::commitRequired);
  const Json pair{{"properties",
                   {{"targetProtectionContainerId", kBase + kCloudA},
                    {"policyId", kBase + "/replicationPolicies/gold"}}}};
  ASSERT_EQ(call("PUT", kCloudB + "/replicationProtectionContainerMappings/back", pair).status,
            200U);

  EXPECT_EQ(call("PUT", kItemB, protection_at_b()).status, 409U);
  EXPECT_NE(answer_->body.find("farside commit web"), std::string::npos) << answer_->body;

  record({.item = id_, .state = msg::ItemState::committed});
  EXPECT_EQ(call("PUT", kItemB, protection_at_b()).status, 409U);
  EXPECT_NE(answer_->body.find("farside unprotect web"), std::string::npos) << answer_->body;

  ASSERT_EQ(call("POST", kItem + "/remove").status, 202U) << answer_->body;
  end_job("disable_protection");
  EXPECT_EQ(call("PUT", kItemB, protection_at_b()).status, 202U) << answer_->body;
}

}  // namespace
}  // namespace farside::vault
