#include "common/identity/registrar.h"

#include <gtest/gtest.h>

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
    return result;
  }

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

  Result<msg::Identity> admit(const msg::RegistrationKey& key, const std::string& public_key) {
    return turn([&](auto& effects) {
      return registrar_.admit(
          {.principal = "registrant/" + key.name, .role = msg::Role::registrant},
          {.secret = key.secret, .public_key = public_key, .name = "p"}, effects);
    });
  }

  store::MemStore store_;
  SeededRandom random_{3};
  Time now_{1'800'000'000'000'000};
  Registrar registrar_{{.principal = "vault",
                        .endpoint = "tcp://vault:8081",
                        .public_key = std::string(40, 'v'),
                        .key_pair_from = [](const std::string& hex) {
                          return KeyPair{.public_key = hex.substr(0, 40),
                                         .secret_key = hex.substr(0, 40)};
                        }}};
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
  ASSERT_TRUE(turn([&](auto& effects) { return registrar_.revoke("provider/A", effects); }));

  const auto again = admit(key, "p");

  ASSERT_FALSE(again);
  EXPECT_EQ(again.error().code, ErrorCode::kRevoked);
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
