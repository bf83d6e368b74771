// The REST API through the vault's core, without a network.
#include <gtest/gtest.h>

#include "tests/unit/vault/rest_fixture.h"

namespace farside::vault {
namespace {

TEST_F(RestTest, RefusesWhoeverHasNoOrAWrongToken) {
  EXPECT_EQ(call("GET", "", nullptr, "api-version=2023-06-01", "").status, 401U);
  EXPECT_EQ(call("GET", "", nullptr, "api-version=2023-06-01", "Bearer wrong").status, 401U);
  EXPECT_EQ(call("GET", "").status, 200U);
}

TEST_F(RestTest, RefusesAMissingVersionAnUnknownPathAndBrokenJson) {
  EXPECT_EQ(call("GET", "", nullptr, "").status, 400U);
  EXPECT_EQ(code(), "MissingApiVersionParameter");
  EXPECT_EQ(call("GET", "/replicationNonsense").status, 404U);
  EXPECT_EQ(call("DELETE", "/replicationFabrics").status, 405U);
}

TEST_F(RestTest, ABodyIsOneObjectAndNotNestedWithoutEnd) {
  const auto put = [&](const std::string& text, const std::string& method = "PUT",
                       const std::string& path = "/replicationPolicies/p") {
    turn([&](auto& effects) {
      core_.on_job("http/1",
                   reactor::message(msg::HttpRequest{.method = method,
                                                     .path = kBase + path,
                                                     .query = "api-version=2023-06-01",
                                                     .authorization = "Bearer secret",
                                                     .body = text,
                                                     .host = "vault:8443"}),
                   effects);
    });
    return answer_->status;
  };
  const auto nested = [](std::size_t depth) {
    std::string text = R"({"properties":{"x":)";
    text += std::string(depth, '[');
    text += std::string(depth, ']');
    return text + "}}";
  };

  for (const std::string& wrong :
       {std::string("[]"), std::string("[[[]]]"), std::string("\"{}\""), std::string("7"),
        std::string("null"), std::string("true"), std::string("{"), std::string("{}{}"),
        std::string(), std::string(200'000, '[') + std::string(200'000, ']'), nested(63),
        std::string(4'000'000, '{')}) {
    EXPECT_EQ(put(wrong), 400U) << wrong.substr(0, 40);
    EXPECT_EQ(code(), "InvalidParameter");
    EXPECT_FALSE(body().at("error").at("message").get<std::string>().empty());
  }
  EXPECT_EQ(put("[]", "PATCH"), 400U);
  EXPECT_EQ(put("[]", "POST", "/farside/registrationKeys"), 400U);
  EXPECT_EQ(call("GET", "/replicationPolicies/p").status, 404U) << "nothing was made of them";
  EXPECT_EQ(put(nested(62)), 200U);
  EXPECT_EQ(put(R"({"brackets":"\")" + std::string(100, '[') + R"("})"), 200U)
      << "a text is a text";
}

TEST_F(RestTest, APolicyOutOfRangeIsRefusedWithEveryMistake) {
  auto bad = policy(1000);
  bad["properties"]["providerSpecificInput"]["applicationConsistentSnapshotFrequencyInHours"] = 13;

  EXPECT_EQ(call("PUT", "/replicationPolicies/p", bad).status, 400U);

  const std::string message = body().at("error").at("message");
  EXPECT_NE(message.find("replicationFrequencyInSeconds is 1000"), std::string::npos);
  EXPECT_NE(message.find("FrequencyInHours is 13"), std::string::npos);
  EXPECT_EQ(call("GET", "/replicationPolicies/p").status, 404U);
}

TEST_F(RestTest, PathsAreCaseInsensitiveAndListsEndWithANullLink) {
  report("A");

  turn([&](auto& effects) {
    core_.on_job(
        "http/1",
        reactor::message(msg::HttpRequest{
            .method = "GET",
            .path = "/Subscriptions/s/ResourceGroups/g/providers/microsoft.recoveryservices/"
                    "Vaults/Farside/REPLICATIONFABRICS",
            .query = "api-version=2016-08-10",
            .authorization = "Bearer secret"}),
        effects);
  });

  ASSERT_TRUE(answer_);
  EXPECT_EQ(answer_->status, 200U);
  EXPECT_TRUE(body().at("nextLink").is_null());
  EXPECT_EQ(body().at("value").at(0).at("name"), "A");
}

TEST_F(RestTest, ProtectingStartsAJobThatIsAskedForUntilAccepted) {
  configure();

  EXPECT_EQ(call("PUT", kItem, protection()).status, 202U);

  ASSERT_EQ(requests_.size(), 1U);
  const auto started = std::get<msg::StartWorkflow>(requests_[0].body.value);
  EXPECT_EQ(started.workflow, "enable_protection");
  EXPECT_EQ(started.input.spec.source_agent, "agent/A/host");
  EXPECT_EQ(started.input.spec.target_site, "B");
  turn([&](auto& effects) { core_.on_timer("tick", effects); });
  EXPECT_EQ(requests_.size(), 1U) << "not accepted yet: asked again";
  EXPECT_EQ(call("GET", "/replicationOperationStatus/" + started.job).status, 200U);
  EXPECT_EQ(body().at("status"), "NotStarted");
}

TEST_F(RestTest, ABusyItemRefusesASecondOperationAndNamesTheJob) {
  configure();
  call("PUT", kItem, protection());

  EXPECT_EQ(call("POST", kItem + "/testFailover").status, 409U);

  EXPECT_NE(std::string(body().at("error").at("message")).find("busy with job"), std::string::npos);
}

TEST_F(RestTest, AFailedJobShowsItsCauseAndFreesTheItem) {
  configure();
  call("PUT", kItem, protection());
  const auto job = std::get<msg::StartWorkflow>(requests_.at(0).body.value);
  msg::FlowRecord flow{.id = job.job,
                       .workflow = job.workflow,
                       .phase = msg::FlowPhase::failed,
                       .fault = msg::Fault{.code = 11, .what = "no room", .advice = "make some"},
                       .started_at = 1,
                       .ended_at = 2,
                       .revision = 9,
                       .item = job.input.spec.item};

  turn([&](auto& effects) {
    core_.on_message({.principal = "orchestrator", .role = msg::Role::orchestrator},
                     {.from = "orchestrator",
                      .to = "vault",
                      .body = reactor::message(msg::JobChanged{.flow = flow})},
                     effects);
  });

  call("GET", "/replicationJobs/" + job.job);
  EXPECT_EQ(body().at("properties").at("state"), "Failed");
  EXPECT_NE(std::string(body().at("error").at("message")).find("make some"), std::string::npos);
  call("GET", kItem);
  EXPECT_EQ(body().at("properties").at("protectionState"), "EnablingFailed");
  EXPECT_EQ(call("PUT", kItem, protection()).status, 202U) << "may be tried again";
}

TEST_F(RestTest, AJobThatWaitsForAnOperatorMakesItsItemCritical) {
  configure();
  call("PUT", kItem, protection());
  const auto started = std::get<msg::StartWorkflow>(requests_.at(0).body.value);
  const auto tell = [&](msg::FlowPhase phase, std::optional<msg::Fault> fault, unsigned revision) {
    job({.id = started.job,
         .workflow = started.workflow,
         .phase = phase,
         .fault = std::move(fault),
         .started_at = 1,
         .revision = revision,
         .item = started.input.spec.item});
    turn([&](auto& effects) { core_.on_timer("tick", effects); });
    call("GET", kItem);
  };

  tell(msg::FlowPhase::needsOperator, msg::Fault{.code = 11, .what = "no room"}, 9);
  EXPECT_EQ(body().at("properties").at("replicationHealth"), "Critical");
  EXPECT_NE(answer_->body.find("its job waits for an operator: no room"), std::string::npos);
  EXPECT_NE(answer_->body.find("restart the job"), std::string::npos);

  // A foreign client that polls the operation comes to an end with the cause; the job waits on.
  call("GET", "/replicationOperationStatus/" + started.job);
  EXPECT_EQ(body().at("status"), "Failed");
  EXPECT_NE(body().at("error").at("message").get<std::string>().find("no room"), std::string::npos);
  call("GET", std::string(kItem) + "/operationresults/" + started.job);
  EXPECT_EQ(answer_->status, 409);
  EXPECT_NE(answer_->body.find("restart the job"), std::string::npos);
  call("GET", "/replicationJobs/" + started.job);
  EXPECT_EQ(body().at("properties").at("state"), "Suspended");

  tell(msg::FlowPhase::running, std::nullopt, 10);
  EXPECT_EQ(answer_->body.find("waits for an operator"), std::string::npos);
  call("GET", "/replicationOperationStatus/" + started.job);
  EXPECT_EQ(body().at("status"), "InProgress") << "it goes on, and so may who asks";
}

TEST_F(RestTest, OnlyTheOrchestratorMayChangeJobsAndItems) {
  configure();
  call("PUT", kItem, protection());
  const auto job = std::get<msg::StartWorkflow>(requests_.at(0).body.value);

  turn([&](auto& effects) {
    core_.on_message(
        {.principal = "provider/A", .role = msg::Role::provider},
        {.from = "provider/A",
         .to = "vault",
         .body = reactor::message(msg::JobChanged{
             .flow = {.id = job.job, .phase = msg::FlowPhase::succeeded, .revision = 99}})},
        effects);
  });

  call("GET", "/replicationJobs/" + job.job);
  EXPECT_EQ(body().at("properties").at("state"), "NotStarted");
}

TEST_F(RestTest, WhatIsInUseIsNotDeleted) {
  configure();

  EXPECT_EQ(call("DELETE", "/replicationPolicies/gold").status, 409U);

  EXPECT_EQ(call("DELETE", kCloudA + "/replicationProtectionContainerMappings/pair").status, 204U);
  EXPECT_EQ(call("DELETE", "/replicationPolicies/gold").status, 204U);
}

TEST_F(RestTest, ARegistrationKeyIsShownOnceAndListedWithoutItsSecret) {
  call("POST", "/farside/registrationKeys",
       {{"role", "provider"}, {"site", "A"}, {"validHours", 24}});
  EXPECT_EQ(answer_->status, 201U);
  const std::string key = body().at("key");
  EXPECT_NE(key.find("secret_key"), std::string::npos);

  call("GET", "/farside/registrationKeys");

  EXPECT_EQ(answer_->body.find("secret"), std::string::npos);
  EXPECT_EQ(call("POST", "/farside/registrationKeys",
                 {{"role", "provider"}, {"site", "B"}, {"validHours", 121}})
                .status,
            400U);
}

// ---- What reaches the agents by their reports ----

TEST_F(RestTest, AChangedPolicyIsToldUntilTheAgentWorksByIt) {
  const auto item = protect();
  status({.item = item});
  const auto* first = told();
  ASSERT_NE(first, nullptr);
  const auto digest = first->digest;
  EXPECT_EQ(first->policy.frequency_seconds, 30U);
  status({.item = item, .settings = digest});
  EXPECT_EQ(told(), nullptr) << "it works by them";

  EXPECT_EQ(call("PUT", "/replicationPolicies/gold", policy(300)).status, 200U);
  now_ = now_ + std::chrono::seconds{6};
  status({.item = item, .settings = digest});

  ASSERT_NE(told(), nullptr);
  EXPECT_EQ(told()->policy.frequency_seconds, 300U);
  EXPECT_EQ(requests_.at(0).to, "agent/A/host");
  status({.item = item, .settings = digest});
  EXPECT_EQ(told(), nullptr) << "not with every report";
}

TEST_F(RestTest, AnAgentThatReplicatesWhatIsNotProtectedIsToldThatItEnded) {
  protect();

  status({.item = "long-gone"});

  ASSERT_NE(told(), nullptr);
  EXPECT_TRUE(told()->ended);
}

TEST_F(RestTest, AStorageClassIsMappedToOneAtTheTarget) {
  configure();
  const std::string mapping =
      "/replicationFabrics/A/replicationStorageClassifications/fast/"
      "replicationStorageClassificationMappings/m";
  const auto target = [&](const std::string& name) {
    return Json{{"properties",
                 {{"targetStorageClassificationId",
                   kBase + "/replicationFabrics/B/replicationStorageClassifications/" + name}}}};
  };

  EXPECT_EQ(call("PUT", mapping, target("none")).status, 404U);
  EXPECT_EQ(call("PUT", mapping, target("slow")).status, 200U);
  EXPECT_EQ(call("GET", mapping).status, 200U);
  call("PUT", kItem, protection());

  EXPECT_EQ(std::get<msg::StartWorkflow>(requests_.at(0).body.value).input.spec.storage_class,
            "slow");
  EXPECT_EQ(call("DELETE", mapping).status, 204U);
}

TEST_F(RestTest, HealthNamesItsReasons) {
  const auto item = protect();
  status({.item = item,
          .phase = msg::ReplicationPhase::paused,
          .health = msg::Health::critical,
          .fault = msg::Fault{.code = 9, .what = "no room", .advice = "make some"}});

  call("GET", kItem);

  EXPECT_EQ(body().at("properties").at("replicationHealth"), "Critical");
  EXPECT_NE(answer_->body.find("make some"), std::string::npos);
}

TEST_F(RestTest, WhatTheTargetCannotDoIsCriticalEachWithItsCause) {
  const auto item = protect();
  replica({.item = item, .warnings = {{.code = 9, .what = "a clock is off", .advice = "set it"}}});
  call("GET", kItem);
  EXPECT_EQ(body().at("properties").at("replicationHealth"), "Warning");

  replica({.item = item,
           .faults = {{.code = 9, .what = "the journal is full", .advice = "raise its limit"},
                      {.code = 12, .what = "a block is damaged", .advice = "look"}}});
  call("GET", kItem);

  EXPECT_EQ(body().at("properties").at("replicationHealth"), "Critical");
  EXPECT_NE(answer_->body.find("the journal is full"), std::string::npos);
  EXPECT_NE(answer_->body.find("a block is damaged"), std::string::npos);
}

// ---- What Farside has beyond the original

TEST_F(RestTest, TheFloorOfAJournalIsFourHoursUntilAnOperatorSaysOtherwise) {
  protect();
  call("GET", "/replicationPolicies/gold");
  EXPECT_EQ(body().at("properties").at("farside").at("floorHours"), 4);

  const Json wanted{
      {"properties", {{"recoveryPoints", 24}, {"floorHours", 12}, {"journalGibMax", 100}}}};
  EXPECT_EQ(call("PUT", "/farside/policies/gold", wanted).status, 200U);

  EXPECT_EQ(body().at("properties").at("farside").at("floorHours"), 12);
  EXPECT_EQ(body().at("properties").at("farside").at("journalGibMax"), 100);
}

TEST_F(RestTest, AFloorThatLeavesTheJournalsLimitNoPointIsRefusedAndNeverTheDefault) {
  protect();
  const auto put = [&](Json properties) {
    return call("PUT", "/farside/policies/gold", Json{{"properties", std::move(properties)}})
        .status;
  };

  EXPECT_EQ(put({{"recoveryPoints", 4}, {"journalGibMax", 100}, {"floorHours", 4}}), 400U);
  EXPECT_NE(answer_->body.find("floorHours"), std::string::npos);

  EXPECT_EQ(put({{"recoveryPoints", 4}, {"journalGibMax", 100}}), 200U);
  EXPECT_EQ(body().at("properties").at("farside").at("floorHours"), 2);
  EXPECT_EQ(put({{"recoveryPoints", 24}, {"floorHours", 12}}), 200U);
  EXPECT_EQ(put({{"journalGibMax", 50}}), 200U);
  EXPECT_EQ(body().at("properties").at("farside").at("floorHours"), 12);
  EXPECT_EQ(put({{"recoveryPoints", 12}}), 400U) << "it has a limit, and a floor somebody wanted";
  EXPECT_EQ(put({{"recoveryPoints", 12}, {"floorHours", 12}, {"journalGibMax", 0}}), 200U);
}

TEST_F(RestTest, APauseReachesTheSourceAtOnceAndIsAWarningThatSaysSinceWhen) {
  const auto item = protect();
  status({.item = item, .health = msg::Health::normal});
  turn([&](auto& effects) { core_.on_timer("tick", effects); });

  EXPECT_EQ(call("POST", kItem + "/farside/pause").status, 200U);

  ASSERT_NE(told(), nullptr);
  EXPECT_TRUE(told()->paused);
  const auto digest = told()->digest;
  status({.item = item, .health = msg::Health::warning, .settings = digest, .paused = true});
  EXPECT_EQ(told(), nullptr) << "it works by them";
  call("GET", kItem);
  EXPECT_EQ(body().at("properties").at("replicationHealth"), "Warning");
  EXPECT_NE(answer_->body.find("Paused by an operator since " + to_iso(now_)), std::string::npos);
  EXPECT_FALSE(body().at("properties").at("farside").at("pausedAt").is_null());

  now_ = now_ + std::chrono::seconds{10};
  call("POST", kItem + "/farside/pause");
  call("GET", kItem);
  EXPECT_EQ(answer_->body.find("since " + to_iso(now_)), std::string::npos)
      << "paused again, it has been paused since the first time";
}

TEST_F(RestTest, AnAgentThatMissedAPauseIsToldUntilItReportsIt) {
  const auto item = protect();
  turn([&](auto& effects) { core_.on_timer("tick", effects); });
  call("POST", kItem + "/farside/pause");

  now_ = now_ + std::chrono::seconds{6};
  status({.item = item, .settings = "older"});

  ASSERT_NE(told(), nullptr);
  EXPECT_TRUE(told()->paused);
}

TEST_F(RestTest, AResumeReachesTheSourceAtOnceAndTakesTheWarningAway) {
  const auto item = protect();
  turn([&](auto& effects) { core_.on_timer("tick", effects); });
  call("POST", kItem + "/farside/pause");

  EXPECT_EQ(call("POST", kItem + "/farside/resume").status, 200U);

  ASSERT_NE(told(), nullptr);
  EXPECT_FALSE(told()->paused);
  call("GET", kItem);
  EXPECT_EQ(answer_->body.find("Paused by an operator"), std::string::npos);
}

TEST_F(RestTest, WhatIsNotReplicatedCannotBePaused) {
  const auto item = protect();
  record({.item = item, .state = msg::ItemState::commitRequired});

  EXPECT_EQ(call("POST", kItem + "/farside/pause").status, 409U);
  EXPECT_EQ(call("POST", kItem + "none/farside/pause").status, 404U);
}

TEST_F(RestTest, ARetryIsAnOrderToTheSource) {
  const auto item = protect();

  const auto asked = call_agent<msg::RetryReplication>("POST", kItem + "/farside/retry", "A",
                                                       msg::ReplicationRetried{.item = item});

  EXPECT_EQ(asked.item, item);
  EXPECT_EQ(answer_->status, 200U);
}

TEST_F(RestTest, AResynchronisationIsARetryThatCompares) {
  const auto item = protect();

  const auto asked = call_agent<msg::RetryReplication>("POST", kItem + "/farside/resync", "A",
                                                       msg::ReplicationRetried{.item = item});

  EXPECT_TRUE(asked.compare);
  EXPECT_EQ(answer_->status, 200U);
  EXPECT_EQ(body().at("status"), "Resynchronizing");
}

TEST_F(RestTest, ARetryThatTheSourceRefusesSaysWhy) {
  protect();

  call_agent<msg::RetryReplication>(
      "POST", kItem + "/farside/retry", "A",
      msg::Refused{.fault = {.code = static_cast<std::uint16_t>(ErrorCode::kConflict),
                             .what = "it is paused",
                             .advice = "farside resume"}});

  EXPECT_EQ(answer_->status, 409U);
  EXPECT_NE(answer_->body.find("it is paused"), std::string::npos);
}

TEST_F(RestTest, APlanIsAskedOfTheTargetAndChangesNothing) {
  const auto item = protect();

  const auto asked =
      call_agent<msg::ProveReplica>("GET", kItem + "/farside/plan", "B",
                                    msg::ReplicaProven{.item = item,
                                                       .plan = {{.what = "memory",
                                                                 .rule = msg::PlanRule::kept,
                                                                 .source = "160 MiB",
                                                                 .target = "160 MiB"},
                                                                {.what = "display",
                                                                 .rule = msg::PlanRule::dropped,
                                                                 .source = "VNC",
                                                                 .note = "no such device here"}}});

  EXPECT_EQ(asked.item, item);
  EXPECT_TRUE(asked.plan_only);
  EXPECT_EQ(asked.vm_name, "web");
  ASSERT_EQ(body().at("value").size(), 2U);
  EXPECT_EQ(body().at("value").at(1).at("rule"), "dropped");
  EXPECT_EQ(body().at("value").at(1).at("note"), "no such device here");
}

TEST_F(RestTest, AnItemThatCouldNotBeFailedOverIsCritical) {
  const auto item = protect();
  replica({.item = item, .proven_at = now_.micros});
  call("GET", kItem);
  EXPECT_FALSE(body().at("properties").at("farside").at("provenAt").is_null());

  replica({.item = item,
           .proof_fault = msg::Fault{.code = 20, .what = "duplicate device", .advice = "look"}});
  call("GET", kItem);

  EXPECT_EQ(body().at("properties").at("replicationHealth"), "Critical");
  EXPECT_NE(answer_->body.find("could not be failed over now: duplicate device"),
            std::string::npos);
}

TEST_F(RestTest, ADrillThatShowedNoSignOfLifeIsNotConfirmed) {
  const auto item = protect();
  call("GET", kItem);
  const std::string enabling = body().at("properties").at("currentScenario").at("jobId");
  job({.id = enabling.substr(enabling.rfind('/') + 1),
       .workflow = "enable_protection",
       .phase = msg::FlowPhase::succeeded,
       .revision = 9,
       .item = item});
  call("POST", kItem + "/testFailover");
  const auto started = std::get<msg::StartWorkflow>(requests_.at(0).body.value);
  record({.item = item, .state = msg::ItemState::protected_, .drilled_at = 1, .drill_sign = ""});

  call("GET", kItem);

  EXPECT_EQ(body().at("properties").at("farside").at("drill"), "Succeeded, not confirmed");
  job({.id = started.job,
       .workflow = "test_failover",
       .phase = msg::FlowPhase::succeeded,
       .started_at = now_.micros,
       .ended_at = now_.micros,
       .revision = 9,
       .item = item});
  call("GET", "/replicationJobs/" + started.job);
  EXPECT_EQ(body().at("properties").at("stateDescription"), "Succeeded, not confirmed");
  EXPECT_EQ(body().at("properties").at("state"), "Succeeded") << "for programs that know no better";
  record({.item = item,
          .state = msg::ItemState::protected_,
          .drilled_at = 1,
          .drill_sign = "the guest agent answers"});
  call("GET", kItem);
  EXPECT_EQ(body().at("properties").at("farside").at("drill"),
            "Succeeded: the guest agent answers");
  record({.item = item, .state = msg::ItemState::protected_, .drilled_at = 1});
  call("GET", kItem);
  EXPECT_EQ(body().at("properties").at("farside").at("drillSign"), "") << "of the newest drill";
}

TEST_F(RestTest, AProblemOfAHostIsOneOfTheItemsOnIt) {
  protect();
  msg::Inventory inventory{.site = "B",
                           .hosts = {{.host = {.name = "host", .problem = "fences unknown"},
                                      .principal = "agent/B/host",
                                      .connected = true}}};
  turn([&](auto& effects) {
    core_.on_message({.principal = "provider/B", .role = msg::Role::provider},
                     {.from = "provider/B",
                      .to = "vault",
                      .body = reactor::message(msg::InventoryReport{.inventory = inventory})},
                     effects);
  });

  call("GET", kItem);

  EXPECT_EQ(body().at("properties").at("replicationHealth"), "Critical");
  EXPECT_NE(answer_->body.find("fences unknown"), std::string::npos);
  call("GET", "/farside/hosts");
  EXPECT_NE(answer_->body.find("fences unknown"), std::string::npos);
}

TEST_F(RestTest, ItemsAreShownToPrometheus) {
  protect();
  turn([&](auto& effects) { core_.on_timer("tick", effects); });

  EXPECT_NE(registry_.text().find("farside_item_info{"), std::string::npos);
  EXPECT_NE(registry_.text().find("vm_name=\"web\""), std::string::npos);
}

}  // namespace
}  // namespace farside::vault
