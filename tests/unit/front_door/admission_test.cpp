#include "services/vault/front_door/admission.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <list>
#include <optional>

#include "services/vault/front_door/body_room.h"

namespace farside::front_door {
namespace {

using testing::ElementsAre;
using testing::IsEmpty;

class AdmissionTest : public testing::Test {
 protected:
  // A connection from `address`, which stays until it is let go.
  Admission::Pass& enter(const std::string& address) {
    const int number = ++entered_;
    return passes_.emplace_back(
        admission_.enter(client_address(address), [this, number] { closed_.push_back(number); }));
  }

  Admission admission_{{.strangers_max = 4,
                        .strangers_per_address_max = 2,
                        .local_strangers_max = 2,
                        .authenticated_max = 2}};
  int entered_ = 0;
  std::vector<int> closed_;  // Numbers, from 1, in the order of their ends.
  std::list<Admission::Pass> passes_;
};

TEST_F(AdmissionTest, OfTooManyStrangersTheOldestGoes) {
  for (const char* from : {"192.0.2.1", "192.0.2.2", "192.0.2.3", "192.0.2.4"}) {
    EXPECT_FALSE(enter(from).made_room());
  }
  EXPECT_THAT(closed_, IsEmpty());

  EXPECT_TRUE(enter("192.0.2.5").made_room());
  EXPECT_TRUE(enter("192.0.2.6").made_room());

  EXPECT_THAT(closed_, ElementsAre(1, 2));
  EXPECT_EQ(admission_.strangers(), 4u);
  EXPECT_EQ(admission_.closed_for_room(), 2u);
}

TEST_F(AdmissionTest, OfTooManyFromOnePlaceItsOldestGoes) {
  enter("192.0.2.1");
  enter("192.0.2.2");
  enter("::ffff:192.0.2.2");
  enter("192.0.2.2");
  EXPECT_THAT(closed_, ElementsAre(2));

  enter("2001:db8:0:1::1");
  enter("2001:db8:0:1:ffff::2");
  enter("2001:db8:0:1::3");

  EXPECT_THAT(closed_, ElementsAre(2, 1, 5)) << "5 has their /64 in common, 1 was the oldest";
}

TEST_F(AdmissionTest, StrangersTakeNoPlaceOfThisHostsOwn) {
  enter("127.0.0.1");
  enter("::1");
  for (int i = 0; i < 20; ++i) enter("192.0.2." + std::to_string(i));
  EXPECT_THAT(closed_, testing::Not(testing::Contains(1)));
  EXPECT_THAT(closed_, testing::Not(testing::Contains(2)));

  const auto before = closed_.size();
  enter("127.8.8.8");

  ASSERT_EQ(closed_.size(), before + 1);
  EXPECT_EQ(closed_.back(), 1) << "among themselves the oldest goes, too";
}

TEST_F(AdmissionTest, WhoeverShowedTheTokenIsNoStrangerAnyMore) {
  EXPECT_TRUE(enter("192.0.2.1").authenticate());
  for (int i = 2; i < 20; ++i) enter("192.0.2." + std::to_string(i));
  EXPECT_THAT(closed_, testing::Not(testing::Contains(1)));
  EXPECT_EQ(admission_.strangers(), 4u);

  EXPECT_TRUE(enter("192.0.2.1").authenticate());
  EXPECT_FALSE(enter("192.0.2.1").authenticate()) << "of those there are limits, too";
  EXPECT_TRUE(enter("127.0.0.1").authenticate()) << "this host's own are counted apart";
}

TEST_F(AdmissionTest, WhoeverLeavesMakesRoom) {
  auto& first = enter("192.0.2.1");
  ASSERT_TRUE(first.authenticate());
  EXPECT_TRUE(first.authenticate()) << "once more is the same";
  ASSERT_TRUE(enter("192.0.2.1").authenticate());
  passes_.clear();
  EXPECT_TRUE(enter("192.0.2.1").authenticate());
  EXPECT_TRUE(enter("192.0.2.1").authenticate());
  passes_.clear();

  for (int i = 0; i < 4; ++i) enter("192.0.2." + std::to_string(i));
  passes_.clear();
  EXPECT_EQ(admission_.strangers(), 0u);
  for (int i = 0; i < 4; ++i) enter("192.0.2." + std::to_string(i));

  EXPECT_THAT(closed_, IsEmpty());
}

TEST_F(AdmissionTest, TheEndOfOneThatWasClosedChangesNothing) {
  for (int i = 0; i < 6; ++i) enter("192.0.2." + std::to_string(i));
  EXPECT_THAT(closed_, ElementsAre(1, 2));

  EXPECT_TRUE(passes_.front().authenticate()) << "it came in the same moment";
  passes_.clear();

  EXPECT_EQ(admission_.strangers(), 0u);
  EXPECT_TRUE(enter("192.0.2.1").authenticate());
  EXPECT_TRUE(enter("192.0.2.1").authenticate());
}

TEST(ClientAddress, IsALocalOneOrAPlaceInTheNetwork) {
  EXPECT_TRUE(client_address("127.0.0.1").is_local);
  EXPECT_TRUE(client_address("127.200.0.9").is_local);
  EXPECT_TRUE(client_address("::1").is_local);
  EXPECT_TRUE(client_address("::ffff:127.0.0.1").is_local);
  for (const char* stranger : {"128.0.0.1", "::2", "::ffff:10.0.0.1", "fe80::1%eth0", "x", ""}) {
    EXPECT_FALSE(client_address(stranger).is_local) << stranger;
  }
  EXPECT_EQ(client_address("::ffff:10.0.0.1").group, client_address("10.0.0.1").group);
  EXPECT_EQ(client_address("fe80::1%eth0").group, client_address("fe80::2").group);
  EXPECT_NE(client_address("2001:db8:0:1::1").group, client_address("2001:db8:0:2::1").group);
  EXPECT_NE(client_address("10.0.0.1").group, client_address("10.0.0.2").group);
}

TEST(BodyRoom, IsGivenBack) {
  BodyRoom room(100);
  auto most = room.take(70);
  ASSERT_TRUE(most);
  EXPECT_FALSE(room.take(31));
  EXPECT_TRUE(room.take(30)) << "and back at once";
  EXPECT_TRUE(room.take(0));

  most.reset();

  EXPECT_TRUE(room.take(100));
  EXPECT_FALSE(room.take(101));
  EXPECT_FALSE(room.take(~std::size_t{0}));
}

}  // namespace
}  // namespace farside::front_door
