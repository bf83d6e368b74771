// The vault's core without a network: requests, reports and what is answered.
#pragma once

#include <gtest/gtest.h>

#include "common/base/sha256.h"
#include "common/identity/key_file.h"
#include "common/store/mem_store.h"
#include "services/vault/vault_core.h"

namespace farside::vault {

inline const std::string kBase =
    "/subscriptions/s/resourceGroups/g/providers/Microsoft.RecoveryServices/vaults/farside";

class RestTest : public testing::Test {
 protected:
  void turn(const std::function<void(reactor::Effects&)>& act) {
    reactor::Effects effects("vault", store_, now_, Micros{now_.micros}, random_);
    act(effects);
    ASSERT_TRUE(store_.commit(effects.writes));
    answer_.reset();
    requests_.clear();
    for (auto& effect : effects.effects) {
      if (auto* answer = std::get_if<reactor::Answer>(&effect)) {
        answer_ = std::get<msg::HttpResponse>(answer->body.value);
      }
      if (auto* sent = std::get_if<reactor::SendMessage>(&effect)) {
        if (!sent->envelope.reply) requests_.push_back(sent->envelope);
      }
    }
  }

  const msg::HttpResponse& call(const std::string& method, const std::string& path,
                                const Json& body = nullptr,
                                const std::string& query = "api-version=2023-06-01",
                                const std::string& token = "Bearer secret") {
    turn([&](auto& effects) {
      core_.on_job("http/1",
                   reactor::message(msg::HttpRequest{.method = method,
                                                     .path = kBase + path,
                                                     .query = query,
                                                     .authorization = token,
                                                     .body = body.is_null() ? "" : body.dump(),
                                                     .host = "vault:8443"}),
                   effects);
    });
    EXPECT_TRUE(answer_.has_value()) << method << " " << path << " was not answered";
    if (!answer_) answer_.emplace();
    return *answer_;
  }
  Json body() const { return Json::parse(answer_->body); }
  std::string code() const { return body().at("error").at("code"); }

  // A site as its provider reports it, with one VM.
  void report(const std::string& site, const std::function<void(msg::Vm&)>& change = {}) {
    msg::Inventory inventory{
        .site = site,
        .clouds = {{.name = "cloud", .host_groups = {"all"}, .networks = {"lan"}}},
        .host_groups = {{.name = "all", .hosts = {"host"}}},
        .networks = {{.name = "lan", .host_network = "br0"}},
        .storage = {{.name = "fast", .path = "/fast"}, {.name = "slow", .path = "/slow"}},
        .hosts = {{.host = {.name = "host", .public_key = "key-" + site},
                   .principal = "agent/" + site + "/host",
                   .connected = true,
                   .vms = {{.id = "vm-" + site,
                            .name = "web",
                            .disks = {{.name = "vda", .path = "/fast/web.qcow2"}}}}}}};
    if (change) change(inventory.hosts[0].vms[0]);
    report(std::move(inventory));
  }
  void report(msg::Inventory inventory) {
    const auto provider = "provider/" + inventory.site;
    turn([&](auto& effects) {
      core_.on_message(
          {.principal = provider, .role = msg::Role::provider},
          {.from = provider,
           .to = "vault",
           .body = reactor::message(msg::InventoryReport{.inventory = std::move(inventory)})},
          effects);
    });
  }

