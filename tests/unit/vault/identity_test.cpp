// Who is believed what, and what a revocation reaches.
#include "tests/unit/vault/rest_fixture.h"

namespace farside::vault {
namespace {

class IdentityTest : public RestTest {
 protected:
  void admit_providers() {
    store::Batch batch;
    for (const std::string site : {"A", "B", "Z"}) {
      store::Table<msg::Identity>("identity")
          .put(batch, "provider/" + site,
               {.peer = {.principal = "provider/" + site,
                         .role = msg::Role::provider,
                         .public_key = "provider-key-" + site,
                         .site = site},
                .name = site});
    }
    ASSERT_TRUE(store_.commit(batch));
  }
  void connect(const std::string& site, bool is_there) {
    turn([&](auto& effects) {
      core_.on_peer({.peer = {.principal = "provider/" + site, .role = msg::Role::provider},
                     .connected = is_there},
                    effects);
    });
  }
  void tick() {
    now_ = now_ + std::chrono::seconds{6};
    turn([&](auto& effects) { core_.on_timer("tick", effects); });
  }
  // What was asked for in the last turn, of `site`'s provider.
  const msg::RevokeAgent* asked() const {
    for (const auto& envelope : requests_) {
      if (const auto* body = std::get_if<msg::RevokeAgent>(&envelope.body.value)) return body;
    }
    return nullptr;
  }
  const msg::ItemSettings* told_to(const std::string& agent) const {
    for (const auto& envelope : requests_) {
      const auto* body = std::get_if<msg::ItemSettings>(&envelope.body.value);
      if (envelope.to == agent && body != nullptr) return body;
    }
    return nullptr;
  }
  void revoke(const std::string& principal) {
    const auto path = "/farside/identities/" + front_door::percent_encoded(principal);
    EXPECT_EQ(call("DELETE", path).status, 200U) << answer_->body;
  }
  template <class Body>
  void confirm(const std::string& from, Body reply) {
    turn([&](auto& effects) {
      core_.on_message({.principal = from, .role = msg::Role::provider},
                       {.id = "revoke/agent/B/host",
                        .from = from,
                        .to = "vault",
                        .reply = true,
                        .body = reactor::message(std::move(reply))},
                       effects);
    });
  }
  msg::Inventory site_of(const std::string& site, std::vector<msg::HostEntry> hosts) {
    return {.site = site, .hosts = std::move(hosts)};
  }
  static msg::HostEntry host(const std::string& principal, const std::string& key) {
    return {.host = {.name = "host", .data_endpoint = "tcp://evil:1", .public_key = key},
            .principal = principal,
            .connected = true};
  }
  bool is_listed(const std::string& principal, const std::string& field) {
    call("GET", "/farside/identities");
    const auto all = body();
    for (const auto& one : all.at("value")) {
      if (one.at("principal") == principal) return one.at(field).get<bool>();
    }
    ADD_FAILURE() << principal << " is not listed: " << answer_->body;
    return false;
  }
};

TEST_F(IdentityTest, AProviderSpeaksForItsOwnAgentsOnly) {
  const auto item = protect();

  report(site_of("Z", {host("agent/B/host", "evil"), host("agent/Z/host", "z"),
                       host("provider/B", "evil"), host("agent/Z/..", "evil")}));
  tick();
  status({.item = item});

  ASSERT_NE(told(), nullptr);
  EXPECT_EQ(told()->peer_key, "key-B");
  EXPECT_TRUE(core_.catalog().live.connected.at("provider/B"));
  EXPECT_EQ(core_.catalog().live.connected.count("agent/Z/host"), 1U);
  EXPECT_EQ(core_.catalog().live.connected.count("agent/Z/.."), 0U);
}

TEST_F(IdentityTest, AHostThatLeftTheInventoryIsHeardOfNoMore) {
  report("B");
  ASSERT_TRUE(core_.catalog().live.connected.at("agent/B/host"));

  report(site_of("B", {}));

  EXPECT_FALSE(core_.catalog().live.connected.contains("agent/B/host"));
}

// A site that means harm would have MiB written with each of its reports.
TEST_F(IdentityTest, ALargeInventoryIsRecordedAtAPace) {
  std::size_t written = 0;
  std::string last;
  const store::Table<msg::Inventory> table{"inventory"};
  for (int second = 0; second < 60; ++second) {
    auto site = site_of("B", {host("agent/B/host", "key-B")});
    for (int i = 0; i < 1000; ++i) site.hosts[0].vms.push_back({.id = std::string(1000, 'x')});
    site.hosts[0].vms[0].name = std::to_string(second);
    report(std::move(site));
    now_.micros += 1'000'000;
    const auto now = (**table.get(store_, "B")).hosts[0].vms[0].name;
    written += now == last ? 0 : 1;
    last = now;
  }

  EXPECT_GE(written, 10U);
  EXPECT_LE(written, 20U) << "256 KiB a second";
}

TEST_F(IdentityTest, AKeyThatTwoClaimIsGivenToNobodyAndIsAProblemOfBoth) {
  const auto item = protect();

  report(site_of("Z", {host("agent/Z/thief", "key-B")}));
  tick();
  status({.item = item});

  ASSERT_NE(told(), nullptr);
  EXPECT_EQ(told()->peer_key, "");
  EXPECT_EQ(told()->peer_endpoint, "");
  EXPECT_FALSE(told()->peer_revoked);
  call("GET", kItem);
  EXPECT_EQ(body().at("properties").at("replicationHealth"), "Critical");
  EXPECT_NE(answer_->body.find("also claimed by 'agent/Z/thief'"), std::string::npos);
  call("GET", "/farside/hosts");
  EXPECT_NE(answer_->body.find("also claimed by 'agent/B/host'"), std::string::npos);

  report(site_of("Z", {host("agent/Z/thief", "its own")}));
  tick();
  status({.item = item});
  ASSERT_NE(told(), nullptr);
  EXPECT_EQ(told()->peer_key, "key-B");
}

TEST_F(IdentityTest, ARevokedAgentIsShutOutByItsPeersAtOnceWhoeverIsAway) {
  protect();
  connect("B", false);

  revoke("agent/B/host");

  EXPECT_NE(answer_->body.find("'provider/B' is away"), std::string::npos) << answer_->body;
  ASSERT_NE(told_to("agent/A/host"), nullptr);
  EXPECT_TRUE(told_to("agent/A/host")->peer_revoked);
  EXPECT_EQ(asked(), nullptr);
  EXPECT_TRUE(is_listed("agent/B/host", "revoked"));
  EXPECT_FALSE(is_listed("agent/B/host", "connected"));
}

TEST_F(IdentityTest, AProviderIsToldOfARevocationUntilItHasConfirmedIt) {
  const auto item = protect();
  connect("B", false);
  revoke("agent/B/host");
  restart();

  connect("B", true);
  ASSERT_NE(asked(), nullptr);
  EXPECT_EQ(asked()->principal, "agent/B/host");
  EXPECT_EQ(asked()->public_key, "key-B");
  tick();
  ASSERT_NE(asked(), nullptr);                                            // The answer was lost.
  confirm("provider/A", msg::AgentRevoked{.principal = "agent/B/host"});  // Not its own to say.
  tick();
  ASSERT_NE(asked(), nullptr);

  confirm("provider/B", msg::AgentRevoked{.principal = "agent/B/host", .public_key = "key-B"});
  tick();

  EXPECT_EQ(asked(), nullptr);
  status({.item = item});
  ASSERT_NE(told(), nullptr);
  EXPECT_TRUE(told()->peer_revoked);
}

TEST_F(IdentityTest, ARevokedAgentIsNotConnectedWhateverItsProviderSays) {
  protect();
  revoke("agent/B/host");

  report("B");

  EXPECT_FALSE(core_.catalog().live.connected.at("agent/B/host"));
}

TEST_F(IdentityTest, AnAgentIsTrustedAgainWithAnotherKeyOnceTheFirstIsGone) {
  const auto item = protect();
  revoke("agent/B/host");
  auto anew = site_of("B", {host("agent/B/host", "key-B2")});

  report(anew);  // Before its provider has said that it shut out the first.
  tick();
  status({.item = item});
  ASSERT_NE(told(), nullptr);
  EXPECT_TRUE(told()->peer_revoked);

  confirm("provider/B", msg::AgentRevoked{.principal = "agent/B/host", .public_key = "key-B"});
  tick();
  report(anew);
  status({.item = item});

  ASSERT_NE(told(), nullptr);
  EXPECT_FALSE(told()->peer_revoked);
  EXPECT_EQ(told()->peer_key, "key-B2");
  EXPECT_TRUE(core_.catalog().live.connected.at("agent/B/host"));
}

TEST_F(IdentityTest, AnAgentThatNobodyKnowsIsNotRevokedForEver) {
  protect();
  revoke("agent/B/nobody");
  EXPECT_NE(answer_->body.find("no host of that name is in its site's inventory"),
            std::string::npos)
      << answer_->body;
  ASSERT_NE(asked(), nullptr);

  turn([&](auto& effects) {
    core_.on_message({.principal = "provider/B", .role = msg::Role::provider},
                     {.id = "revoke/agent/B/nobody",
                      .from = "provider/B",
                      .to = "vault",
                      .reply = true,
                      .body = reactor::message(msg::Refused{
                          .fault = {.code = static_cast<std::uint16_t>(ErrorCode::kNotFound)}})},
                     effects);
  });

  call("GET", "/farside/identities");
  EXPECT_EQ(answer_->body.find("agent/B/nobody"), std::string::npos);
  EXPECT_EQ(call("DELETE", "/farside/identities/agent%2FB").status, 400U);
  revoke("agent/B/host");
  EXPECT_EQ(answer_->body.find("spelling"), std::string::npos) << answer_->body;
}

// A provider that registered anew has no agents yet, and an item's agent is known to the vault.
TEST_F(IdentityTest, TheRevocationOfAnItemsAgentStaysWhateverItsProviderKnows) {
  protect();
  revoke("agent/B/host");

  confirm("provider/B",
          msg::Refused{.fault = {.code = static_cast<std::uint16_t>(ErrorCode::kNotFound)}});
  tick();

  EXPECT_TRUE(is_listed("agent/B/host", "revoked"));
}

TEST_F(IdentityTest, WithAProviderItsAgentsAndItsInventoryGo) {
  admit_providers();
  protect();

  revoke("provider/B");

  ASSERT_NE(told_to("agent/A/host"), nullptr);
  EXPECT_TRUE(told_to("agent/A/host")->peer_revoked);
  EXPECT_EQ(call("GET", "/replicationFabrics/B").status, 404U);
  report("B");  // It was under way.
  EXPECT_EQ(call("GET", "/replicationFabrics/B").status, 404U);
  restart();
  EXPECT_EQ(call("GET", "/replicationFabrics/B").status, 404U);
  EXPECT_FALSE(core_.catalog().live.connected.contains("agent/B/host"));
}

TEST_F(IdentityTest, WithTheProviderOfTheSourceItsTargetIsTold) {
  admit_providers();
  protect();

  revoke("provider/A");

  ASSERT_NE(told_to("agent/B/host"), nullptr);
  EXPECT_TRUE(told_to("agent/B/host")->peer_revoked);
}

TEST_F(IdentityTest, ALostClaimOfARevokedSiteIsForgotten) {
  admit_providers();
  const auto item = protect();
  report(site_of("Z", {host("agent/Z/thief", "key-B")}));
  tick();

  revoke("provider/Z");
  status({.item = item});

  ASSERT_NE(told(), nullptr);
  EXPECT_EQ(told()->peer_key, "key-B");
  call("GET", kItem);
  EXPECT_EQ(answer_->body.find("also claimed"), std::string::npos);
}

TEST_F(IdentityTest, ATokenOfAnAgentIsBoundToItsHost) {
  configure();
  connect("B", true);
  turn([&](auto& effects) {
    core_.on_job("http/3",
                 reactor::message(msg::HttpRequest{
                     .method = "POST",
                     .path = kBase + "/farside/registrationKeys",
                     .query = "api-version=2023-06-01",
                     .authorization = "Bearer secret",
                     .body = R"({"role": "agent", "site": "B", "name": "h9", "validHours": 1})"}),
                 effects);
  });

  ASSERT_EQ(requests_.size(), 1U);
  const auto* wanted = std::get_if<msg::IssueToken>(&requests_[0].body.value);
  ASSERT_NE(wanted, nullptr);
  EXPECT_EQ(wanted->host, "h9");
}

TEST_F(IdentityTest, AnAgentIsAskedToRotateItsKeyAndAProviderIsNot) {
  protect();

  const auto asked =
      call_agent<msg::RotateIdentity>("POST", "/farside/identities/agent%2FB%2Fhost/rotate", "B",
                                      msg::RotationBegun{.public_key = "key-B"});

  EXPECT_EQ(asked.principal, "agent/B/host");
  EXPECT_EQ(answer_->status, 200U);
  EXPECT_EQ(body().at("publicKey"), "key-B");
  call("POST", "/farside/identities/provider%2FB/rotate");
  EXPECT_GE(answer_->status, 400U);
  EXPECT_NE(answer_->body.find("give its agents new keys"), std::string::npos) << answer_->body;
}

TEST_F(IdentityTest, AnOrchestratorThatWasDisplacedComesBackWithANewKey) {
  const auto enter = [&](const msg::RegistrationKey& key, const std::string& public_key) {
    turn([&](auto& effects) {
      core_.on_message({.principal = "registrant/" + key.name, .role = msg::Role::registrant},
                       {.id = "r",
                        .from = "registrant/" + key.name,
                        .to = "vault",
                        .body = reactor::message(msg::Register{.secret = key.secret,
                                                               .public_key = public_key,
                                                               .name = "orchestrator",
                                                               .endpoint = "tcp://o:1"})},
                       effects);
    });
  };
  const auto key = [&](const std::string& name) {
    call("POST", "/farside/registrationKeys", {{"role", "orchestrator"}, {"name", name}});
    return identity::key_from_toml(body().at("key").get<std::string>(), "k").value();
  };
  const auto admitted = [&] {
    const auto identity =
        store::Table<msg::Identity>("identity").get(store_, "orchestrator").value();
    return identity && !identity->peer.revoked ? identity->peer.public_key : std::string();
  };
  enter(key("first"), "first");
  ASSERT_EQ(admitted(), "first");

  revoke("orchestrator");
  EXPECT_EQ(admitted(), "");
  enter(key("second"), "second");
  EXPECT_EQ(admitted(), "second");
  restart();

  EXPECT_EQ(admitted(), "second");
}

}  // namespace
}  // namespace farside::vault
