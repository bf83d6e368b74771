#include "common/identity/registrar.h"

#include <gtest/gtest.h>

#include <map>

#include "common/identity/key_file.h"
#include "common/store/mem_store.h"

namespace farside::identity {
namespace {

class RegistrarTest : public testing::Test {
 protected:
  template <class Act>
  auto turn(Act act) {
    reactor::Effects effects("vault", store_, now_, Micros{0}, random_);
    auto result = act(effects);
    EXPECT_TRUE(store_.commit(effects.writes));
    for (const auto& effect : effects.effects) note(effect);
    return result;
  }
  // Who would be let in now: principal -> public key.
  void note(const reactor::Effect& effect) {
    if (const auto* set = std::get_if<reactor::SetPeer>(&effect)) {
      gate_.erase(set->peer.principal);
      if (!set->peer.revoked) gate_[set->peer.principal] = set->peer.public_key;
    } else if (const auto* removed = std::get_if<reactor::RemovePeer>(&effect)) {
      gate_.erase(removed->principal);
    }
  }
  bool is_let_in(const std::string& principal) const { return gate_.contains(principal); }

  msg::RegistrationKey issue(const std::string& name = "k", int hours = 24) {
    auto key = turn([&](auto& effects) {
      return registrar_.issue({.name = name,
                               .role = msg::Role::provider,
                               .site = "A",
                               .valid = std::chrono::hours{hours}},
                              effects);
    });
    EXPECT_TRUE(key) << key.error().what;
    return *key;
  }
  msg::RegistrationKey token(const std::string& host) {
    auto key = turn([&](auto& effects) {
      return registrar_.issue({.name = host,
                               .role = msg::Role::agent,
                               .site = "A",
                               .host = host,
                               .replaces_unused = true},
                              effects);
    });
    EXPECT_TRUE(key) << key.error().what;
    return *key;
  }

  struct As {
    std::string name = "p";
    std::string endpoint{};
    std::string version = "1";
    std::string proven_by{};  // Whose secret key the proof is made with; empty: its own.
  };
  Result<msg::Identity> admit(const msg::RegistrationKey& key, const std::string& public_key,
                              const As& as) {
    return turn([&](auto& effects) {
      return registrar_.admit(
          {.principal = "registrant/" + key.name, .role = msg::Role::registrant},
          {.secret = key.secret,
           .public_key = public_key,
           .name = as.name,
           .endpoint = as.endpoint,
           .version = as.version,
           .proof = proof(as.proven_by.empty() ? public_key : as.proven_by,
                          registration_statement(key.secret))},
          effects);
    });
  }
  Result<msg::Identity> admit(const msg::RegistrationKey& key, const std::string& public_key) {
    return admit(key, public_key, As{});
  }
  Status rotate(const std::string& principal, msg::Role role, const std::string& from,
                const std::string& to) {
    const auto rotated = turn([&](auto& effects) {
      return registrar_.rotate({.principal = principal, .role = role},
                               {.public_key = to, .proof = proof(to, rotation_statement(from))},
                               effects);
    });
    if (!rotated) return fail(rotated.error());
    EXPECT_EQ(rotated->public_key, to);
    return {};
  }
  bool heard(const std::string& principal, msg::Role role) {
    return turn([&](auto& effects) {
      return registrar_.heard({.principal = principal, .role = role}, effects);
    });
  }
  void tend() {
    turn([&](auto& effects) { return registrar_.tend(effects); });
  }
  Status revoke(const std::string& principal, const std::string& public_key = "") {
    const auto revoked =
        turn([&](auto& effects) { return registrar_.revoke(principal, public_key, effects); });
    if (!revoked) return fail(revoked.error());
    return {};
  }
  // The issuer's process is killed and started again.
  void restart() {
    registrar_ = Registrar(issuer());
    gate_.clear();
    turn([&](auto& effects) {
      registrar_.start(effects);
      return true;
    });
  }

  // Whoever knows a public key here can prove it: that proofs are none is the shell's part.
  static std::string proof(const std::string& of, const std::string& statement) {
    return of + " says " + statement;
  }
  static Issuer issuer() {
    return {.principal = "vault",
            .endpoint = "tcp://vault:8081",
            .public_key = std::string(40, 'v'),
            .key_pair_from =
                [](const std::string& hex) {
                  return KeyPair{.public_key = hex.substr(0, 40), .secret_key = hex.substr(0, 40)};
                },
            .open_proof = [](const KeyProof& shown) -> Status {
              if (shown.proof == proof(shown.public_key, shown.statement)) return {};
              return fail(ErrorCode::kUnauthorized, "no proof", "");
            }};
  }