  void configure() {
    report("A");
    report("B");
    EXPECT_EQ(call("PUT", "/replicationPolicies/gold", policy(30)).status, 200U);
    EXPECT_EQ(call("PUT", kCloudA + "/replicationProtectionContainerMappings/pair",
                   {{"properties",
                     {{"targetProtectionContainerId", kBase + kCloudB},
                      {"policyId", kBase + "/replicationPolicies/gold"}}}})
                  .status,
              200U);
  }
  // Protected and placed, as the workflow records it; returns the item's id.
  std::string protect() {
    configure();
    for (const std::string site : {"A", "B"}) {
      turn([&](auto& effects) {
        core_.on_peer({.peer = {.principal = "provider/" + site, .role = msg::Role::provider},
                       .connected = true},
                      effects);
      });
    }
    call("PUT", kItem, protection());
    const auto item = std::get<msg::StartWorkflow>(requests_.at(0).body.value).input.spec.item;
    turn([&](auto& effects) {
      core_.on_message(
          {.principal = "orchestrator", .role = msg::Role::orchestrator},
          {.id = "r",
           .from = "orchestrator",
           .to = "vault",
           .body = reactor::message(msg::RecordItem{.change = {.item = item,
                                                               .state = msg::ItemState::protected_,
                                                               .target_agent = "agent/B/host"}})},
          effects);
    });
    return item;
  }
  void replica(msg::ReplicaStatus one) {
    turn([&](auto& effects) {
      core_.on_message({.principal = "provider/B", .role = msg::Role::provider},
                       {.from = "agent/B/host",
                        .to = "vault",
                        .body = reactor::message(msg::ReplicaReport{.replicas = {std::move(one)}})},
                       effects);
    });
  }
  void record(msg::ItemChange change) {
    turn([&](auto& effects) {
      core_.on_message({.principal = "orchestrator", .role = msg::Role::orchestrator},
                       {.id = "r",
                        .from = "orchestrator",
                        .to = "vault",
                        .body = reactor::message(msg::RecordItem{.change = std::move(change)})},
                       effects);
    });
  }
  void job(msg::FlowRecord flow) {
    turn([&](auto& effects) {
      core_.on_message({.principal = "orchestrator", .role = msg::Role::orchestrator},
                       {.from = "orchestrator",
                        .to = "vault",
                        .body = reactor::message(msg::JobChanged{.flow = std::move(flow)})},
                       effects);
    });
  }
  // A request that is answered once an agent of `site` has replied with `reply`.
  template <class Asked, class Body>
  Asked call_agent(const std::string& method, const std::string& path, const std::string& site,
                   Body reply) {
    turn([&](auto& effects) {
      core_.on_job("http/2",
                   reactor::message(msg::HttpRequest{.method = method,
                                                     .path = kBase + path,
                                                     .query = "api-version=2023-06-01",
                                                     .authorization = "Bearer secret"}),
                   effects);
    });
    EXPECT_FALSE(answer_.has_value()) << answer_->body;
    if (requests_.empty()) return {};
    const auto asked = requests_.at(0);
    EXPECT_EQ(asked.to, "agent/" + site + "/host");
    turn([&](auto& effects) {
      core_.on_message({.principal = "provider/" + site, .role = msg::Role::provider},
                       {.id = asked.id,
                        .from = "agent/" + site + "/host",
                        .to = "vault",
                        .reply = true,
                        .body = reactor::message(std::move(reply))},
                       effects);
    });
    EXPECT_TRUE(answer_.has_value());
    const auto* body = std::get_if<Asked>(&asked.body.value);
    return body == nullptr ? Asked{} : *body;
  }
  void status(msg::ReplicationStatus one) {
    turn([&](auto& effects) {
      core_.on_message({.principal = "provider/A", .role = msg::Role::provider},
                       {.from = "agent/A/host",
                        .to = "vault",
                        .body = reactor::message(msg::StatusReport{.statuses = {std::move(one)}})},
                       effects);
    });
  }
  const msg::ItemSettings* told() const {
    for (const auto& envelope : requests_) {
      if (const auto* body = std::get_if<msg::ItemSettings>(&envelope.body.value)) return body;
    }
    return nullptr;
  }

  static Json policy(int seconds) {
    return {{"properties",
             {{"providerSpecificInput",
               {{"instanceType", "HyperVReplica2012R2"},
                {"replicationFrequencyInSeconds", seconds}}}}}};
  }
  Json protection() const {
    return {{"properties",
             {{"policyId", kBase + "/replicationPolicies/gold"},
              {"protectableItemId", kBase + kCloudA + "/replicationProtectableItems/vm-A"}}}};
  }

  VaultCore& make() {
    return made_.emplace(
        VaultSettings{.token_sha256 = sha256_hex("secret")},
        identity::Issuer{.principal = "vault",
                         .endpoint = "tcp://vault:8081",
                         .public_key = std::string(40, 'v'),
                         .key_pair_from =
                             [](const std::string& hex) {
                               return identity::KeyPair{.public_key = hex.substr(0, 40),
                                                        .secret_key = hex.substr(0, 40)};
                             },
                         .open_proof = [](const identity::KeyProof&) { return Status{}; }},
        probe_);
  }
  // The vault's process is killed and started again.
  void restart() {
    make();
    turn([&](auto& effects) { core_.start(effects); });
  }

  const std::string kCloudA = "/replicationFabrics/A/replicationProtectionContainers/cloud";
  const std::string kCloudB = "/replicationFabrics/B/replicationProtectionContainers/cloud";
  const std::string kItem = kCloudA + "/replicationProtectedItems/web";
  store::MemStore store_;
  SeededRandom random_{1};
  Time now_{1'800'000'000'000'000};
  metrics::Registry registry_;
  metrics::Problems notices_;
  Probe probe_{registry_, notices_};
  std::optional<VaultCore> made_;
  VaultCore& core_ = make();
  std::optional<msg::HttpResponse> answer_;
  std::vector<msg::Envelope> requests_;
};

}  // namespace farside::vault
