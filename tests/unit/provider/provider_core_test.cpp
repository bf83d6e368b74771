#include "services/provider/provider_core.h"

#include <gtest/gtest.h>

#include "common/store/mem_store.h"

namespace farside::provider {
namespace {

const std::string kAgent = "agent/A/host";

// The core with a store in memory; what it decides is looked at.
class ProviderCoreTest : public testing::Test {
 protected:
  void SetUp() override {
    store::Batch batch;
    store::Table<msg::Identity>("identity")
        .put(batch, kAgent,
             {.peer =
                  {.principal = kAgent, .role = msg::Role::agent, .public_key = "key", .site = "A"},
              .name = "host"});
    ASSERT_TRUE(store_.commit(batch));
    turn([&](auto& effects) { core_.start(effects); });
  }
  void turn(const std::function<void(reactor::Effects&)>& act) {
    reactor::Effects effects("provider/A", store_, now_, Micros{now_.micros}, random_);
    act(effects);
    ASSERT_TRUE(store_.commit(effects.writes));
    sent_.clear();
    for (auto& effect : effects.effects) {
      if (auto* sent = std::get_if<reactor::SendMessage>(&effect)) sent_.push_back(*sent);
    }
  }
  void message(const reactor::PeerId& peer, msg::Envelope envelope) {
    turn([&](auto& effects) { core_.on_message(peer, envelope, effects); });
  }
  void order(const std::string& to) {
    message({.principal = "orchestrator", .role = msg::Role::orchestrator},
            {.id = "flow/job/0/a0.1",
             .from = "orchestrator",
             .to = to,
             .body = reactor::message(msg::CheckSource{.vm = "vm"})});
  }
  void agent(bool connected) {
    turn([&](auto& effects) {
      core_.on_peer(
          {.peer = {.principal = kAgent, .role = msg::Role::agent}, .connected = connected},
          effects);
    });
  }
  void host_report(const std::string& public_key) {
    message({.principal = kAgent, .role = msg::Role::agent},
            {.from = kAgent,
             .to = "provider/A",
             .body = reactor::message(msg::HostReport{
                 .host = {.name = "host", .platform = "sim", .public_key = public_key}})});
  }
  std::vector<msg::HostEntry> hosts() {
    turn([&](auto& effects) { core_.on_timer("report", effects); });
    const auto* report = sent_to<msg::InventoryReport>("vault");
    return report == nullptr ? std::vector<msg::HostEntry>{} : report->inventory.hosts;
  }
  void revoke(const std::string& public_key) {
    message({.principal = "vault", .role = msg::Role::vault},
            {.id = "revoke/" + kAgent,
             .from = "vault",
             .to = "provider/A",
             .body = reactor::message(
                 msg::RevokeAgent{.principal = kAgent, .public_key = public_key})});
  }
  template <class Body>
  const Body* sent_to(const std::string& peer) const {
    for (const auto& sent : sent_) {
      if (sent.peer != peer) continue;
      if (const auto* body = std::get_if<Body>(&sent.envelope.body.value)) return body;
    }
    return nullptr;
  }

