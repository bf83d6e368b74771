// Joining, joining anew and taking another key, with an issuer at a real port.
#include "common/shell/member.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <filesystem>
#include <fstream>

#include "common/base/file.h"
#include "common/identity/key_file.h"
#include "common/identity/membership.h"
#include "common/shell/knock.h"
#include "common/shell/reception.h"
#include "tests/support/temp_folder.h"
#include "tests/unit/shell/live_issuer.h"

namespace farside::shell {
namespace {

using testing::HasSubstr;

const std::string kAgent = "agent/A/h1";

class MemberTest : public testing::Test {
 protected:
  std::unique_ptr<Member> open() {
    auto member = Member::open({.program = "farside-agent",
                                .data_dir = folder_.path(),
                                .store = store_,
                                .clock = clock_,
                                .random = random_});
    EXPECT_TRUE(member) << member.error().what;
    return std::move(*member);
  }
  std::string write(const msg::RegistrationKey& key) {
    const auto path = folder_ / (std::to_string(++files_) + ".key");
    std::ofstream(path) << identity::to_toml(key);
    std::filesystem::permissions(path, std::filesystem::perms::owner_read);
    return path;
  }
  Result<msg::Registered> ensure(Member& member, const std::string& key_file,
                                 const std::string& name = "h1") {
    return member.ensure({.role = msg::Role::agent,
                          .name = name,
                          .endpoint = "",
                          .key_file = key_file,
                          .patience = std::chrono::seconds{2}});
  }
  // As when the process runs: its issuer hears of it.
  void show_up(const bus::CurveKeys& keys) {
    const auto bus = bus::ZmqBus::open({.keys = keys, .listen = ""}, clock_);
    ASSERT_TRUE(bus);
    ASSERT_TRUE((*bus)->set_peer(issuer_.peer()));
    bool is_heard = false;
    for (int i = 0; i < 100 && !is_heard; ++i) {
      ASSERT_TRUE((*bus)->poll(
          100, 16,
          {.on_frame = [](const reactor::PeerId&, std::string_view) {},
           .on_peer = [&](const reactor::PeerChange& change) { is_heard = change.connected; }}));
    }
    EXPECT_TRUE(is_heard);
  }
  Knock knock_with(const bus::CurveKeys& keys) {
    const auto peer = issuer_.peer();
    return knock(keys, peer.endpoint, peer.public_key);
  }
  // What the issuer does in the turn after it has answered.
  Knock knock_until(const bus::CurveKeys& keys, Knock wanted) {
    auto seen = knock_with(keys);
    for (int i = 0; i < 50 && seen != wanted; ++i) seen = knock_with(keys);
    return seen;
  }

