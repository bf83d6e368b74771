#include "services/vault/hearsay.h"

#include <gtest/gtest.h>

#include "common/base/clip.h"

namespace farside::vault {
namespace {

const std::string kFlood(1 << 20, 'x');

TEST(HearsayTest, WhatAnAgentSaysOfItsTroublesHasABound) {
  msg::ReplicaStatus replica{.fault = msg::Fault{.what = kFlood, .advice = kFlood},
                             .proof_fault = msg::Fault{.what = kFlood},
                             .faults = std::vector<msg::Fault>(1000, {.what = kFlood}),
                             .warnings = {{.what = "short"}}};
  cut(replica);
  EXPECT_EQ(replica.fault->what.size(), kReasonMax);
  EXPECT_EQ(replica.fault->advice.size(), kReasonMax);
  EXPECT_EQ(replica.proof_fault->what.size(), kReasonMax);
  ASSERT_EQ(replica.faults.size(), kFaultsMax);
  EXPECT_EQ(replica.faults.back().what.size(), kReasonMax);
  EXPECT_EQ(replica.warnings.at(0).what, "short");

  msg::ReplicationStatus source{.fault = msg::Fault{.what = kFlood}};
  cut(source);
  EXPECT_EQ(source.fault->what.size(), kReasonMax);

  msg::HostState host{.problem = kFlood,
                      .troubles = std::vector<msg::VmTrouble>(5000, {.what = "x"})};
  cut(host);
  EXPECT_EQ(host.problem.size(), kReasonMax);
  EXPECT_EQ(host.troubles.size(), kTroublesMax);
}

TEST(ClipTest, KeepsCharactersWhole) {
  EXPECT_EQ(clipped("short", 5), "short");
  EXPECT_EQ(clipped("longer", 5), "lo...");
  EXPECT_EQ(clipped("aéé", 4), "a...");  // Five bytes: "é" is two of them.
  EXPECT_EQ(clipped("äöüäöü", 8), "äö...");
}

}  // namespace
}  // namespace farside::vault