  store::MemStore store_;
  SeededRandom random_{1};
  Time now_{1'800'000'000'000'000};
  metrics::Registry registry_;
  metrics::Problems problems_;
  Probe probe_{registry_, problems_};
  ProviderCore core_{"A",
                     {.principal = "provider/A",
                      .endpoint = "tcp://a:8083",
                      .public_key = std::string(40, 'p'),
                      .key_pair_from =
                          [](const std::string& hex) {
                            return identity::KeyPair{.public_key = hex.substr(0, 40),
                                                     .secret_key = hex.substr(0, 40)};
                          },
                      .open_proof = [](const identity::KeyProof&) { return Status{}; }},
                     probe_};
  std::vector<reactor::SendMessage> sent_;
};

TEST_F(ProviderCoreTest, PassesOrdersOnToAnAgentThatIsThere) {
  agent(true);

  order(kAgent);

  ASSERT_EQ(sent_.size(), 1U);
  EXPECT_NE(sent_to<msg::CheckSource>(kAgent), nullptr);
}

TEST_F(ProviderCoreTest, SaysThatTheAgentIsAwayAndPassesTheOrderOnAllTheSame) {
  agent(true);
  agent(false);

  order(kAgent);

  EXPECT_NE(sent_to<msg::CheckSource>(kAgent), nullptr);
  const auto* progress = sent_to<msg::Progress>("orchestrator");
  ASSERT_NE(progress, nullptr);
  EXPECT_NE(progress->note.find("'agent/A/host' has not been heard of since 2027-"),
            std::string::npos)
      << progress->note;
}

TEST_F(ProviderCoreTest, DoesNotReachAgentsOfOtherSites) {
  order("agent/B/host");

  ASSERT_EQ(sent_.size(), 1U);
  EXPECT_NE(sent_to<msg::Refused>("orchestrator"), nullptr);
}

TEST_F(ProviderCoreTest, AnAgentSpeaksOnlyForItself) {
  message({.principal = kAgent, .role = msg::Role::agent},
          {.from = "agent/A/other", .to = "vault", .body = reactor::message(msg::StatusReport{})});

  EXPECT_TRUE(sent_.empty());
}

TEST_F(ProviderCoreTest, ABrokenSiteFileIsAProblemUntilItIsMended) {
  turn([&](auto& effects) {
    core_.on_job("read_site", fail(ErrorCode::kInvalidArgument, "line 3: no such key"), effects);
  });
  EXPECT_EQ(problems_.text(), "site file: line 3: no such key");

  turn([&](auto& effects) {
    core_.on_job("read_site", reactor::message(msg::SiteRead{}), effects);
  });
  EXPECT_EQ(problems_.text(), "");
}

TEST_F(ProviderCoreTest, AProblemOfAHostThatDoesNotAnswerTakesNothingOfWhatWasKnown) {
  const auto report = [&](msg::HostReport body) {
    message({.principal = kAgent, .role = msg::Role::agent},
            {.from = kAgent, .to = "provider/A", .body = reactor::message(std::move(body))});
    turn([&](auto& effects) { core_.on_timer("report", effects); });
    return sent_to<msg::InventoryReport>("vault")->inventory.hosts.at(0);
  };
  const msg::HostReport problem{.host = {.name = "host", .problem = "away"}};

  const auto unknown = report(problem);
  EXPECT_EQ(unknown.host.name, "host");
  EXPECT_EQ(unknown.host.problem, "away");

  const auto known =
      report({.host = {.name = "host", .platform = "sim", .memory_mib = 8}, .vms = {{.id = "vm"}}});
  EXPECT_EQ(known.host.problem, "");

  const auto away = report(problem);
  EXPECT_EQ(away.host.problem, "away");
  EXPECT_EQ(away.host.memory_mib, 8U);
  ASSERT_EQ(away.vms.size(), 1U);
}

// Groups of hosts name them: whoever could choose would be in any of them.
TEST_F(ProviderCoreTest, AHostIsCalledAsItsAgentWasAdmitted) {
  message({.principal = kAgent, .role = msg::Role::agent},
          {.from = kAgent,
           .to = "provider/A",
           .body = reactor::message(msg::HostReport{
               .host = {.name = "another", .platform = "sim", .public_key = "key"}})});

  EXPECT_EQ(hosts().at(0).host.name, "host");
}

TEST_F(ProviderCoreTest, AReportTooLargeForAHostLeavesWhatItToldBefore) {
  const auto report = [&](std::size_t vms) {
    msg::HostReport body{.host = {.name = "host", .platform = "sim", .public_key = "key"}};
    for (std::size_t i = 0; i < vms; ++i) body.vms.push_back({.id = std::string(1000, 'x')});
    message({.principal = kAgent, .role = msg::Role::agent},
            {.from = kAgent, .to = "provider/A", .body = reactor::message(std::move(body))});
  };
  report(2000);
  ASSERT_EQ(hosts().size(), 1U);
  EXPECT_NE(hosts().at(0).host.problem.find("more than the 1024 KiB"), std::string::npos);
  EXPECT_TRUE(hosts().at(0).vms.empty());

  report(3);
  EXPECT_EQ(hosts().at(0).host.problem, "");
  report(2000);

  EXPECT_NE(hosts().at(0).host.problem.find("more than the 1024 KiB"), std::string::npos);
  EXPECT_EQ(hosts().at(0).vms.size(), 3U);
}

TEST(ReportRoom, TheLargestReportsMakeRoomForTheOthers) {
  ReportRoom room;
  msg::Inventory inventory{.site = "A"};
  for (std::size_t host = 0; host < 20; ++host) {
    msg::HostEntry entry{.host = {.name = "h" + std::to_string(host), .public_key = "k"},
                         .principal = "agent/A/h" + std::to_string(host)};
    for (std::size_t i = 0; i < (host < 8 ? 900U : 10U); ++i) {
      entry.vms.push_back({.id = std::string(1000, 'x')});
    }
    ASSERT_TRUE(room.take(entry));
    inventory.hosts.push_back(std::move(entry));
  }

  room.fit(inventory);

  EXPECT_LT(msg::encode(inventory).size(), kInventoryMax + (64U << 10U));
  EXPECT_EQ(inventory.hosts.size(), 20U);
  for (const auto& entry : inventory.hosts) {
    EXPECT_EQ(entry.host.public_key, "k");
    EXPECT_NE(entry.vms.empty(), entry.host.problem.empty()) << entry.host.name;
    if (entry.vms.size() == 10) continue;
    EXPECT_TRUE(entry.vms.empty() || entry.vms.size() == 900U);
  }
  for (std::size_t host = 8; host < 20; ++host) EXPECT_EQ(inventory.hosts[host].vms.size(), 10U);
}

TEST_F(ProviderCoreTest, AnAgentsDataKeyIsTheOneItWasAdmittedWith) {
  host_report("key");
  EXPECT_EQ(hosts().at(0).host.problem, "");

  host_report("another");
  host_report("another");

  const auto host = hosts().at(0).host;
  EXPECT_EQ(host.public_key, "key");
  EXPECT_NE(host.problem.find("claims another data key"), std::string::npos);
  EXPECT_NE(registry_.text().find("farside_host_foreign_keys_total{agent_host=\"host\"} 1"),
            std::string::npos)
      << registry_.text();

  host_report("key");
  EXPECT_EQ(hosts().at(0).host.problem, "");
}

TEST_F(ProviderCoreTest, ARevokedAgentHasNoHostAnyMore) {
  agent(true);
  host_report("key");
  ASSERT_EQ(hosts().size(), 1U);

  revoke("key");
  ASSERT_NE(sent_to<msg::AgentRevoked>("vault"), nullptr);
  EXPECT_EQ(sent_to<msg::AgentRevoked>("vault")->public_key, "key");
  host_report("key");  // It was under way.

  EXPECT_TRUE(hosts().empty());
}

TEST_F(ProviderCoreTest, AnAgentThatHasRegisteredAnewIsNotRevokedWithItsOldKey) {
  host_report("key");

  revoke("an older one");

  ASSERT_NE(sent_to<msg::AgentRevoked>("vault"), nullptr);
  EXPECT_EQ(hosts().size(), 1U);
}

TEST_F(ProviderCoreTest, HostsAreShownToPrometheus) {
  message({.principal = kAgent, .role = msg::Role::agent},
          {.from = kAgent,
           .to = "provider/A",
           .body = reactor::message(msg::HostReport{
               .host = {.name = "host", .storage = {{.path = "/r", .free_bytes = 7}}}})});

  turn([&](auto& effects) { core_.on_timer("report", effects); });

  EXPECT_NE(sent_to<msg::InventoryReport>("vault"), nullptr);
  EXPECT_NE(registry_.text().find("farside_host_storage_free_bytes{host=\"host\",path=\"/r\"} 7"),
            std::string::npos)
      << registry_.text();
}

}  // namespace
}  // namespace farside::provider
