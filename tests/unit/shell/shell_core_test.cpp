#include "common/shell/shell_core.h"

#include <gtest/gtest.h>

#include "common/store/mem_store.h"

namespace farside::shell {
namespace {

// Counts what comes through to it.
class Inner final : public reactor::Core {
 public:
  void start(reactor::Effects&) override { ++calls; }
  void on_message(const reactor::PeerId&, const msg::Envelope&, reactor::Effects&) override {
    ++calls;
  }
  void on_job(const std::string&, const Result<msg::Message>&, reactor::Effects&) override {
    ++calls;
  }
  void on_timer(const std::string&, reactor::Effects&) override { ++calls; }
  void on_peer(const reactor::PeerChange&, reactor::Effects&) override { ++calls; }
  int calls = 0;
};

class ShellCoreTest : public testing::Test {
 protected:
  std::vector<reactor::Effect> turn(const std::function<void(reactor::Effects&)>& act) {
    reactor::Effects effects("agent/A/h1", store_, Time{1}, Micros{1}, random_);
    act(effects);
    return std::move(effects.effects);
  }
  std::vector<reactor::Effect> order(const std::string& peer, const std::string& from,
                                     const std::string& to = "agent/A/h1") {
    return turn([&](auto& effects) {
      core_.on_message({.principal = peer, .role = msg::Role::provider},
                       {.id = "rest/1",
                        .from = from,
                        .to = to,
                        .body = reactor::message(msg::RotateIdentity{.principal = to})},
                       effects);
    });
  }

  SystemClock clock_;
  SeededRandom random_{1};
  store::MemStore store_;
  Inner inner_;
  Reception reception_{clock_};
  ShellCore core_{
      {.core = inner_, .reception = reception_, .issuer = "provider/A", .public_key = "key"}};
};

TEST_F(ShellCoreTest, AnswersTheVaultBeforeItEndsToRotateItsKey) {
  const auto effects = order("provider/A", "vault");

  ASSERT_EQ(effects.size(), 2U);
  const auto& sent = std::get<reactor::SendMessage>(effects[0]);
  EXPECT_EQ(sent.envelope.to, "vault");
  EXPECT_EQ(std::get<msg::RotationBegun>(sent.envelope.body.value).public_key, "key");
  EXPECT_FALSE(core_.wants_rotation());

  turn([&](auto& now) { core_.on_timer(std::get<reactor::SetTimer>(effects[1]).name, now); });

  EXPECT_TRUE(core_.wants_rotation());
  EXPECT_EQ(inner_.calls, 0);
}

TEST_F(ShellCoreTest, NobodyElseCanOrderThat) {
  EXPECT_TRUE(order("provider/A", "orchestrator").empty());
  EXPECT_TRUE(order("orchestrator", "vault").empty());
  EXPECT_EQ(inner_.calls, 0);
}

TEST_F(ShellCoreTest, WhatIsForOthersGoesOn) {
  order("provider/A", "vault", "agent/A/h2");
  turn([&](auto& effects) { core_.on_timer("tick", effects); });
  turn([&](auto& effects) {
    core_.on_peer({.peer = {.principal = "provider/A"}, .connected = true}, effects);
  });

  EXPECT_EQ(inner_.calls, 3);
}

}  // namespace
}  // namespace farside::shell
