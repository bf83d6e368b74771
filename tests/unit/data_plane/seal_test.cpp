#include "services/agent/data_plane/seal.h"

#include <gtest/gtest.h>

#include <utility>

namespace farside::data {
namespace {

class SealTest : public testing::Test {
 protected:
  const std::string key_ = Seal::make_key().value();
  Seal source_ = Seal::with_key(key_, Seal::Side::kSeals).value();
  Seal target_ = Seal::with_key(key_, Seal::Side::kOpens).value();
};

TEST_F(SealTest, WhatWasSealedOpens) {
  for (const std::string plain : {"", "a", "some payload"}) {
    std::string payload = plain;
    const auto part1 = source_.seal("header", payload);
    ASSERT_TRUE(part1);
    if (plain.size() > 4) {
      EXPECT_NE(payload, plain);
    }
    EXPECT_EQ(target_.open(*part1, payload).value(), "header");
    EXPECT_EQ(payload, plain);
  }
}

TEST_F(SealTest, AChangedFrameDoesNotOpen) {
  for (const int where : {0, 1, 2}) {
    Seal source = Seal::with_key(key_, Seal::Side::kSeals).value();
    Seal target = Seal::with_key(key_, Seal::Side::kOpens).value();
    std::string payload = "payload";
    std::string part1 = source.seal("header", payload).value();
    char& victim = where == 0 ? part1.front() : where == 1 ? part1.back() : payload.front();
    victim = static_cast<char>(victim ^ 1);
    EXPECT_EQ(target.open(part1, payload).error().code, ErrorCode::kForbidden) << where;
  }
  EXPECT_FALSE(target_.open("short", {}));
}

TEST_F(SealTest, ARepeatedOrMissingFrameDoesNotOpen) {
  std::string first = "1";
  std::string second = "2";
  const std::string head1 = source_.seal("h", first).value();
  const std::string head2 = source_.seal("h", second).value();

  std::string repeated = first;
  ASSERT_TRUE(target_.open(head1, first));
  EXPECT_FALSE(target_.open(head1, repeated));

  Seal late = Seal::with_key(key_, Seal::Side::kOpens).value();
  EXPECT_FALSE(late.open(head2, second));
}

TEST_F(SealTest, AFrameSplitElsewhereDoesNotOpen) {
  std::string payload = "payload";
  std::string part1 = source_.seal("header", payload).value();
  payload.insert(payload.begin(), part1.back());
  part1.pop_back();

  EXPECT_FALSE(target_.open(part1, payload));
}

TEST_F(SealTest, AnotherKeyOpensNothing) {
  Seal other = Seal::with_key(Seal::make_key().value(), Seal::Side::kOpens).value();
  std::string payload = "payload";
  const std::string part1 = source_.seal("header", payload).value();
  EXPECT_FALSE(other.open(part1, payload));
  EXPECT_FALSE(Seal::with_key("short", Seal::Side::kOpens));
}

}  // namespace
}  // namespace farside::data