  store::MemStore store_;
  SeededRandom random_{3};
  Time now_{1'800'000'000'000'000};
  Registrar registrar_{issuer()};
  std::map<std::string, std::string> gate_;
};

TEST_F(RegistrarTest, AKeyAdmitsOneProcessOnce) {
  const auto key = issue();

  const auto first = admit(key, "public-1");
  const auto repeated = admit(key, "public-1");
  const auto other = admit(key, "public-2");

  ASSERT_TRUE(first) << first.error().what;
  EXPECT_EQ(first->peer.principal, "provider/A");
  ASSERT_TRUE(repeated);
  ASSERT_FALSE(other);
  EXPECT_EQ(other.error().code, ErrorCode::kUnauthorized);
  EXPECT_NE(other.error().what.find("was used already"), std::string::npos);
}

TEST_F(RegistrarTest, RefusesAnExpiredKeyAWrongSecretAndARevokedKey) {
  const auto expired = issue("old", 1);
  auto wrong = issue("wrong");
  const auto revoked = issue("revoked");
  wrong.secret = "guess";
  EXPECT_TRUE(turn([&](auto& effects) { return registrar_.revoke_key("revoked", effects); }));
  now_ = now_ + std::chrono::hours{2};

  EXPECT_EQ(admit(expired, "p").error().code, ErrorCode::kExpired);
  EXPECT_EQ(admit(wrong, "p").error().code, ErrorCode::kUnauthorized);
  EXPECT_EQ(admit(revoked, "p").error().code, ErrorCode::kRevoked);
}

TEST_F(RegistrarTest, RefusesAPeerThatIsNoRegistrant) {
  const auto key = issue();

  const auto admitted = turn([&](auto& effects) {
    return registrar_.admit({.principal = "provider/B", .role = msg::Role::provider},
                            {.secret = key.secret, .public_key = "p", .name = "p"}, effects);
  });

  ASSERT_FALSE(admitted);
  EXPECT_EQ(admitted.error().code, ErrorCode::kUnauthorized);
}

TEST_F(RegistrarTest, ARevokedIdentityStaysOut) {
  const auto key = issue();
  ASSERT_TRUE(admit(key, "p"));
  ASSERT_TRUE(revoke("provider/A"));

  const auto again = admit(key, "p");
  const auto with_a_new_key = admit(issue("k2"), "p");

  ASSERT_FALSE(again);
  EXPECT_EQ(again.error().code, ErrorCode::kUnauthorized);
  ASSERT_FALSE(with_a_new_key);
  EXPECT_EQ(with_a_new_key.error().code, ErrorCode::kRevoked);
  EXPECT_FALSE(is_let_in("provider/A"));
}

TEST_F(RegistrarTest, ARevokedIdentityComesBackWithANewKeyAndANewKeyPair) {
  ASSERT_TRUE(admit(issue(), "p"));
  ASSERT_TRUE(revoke("provider/A"));

  const auto back = admit(issue("k2"), "q");
  restart();

  ASSERT_TRUE(back) << back.error().what;
  EXPECT_EQ(gate_.at("provider/A"), "q");
}

TEST_F(RegistrarTest, ARegistrationIsRepeatedWordForWordOrNotAtAll) {
  const auto key = issue();
  ASSERT_TRUE(admit(key, "p", {.endpoint = "tcp://a:1"}));

  EXPECT_TRUE(admit(key, "p", {.endpoint = "tcp://a:1"}));
  for (const auto& other :
       {As{.endpoint = "tcp://evil:1"}, As{.name = "another", .endpoint = "tcp://a:1"}}) {
    const auto displaced = admit(key, "p", other);
    ASSERT_FALSE(displaced) << other.name << other.endpoint;
    EXPECT_EQ(displaced.error().code, ErrorCode::kUnauthorized);
  }
  const auto identity = registrar_.admitted(store_, "provider/A");
  ASSERT_TRUE(identity && *identity);
  EXPECT_EQ((*identity)->peer.endpoint, "tcp://a:1");
}

TEST_F(RegistrarTest, WhereAMemberIsDialledIsAnAddressOrNone) {
  const auto key = issue();
  for (const char* bad : {"ipc:///run/x.sock", "tcp://*:1", "tcp://a", "tcp://a;b:1"}) {
    const auto refused = admit(key, "p", {.endpoint = bad});
    ASSERT_FALSE(refused) << bad;
    EXPECT_EQ(refused.error().code, ErrorCode::kInvalidArgument);
  }

  EXPECT_TRUE(admit(key, "p", {.endpoint = "tcp://[::1]:8083"}));
}

TEST_F(RegistrarTest, WhatAMemberCallsItselfIsShownToOperators) {
  const auto key = issue();
  for (const std::string& name : {std::string("p\x1b[2J"), std::string(), std::string(64, 'n')}) {
    EXPECT_EQ(admit(key, "public", {.name = name}).error().code, ErrorCode::kInvalidArgument);
  }
  for (const std::string& version : {std::string("1\n2"), std::string(65, '1')}) {
    EXPECT_EQ(admit(key, "public", {.version = version}).error().code, ErrorCode::kInvalidArgument);
  }
  EXPECT_TRUE(admit(key, "public", {.version = "0.1.0"}));
}

TEST_F(RegistrarTest, AUsedKeyIsLetInNoMoreOnceTheNewIdentityIsThere) {
  const auto key = issue();
  ASSERT_TRUE(admit(key, "p"));
  EXPECT_TRUE(is_let_in("registrant/k"));  // The answer may have been lost.

  heard("provider/A", msg::Role::provider);

  EXPECT_FALSE(is_let_in("registrant/k"));
  EXPECT_FALSE(admit(key, "p"));
  restart();
  EXPECT_FALSE(is_let_in("registrant/k"));
  EXPECT_TRUE(is_let_in("provider/A"));
}

TEST_F(RegistrarTest, AUsedKeyIsClosedAlsoIfTheIssuerWasRestartedInBetween) {
  ASSERT_TRUE(admit(issue(), "p"));
  restart();
  EXPECT_TRUE(is_let_in("registrant/k"));

  heard("provider/A", msg::Role::provider);

  EXPECT_FALSE(is_let_in("registrant/k"));
}

TEST_F(RegistrarTest, AnExpiredKeyIsLetInNoMoreWithoutARestart) {
  issue("old", 1);
  issue("young", 48);
  tend();
  EXPECT_TRUE(is_let_in("registrant/old"));

  now_ = now_ + std::chrono::hours{2};
  tend();

  EXPECT_FALSE(is_let_in("registrant/old"));
  EXPECT_TRUE(is_let_in("registrant/young"));
}

TEST_F(RegistrarTest, SpentKeysAreForgottenAfterAMonthAndMakeRoomForTheirName) {
  ASSERT_TRUE(admit(issue(), "p"));
  heard("provider/A", msg::Role::provider);
  issue();  // The same name again: the first is spent.
  now_ = now_ + std::chrono::hours{25};
  tend();
  EXPECT_EQ(registrar_.keys(store_)->size(), 1U);

  now_ = now_ + std::chrono::hours{31 * 24};
  tend();

  EXPECT_TRUE(registrar_.keys(store_)->empty());
}

TEST_F(RegistrarTest, ATokenAdmitsTheHostItWasMadeForAndNoOther) {
  const auto key = token("h1");

  const auto other = admit(key, "p", {.name = "h2"});
  const auto right = admit(key, "p", {.name = "h1"});

  ASSERT_FALSE(other);
  EXPECT_EQ(other.error().code, ErrorCode::kForbidden);
  EXPECT_NE(other.error().what.find("of host 'h1', not of 'h2'"), std::string::npos);
  ASSERT_TRUE(right) << right.error().what;
  EXPECT_EQ(right->peer.principal, "agent/A/h1");
  EXPECT_FALSE(is_let_in("agent/A/h2"));
}

TEST_F(RegistrarTest, ANewTokenTakesThePlaceOfOneThatNobodyUsed) {
  const auto lost = token("h1");
  const auto found = token("h1");

  EXPECT_EQ(admit(lost, "p", {.name = "h1"}).error().code, ErrorCode::kUnauthorized);
  EXPECT_TRUE(admit(found, "p", {.name = "h1"}));
}

TEST_F(RegistrarTest, NobodyIsAdmittedWithAPublicKeyThatIsNotItsOwn) {
  ASSERT_TRUE(admit(token("h1"), "p", {.name = "h1"}));
  const auto key = token("h2");

  const auto stolen = admit(key, "unregistered", {.name = "h2", .proven_by = "thief"});
  const auto shared = admit(key, "p", {.name = "h2"});
  const auto of_the_issuer = admit(key, std::string(40, 'v'), {.name = "h2"});
  const auto of_a_key = admit(key, key.public_key, {.name = "h2"});

  EXPECT_EQ(stolen.error().code, ErrorCode::kUnauthorized);
  EXPECT_EQ(shared.error().code, ErrorCode::kConflict);
  EXPECT_EQ(of_the_issuer.error().code, ErrorCode::kConflict);
  EXPECT_EQ(of_a_key.error().code, ErrorCode::kConflict);
  EXPECT_FALSE(*registrar_.admitted(store_, "agent/A/h2"));
  EXPECT_TRUE(admit(key, "q", {.name = "h2"}));  // None of that used the key up.
}

TEST_F(RegistrarTest, ARotatedKeyCountsOnceItIsHeardOf) {
  ASSERT_TRUE(admit(token("h1"), "p", {.name = "h1"}));
  ASSERT_TRUE(rotate("agent/A/h1", msg::Role::agent, "p", "q"));
  ASSERT_TRUE(rotate("agent/A/h1", msg::Role::agent, "p", "q"));  // The answer was lost.
  restart();
  EXPECT_EQ(gate_.at("agent/A/h1"), "p");
  EXPECT_EQ(gate_.at("successor/agent/A/h1"), "q");

  EXPECT_TRUE(heard("successor/agent/A/h1", msg::Role::registrant));

  EXPECT_EQ(gate_.at("agent/A/h1"), "q");
  EXPECT_FALSE(is_let_in("successor/agent/A/h1"));
  restart();
  EXPECT_EQ(gate_.at("agent/A/h1"), "q");
}

TEST_F(RegistrarTest, TheOldKeyOfARotationEndsAfterADayOfSilence) {
  ASSERT_TRUE(admit(token("h1"), "p", {.name = "h1"}));
  ASSERT_TRUE(rotate("agent/A/h1", msg::Role::agent, "p", "q"));
  tend();
  EXPECT_EQ(gate_.at("agent/A/h1"), "p");

  now_ = now_ + std::chrono::hours{25};
  tend();

  EXPECT_EQ(gate_.at("agent/A/h1"), "q");
}

TEST_F(RegistrarTest, WhoStillComesWithTheOldKeyOfARotationADayLaterKeepsIt) {
  ASSERT_TRUE(admit(token("h1"), "p", {.name = "h1"}));
  ASSERT_TRUE(rotate("agent/A/h1", msg::Role::agent, "p", "q"));
  heard("agent/A/h1", msg::Role::agent);

  now_ = now_ + std::chrono::hours{25};
  tend();

  EXPECT_EQ(gate_.at("agent/A/h1"), "p");
  EXPECT_FALSE(is_let_in("successor/agent/A/h1"));
}

// The answer may be lost on its way: who asks again is heard with the old key, and takes the new
// one.
TEST_F(RegistrarTest, WhoAsksTwiceForARotationAndIsAwayForADayHasTheNewKey) {
  ASSERT_TRUE(admit(token("h1"), "p", {.name = "h1"}));
  ASSERT_TRUE(rotate("agent/A/h1", msg::Role::agent, "p", "q"));
  heard("agent/A/h1", msg::Role::agent);
  ASSERT_TRUE(rotate("agent/A/h1", msg::Role::agent, "p", "q"));

  now_ = now_ + std::chrono::hours{25};
  tend();

  EXPECT_EQ(gate_.at("agent/A/h1"), "q");
}

// Else a thief could rotate until the key by which he is revoked is forgotten.
TEST_F(RegistrarTest, NoKeyOfAnIdentityIsForgotten) {
  ASSERT_TRUE(admit(token("h1"), "k0", {.name = "h1"}));
  int last = 0;
  while (rotate("agent/A/h1", msg::Role::agent, "k" + std::to_string(last),
                "k" + std::to_string(last + 1))) {
    ++last;
    heard("successor/agent/A/h1", msg::Role::registrant);
    ASSERT_LT(last, 1000);
  }

  ASSERT_TRUE(revoke("agent/A/h1", "k0"));

  EXPECT_FALSE(is_let_in("agent/A/h1"));
}

TEST_F(RegistrarTest, WhoRevokesTheKeyOfBeforeARotationMeansTheIdentity) {
  ASSERT_TRUE(admit(token("h1"), "p", {.name = "h1"}));
  ASSERT_TRUE(rotate("agent/A/h1", msg::Role::agent, "p", "q"));
  heard("successor/agent/A/h1", msg::Role::registrant);

  ASSERT_TRUE(revoke("agent/A/h1", "p"));

  EXPECT_FALSE(is_let_in("agent/A/h1"));
}

TEST_F(RegistrarTest, TheKeyOfBeforeARotationNeverComesBack) {
  ASSERT_TRUE(admit(token("h1"), "p", {.name = "h1"}));
  ASSERT_TRUE(rotate("agent/A/h1", msg::Role::agent, "p", "q"));
  heard("successor/agent/A/h1", msg::Role::registrant);
  ASSERT_TRUE(revoke("agent/A/h1", "q"));

  EXPECT_EQ(admit(token("h1"), "p", {.name = "h1"}).error().code, ErrorCode::kRevoked);
  EXPECT_TRUE(admit(token("h1"), "r", {.name = "h1"}));
}

TEST_F(RegistrarTest, WhoRevokesTheKeyOfBeforeANewRegistrationDoesNot) {
  ASSERT_TRUE(admit(token("h1"), "p", {.name = "h1"}));
  ASSERT_TRUE(revoke("agent/A/h1", "p"));
  ASSERT_TRUE(admit(token("h1"), "q", {.name = "h1"}));

  ASSERT_TRUE(revoke("agent/A/h1", "p"));  // Said again by somebody who was away.

  EXPECT_EQ(gate_.at("agent/A/h1"), "q");
}

TEST_F(RegistrarTest, AKeyOfAnotherIsNoSuccessor) {
  ASSERT_TRUE(admit(token("h1"), "p", {.name = "h1"}));
  ASSERT_TRUE(admit(token("h2"), "q", {.name = "h2"}));
  ASSERT_TRUE(admit(issue(), "r"));

  EXPECT_EQ(rotate("agent/A/h1", msg::Role::agent, "p", "q").error().code, ErrorCode::kConflict);
  EXPECT_EQ(rotate("agent/A/h3", msg::Role::agent, "p", "s").error().code,
            ErrorCode::kUnauthorized);
  EXPECT_EQ(rotate("provider/A", msg::Role::provider, "r", "s").error().code,
            ErrorCode::kUnsupported);
}

TEST_F(RegistrarTest, ValidityIsBoundedToFiveDays) {
  for (const int hours : {0, -1, 121}) {
    const auto key = turn([&](auto& effects) {
      return registrar_.issue({.name = "k",
                               .role = msg::Role::provider,
                               .site = "A",
                               .valid = std::chrono::hours{hours}},
                              effects);
    });
    EXPECT_FALSE(key) << hours;
  }
}

TEST_F(RegistrarTest, AKeyFileComesBackAsItWas) {
  const auto key = issue();

  const auto read = key_from_toml(to_toml(key), "k.toml");

  ASSERT_TRUE(read) << read.error().what;
  EXPECT_EQ(*read, key);
}

TEST_F(RegistrarTest, ACutOrEditedKeyFileIsRefusedWithTheCause) {
  const auto text = to_toml(issue());
  for (const std::size_t length : {std::size_t{0}, text.size() / 3, text.size() / 2}) {
    EXPECT_FALSE(key_from_toml(text.substr(0, length), "k.toml"));
  }
  auto role = text;
  role.replace(role.find("'provider'"), 10, "'emperor' ");

  const auto edited = key_from_toml(role, "k.toml");

  ASSERT_FALSE(edited);
  EXPECT_NE(edited.error().what.find("emperor"), std::string::npos);
}

}  // namespace
}  // namespace farside::identity
