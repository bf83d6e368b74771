#include "common/shell/key_proof.h"

#include <gtest/gtest.h>

namespace farside::shell {
namespace {

class KeyProofTest : public testing::Test {
 protected:
  Status shown(const std::string& public_key, const std::string& proof,
               const std::string& statement = "it is me") {
    return open_proof({.public_key = public_key, .proof = proof, .statement = statement},
                      issuer_.secret_key);
  }
  std::string proof(const bus::CurveKeys& by, const bus::CurveKeys& to) {
    return make_proof(by, to.public_key, "it is me", random_).value();
  }

  SystemRandom random_;
  bus::CurveKeys issuer_ = bus::generate_keys().value();
  bus::CurveKeys own_ = bus::generate_keys().value();
  bus::CurveKeys other_ = bus::generate_keys().value();
};

TEST_F(KeyProofTest, TheOwnerOfAKeyCanShowIt) {
  EXPECT_TRUE(shown(own_.public_key, proof(own_, issuer_)));
}

TEST_F(KeyProofTest, NobodyElseCan) {
  const auto right = proof(own_, issuer_);

  EXPECT_FALSE(shown(own_.public_key, proof(other_, issuer_)));  // Another's key.
  EXPECT_FALSE(shown(own_.public_key, proof(own_, other_)));     // Made for another issuer.
  EXPECT_FALSE(shown(own_.public_key, right, "it is you"));      // Said something else.
  EXPECT_FALSE(shown(own_.public_key, ""));
  for (const std::size_t at : {std::size_t{0}, std::size_t{20}, right.size() - 1}) {
    auto changed = right;
    changed[at] = static_cast<char>(changed[at] ^ 1);
    EXPECT_FALSE(shown(own_.public_key, changed)) << at;
    EXPECT_FALSE(shown(own_.public_key, right.substr(0, at))) << at;
  }
}

TEST_F(KeyProofTest, WhatIsNoKeyIsRefusedAsSuch) {
  const auto right = proof(own_, issuer_);
  for (const auto& key : {std::string(), std::string(40, ' '), own_.public_key.substr(1)}) {
    const auto refused = shown(key, right);
    ASSERT_FALSE(refused) << key;
    EXPECT_EQ(refused.error().code, ErrorCode::kInvalidArgument);
  }
}

}  // namespace
}  // namespace farside::shell