  SystemClock clock_;
  SystemRandom random_;
  store::MemStore store_;
  test::TempFolder folder_;
  test::LiveIssuer issuer_;
  int files_ = 0;
};

TEST_F(MemberTest, JoinsOnceAndRemembersIt) {
  const auto file = write(issuer_.token("h1"));
  const auto first = ensure(*open(), file);
  ASSERT_TRUE(first) << first.error().what;
  EXPECT_EQ(first->principal, kAgent);

  std::filesystem::remove(file);
  const auto again = ensure(*open(), file);

  ASSERT_TRUE(again) << again.error().what;
  EXPECT_EQ(*again, *first);
}

TEST_F(MemberTest, ATokenServesNobodyOnceItsAgentIsThere) {
  const auto token = issuer_.token("h1");
  auto member = open();
  ASSERT_TRUE(ensure(*member, write(token)));
  const bus::CurveKeys one_time{.public_key = token.public_key, .secret_key = token.secret_key};
  EXPECT_EQ(knock_with(one_time), Knock::kLetIn);

  show_up(member->keys());

  EXPECT_EQ(knock_until(one_time, Knock::kRefused), Knock::kRefused);
}

TEST_F(MemberTest, AnotherIdentityFileNeedsAKeyAndKeepsTheState) {
  const auto used = write(issuer_.token("h1"));
  auto member = open();
  ASSERT_TRUE(ensure(*member, used));
  show_up(member->keys());
  const auto before = member->keys().public_key;
  member.reset();
  issuer_.revoke(kAgent);
  std::filesystem::remove(folder_ / "identity.key");

  auto anew = open();
  const auto without = ensure(*anew, "");
  const auto with_the_used = ensure(*anew, used);
  const auto with_another = ensure(*anew, write(issuer_.token("h1")));

  ASSERT_FALSE(without);
  EXPECT_THAT(without.error().what, HasSubstr("is not the identity that 'agent/A/h1' registered"));
  ASSERT_FALSE(with_the_used);
  EXPECT_EQ(with_the_used.error().code, ErrorCode::kUnauthorized);
  ASSERT_TRUE(with_another) << with_another.error().what;
  EXPECT_EQ(with_another->principal, kAgent);
  EXPECT_NE(anew->keys().public_key, before);
  EXPECT_EQ(issuer_.key_of(kAgent), anew->keys().public_key);
  EXPECT_EQ(identity::Membership::load(store_).value()->public_key, anew->keys().public_key);
}

TEST_F(MemberTest, AFreshTokenIsTakenAlsoByWhoIsAMember) {
  auto member = open();
  ASSERT_TRUE(ensure(*member, write(issuer_.token("h1"))));
  show_up(member->keys());
  const auto fresh = issuer_.token("h1");

  const auto registered = ensure(*member, write(fresh));

  ASSERT_TRUE(registered) << registered.error().what;
  EXPECT_EQ(registered->joined_with, fresh.public_key);
  EXPECT_EQ(member->notice(), "");
}

TEST_F(MemberTest, ATokenThatIsNotTakenIsNoticedAndTheMemberGoesOn) {
  auto member = open();
  const auto first = ensure(*member, write(issuer_.token("h1")));
  ASSERT_TRUE(first);
  show_up(member->keys());
  issuer_.revoke(kAgent);

  const auto second = ensure(*member, write(issuer_.token("h1")));

  ASSERT_TRUE(second) << second.error().what;
  EXPECT_EQ(*second, *first);
  EXPECT_THAT(member->notice(), HasSubstr("'agent/A/h1' was revoked"));
  EXPECT_THAT(member->notice(), HasSubstr("delete identity.key"));
}

TEST_F(MemberTest, ATokenOfAnotherHostDoesNotTakeTheStateOver) {
  auto member = open();
  ASSERT_TRUE(ensure(*member, write(issuer_.token("h1"))));
  show_up(member->keys());

  const auto as_before = ensure(*member, write(issuer_.token("h2")), "h2");

  ASSERT_TRUE(as_before);
  EXPECT_EQ(as_before->principal, kAgent);
  EXPECT_THAT(member->notice(), HasSubstr("admits 'agent/A/h2'"));
}

TEST_F(MemberTest, RotatesItsKeyWithoutAMomentInWhichNeitherIsLetIn) {
  auto member = open();
  ASSERT_TRUE(ensure(*member, write(issuer_.token("h1"))));
  show_up(member->keys());
  const auto before = member->keys();

  const auto rotated = member->rotate();

  ASSERT_TRUE(rotated) << rotated.error().what;
  const auto after = member->keys();
  EXPECT_NE(after.public_key, before.public_key);
  EXPECT_EQ(knock_with(before), Knock::kLetIn);
  EXPECT_EQ(knock_with(after), Knock::kLetIn);
  EXPECT_EQ(open()->keys().public_key, after.public_key);
  show_up(after);
  EXPECT_EQ(knock_until(before, Knock::kRefused), Knock::kRefused);
  EXPECT_EQ(issuer_.key_of(kAgent), after.public_key);
  EXPECT_TRUE(ensure(*member, ""));
}

TEST_F(MemberTest, ARotationThatWasCutShortIsEndedAtTheNextStart) {
  auto member = open();
  const auto registered = ensure(*member, write(issuer_.token("h1")));
  ASSERT_TRUE(registered);
  show_up(member->keys());
  std::filesystem::copy(folder_ / "identity.key", folder_ / "before");
  ASSERT_TRUE(member->rotate());
  const auto after = member->keys().public_key;

  // The issuer agreed, and then the power was cut.
  std::filesystem::rename(folder_ / "identity.key", folder_ / "identity.key.next");
  std::filesystem::rename(folder_ / "before", folder_ / "identity.key");
  store::Batch batch;
  identity::Membership::save(batch, *registered);
  ASSERT_TRUE(store_.commit(batch));

  EXPECT_EQ(open()->keys().public_key, after);
  EXPECT_FALSE(std::filesystem::exists(folder_ / "identity.key.next"));
  EXPECT_TRUE(ensure(*open(), ""));
}

TEST_F(MemberTest, ANextKeyThatNobodyAgreedToIsGivenUp) {
  auto member = open();
  ASSERT_TRUE(ensure(*member, write(issuer_.token("h1"))));
  const auto before = member->keys().public_key;
  ASSERT_TRUE(bus::save_keys(folder_ / "identity.key.next", bus::generate_keys().value()));

  EXPECT_EQ(open()->keys().public_key, before);

  EXPECT_FALSE(std::filesystem::exists(folder_ / "identity.key.next"));
}

TEST_F(MemberTest, WhoHasNotRegisteredHasNothingToRotate) {
  const auto rotated = open()->rotate();

  ASSERT_FALSE(rotated);
  EXPECT_EQ(rotated.error().code, ErrorCode::kConflict);
}

class ShiftedClock final : public Clock {
 public:
  Time now() const override { return clock_.now() + ahead; }
  Micros monotonic() const override { return clock_.monotonic() + ahead; }
  Micros ahead{0};

 private:
  SystemClock clock_;
};

TEST_F(MemberTest, AHealthCheckTellsARefusalFromAnAbsence) {
  auto member = open();
  ASSERT_TRUE(ensure(*member, write(issuer_.token("h1"))));
  show_up(member->keys());
  issuer_.revoke(kAgent);
  ASSERT_EQ(knock_until(member->keys(), Knock::kRefused), Knock::kRefused);
  ShiftedClock clock;
  Reception reception(clock);
  EXPECT_EQ(reception.problem(), "");

  reception.expect(issuer_.peer(), member->keys());
  EXPECT_EQ(reception.problem(), "");  // It may still come.
  clock.ahead = std::chrono::seconds{30};
  EXPECT_THAT(reception.problem(), HasSubstr("refused by provider/A"));
  reception.heard("provider/A", true);
  EXPECT_EQ(reception.problem(), "");

  auto other = issuer_.peer();
  other.public_key = bus::generate_keys()->public_key;
  reception.expect(other, member->keys());
  clock.ahead = std::chrono::seconds{60};
  EXPECT_THAT(reception.problem(), HasSubstr("it has another key"));

  auto away = issuer_.peer();
  away.endpoint = "tcp://127.0.0.1:1";
  reception.expect(away, member->keys());
  clock.ahead = std::chrono::seconds{90};
  EXPECT_EQ(reception.problem(), "");
}

}  // namespace
}  // namespace farside::shell
