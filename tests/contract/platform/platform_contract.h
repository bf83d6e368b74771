// What every platform promises (platform.h), as one suite.  A platform takes part by a Host:
//
//   static Host& shared();               the host with its guests; lives as long as the program
//   Platform& platform();
//   void restart_agent();                drops the platform as a crash would, and opens it again
//   std::string witness();               id of a VM with two disks; the guest writes a history
//   std::uint64_t write_more(n);         lets it; returns a number acknowledged n records later
//   void lose_tracking();                the witness's host loses its bitmaps; it then runs again
//   std::string deaf();                  id of a VM whose guest ignores the power button; one disk
//   NewVm new_vm(name);                  a VM that could be created here, over a view that serves
//   bool overlay_exists(const NewVm&);   the same content as overlay_is_complete() compares with
//   bool overlay_is_complete(const NewVm&);  it holds the view's content without the view
#pragma once

#include <gmock/gmock.h>
#include <poll.h>

#include <algorithm>
#include <filesystem>
#include <string>

#include "common/base/random.h"
#include "services/agent/platforms/platform.h"
#include "tests/contract/platform/replica.h"

namespace farside::agent {

inline bool contains(const std::vector<std::string>& list, const std::string& item) {
  return std::ranges::find(list, item) != list.end();
}

template <class T>
std::string why(const Result<T>& result) {
  return result ? "" : to_text(result.error());
}

template <class T>
ErrorCode code(const Result<T>& result) {
  return result ? ErrorCode{0} : result.error().code;
}

template <class Host>
class PlatformContract : public testing::Test {
 protected:
  // Each test begins with a running, unfenced witness without tokens.
  void SetUp() override {
    ASSERT_TRUE(platform().set_fenced(witness(), false));
    ASSERT_TRUE(platform().reconcile({})) << "clean up";
    const auto started = platform().start(witness());
    ASSERT_TRUE(started) << why(started);
    const auto forgotten = platform().forget_tokens(witness());
    ASSERT_TRUE(forgotten) << why(forgotten);
    ASSERT_TRUE(platform().power_off(host().deaf()));
  }

  static Host& host() { return Host::shared(); }
  static Platform& platform() { return host().platform(); }
  static std::string witness() { return host().witness(); }

  std::string new_token() { return "t-" + random_.hex(6); }

  Result<std::unique_ptr<Point>> point(const std::string& token, const std::string& since = "") {
    return platform().create_point({.vm_id = witness(), .token = token, .since = since});
  }

  // Takes a point, copies everything into `replica_`, closes it.
  void protect(const std::string& token) {
    auto first = point(token);
    ASSERT_TRUE(first) << why(first);
    const auto copied = replica_.copy_all(**first);
    ASSERT_TRUE(copied) << why(copied);
    ASSERT_TRUE((*first)->close());
  }

  // Takes a point since `since`, and brings `replica_` up to date.
  void follow(const std::string& token, const std::string& since) {
    auto next = point(token, since);
    ASSERT_TRUE(next) << why(next);
    const auto changed = replica_.apply_changes(**next);
    ASSERT_TRUE(changed) << why(changed);
    changed_bytes_ = *changed;
    const auto closed = (*next)->close();
    ASSERT_TRUE(closed) << why(closed);
  }

  // The replica is a prefix of the guest's history, and has all up to `acknowledged`.
  testing::AssertionResult replica_has(std::uint64_t acknowledged) {
    const auto verdict = replica_.check({.acknowledged = acknowledged});
    if (!verdict) return testing::AssertionFailure() << to_text(verdict.error());
    if (!verdict->ok) return testing::AssertionFailure() << to_json(*verdict);
    newest_ = verdict->newest;
    return testing::AssertionSuccess();
  }

  msg::PowerState state(const std::string& vm) {
    return platform().describe_vm(vm).value_or(msg::Vm{}).state;
  }

  Replica replica_;
  std::uint64_t changed_bytes_ = 0;
  std::uint64_t newest_ = 0;
  SystemRandom random_;
};

TYPED_TEST_SUITE_P(PlatformContract);

TYPED_TEST_P(PlatformContract, DescribesTheHostAndItsVms) {
  const auto host = this->platform().describe_host();
  const auto vms = this->platform().list_vms();
  const auto vm = this->platform().describe_vm(this->witness());

  ASSERT_TRUE(host) << why(host);
  EXPECT_FALSE(host->name.empty());
  EXPECT_GT(host->processors, 0U);
  EXPECT_GT(host->memory_mib, 0U);
  ASSERT_TRUE(vms) << why(vms);
  ASSERT_TRUE(vm) << why(vm);
  EXPECT_TRUE(std::ranges::find(*vms, this->witness(), &msg::Vm::id) != vms->end());
  EXPECT_EQ(vm->state, msg::PowerState::running);
  EXPECT_EQ(vm->problem, "");
  EXPECT_FALSE(vm->is_replica);
  ASSERT_EQ(vm->disks.size(), 2U);
  EXPECT_EQ(vm->disks[0].name, "vda");
  EXPECT_EQ(vm->disks[1].name, "vdb");
  EXPECT_GT(vm->disks[1].bytes, 0U);
  // A disk is the same one wherever it is plugged in, and in every point.
  EXPECT_NE(vm->disks[0].id, vm->disks[1].id);
  const auto point =
      this->platform().create_point({.vm_id = this->witness(), .token = this->new_token()});
  ASSERT_TRUE(point) << why(point);
  ASSERT_EQ((*point)->disks().size(), 2U);
  for (std::size_t i = 0; i < 2; ++i) EXPECT_EQ((*point)->disks()[i]->id(), vm->disks[i].id);
  ASSERT_TRUE((*point)->abandon());
  EXPECT_EQ(code(this->platform().describe_vm("00000000-0000-4000-8000-000000000000")),
            ErrorCode::kNotFound);
}

TYPED_TEST_P(PlatformContract, APointIsAPrefixOfTheHistoryOverAllDisks) {
  const std::uint64_t acknowledged = this->host().write_more(20);

  this->protect(this->new_token());

  EXPECT_TRUE(this->replica_has(acknowledged));
}

TYPED_TEST_P(PlatformContract, APointStaysAsItIsWhileTheGuestGoesOn) {
  auto point = this->point(this->new_token());
  ASSERT_TRUE(point) << why(point);
  Replica before;
  Replica after;

  ASSERT_TRUE(before.copy_all(**point));
  this->host().write_more(30);
  ASSERT_TRUE(after.copy_all(**point));

  EXPECT_TRUE(before == after);
  EXPECT_FALSE((*point)->is_lost());
  EXPECT_TRUE((*point)->abandon());
}

TYPED_TEST_P(PlatformContract, ChangesCoverEverythingWrittenSinceTheToken) {
  std::string token = this->new_token();
  this->protect(token);
  for (int cycle = 0; cycle < 3; ++cycle) {
    const std::uint64_t acknowledged = this->host().write_more(15);
    const std::string next_token = this->new_token();
    auto point = this->point(next_token, token);
    ASSERT_TRUE(point) << why(point);

    const auto changed = this->replica_.apply_changes(**point);
    Replica whole;
    const auto all = whole.copy_all(**point);

    ASSERT_TRUE(changed) << why(changed);
    ASSERT_TRUE(all) << why(all);
    EXPECT_GT(*changed, 0U);
    EXPECT_LT(*changed, *all) << "changes() must not report everything";
    EXPECT_TRUE(whole == this->replica_);
    EXPECT_TRUE(this->replica_has(acknowledged));
    ASSERT_TRUE((*point)->close());
    token = next_token;
  }
}

TYPED_TEST_P(PlatformContract, AnAbandonedPointLosesNoToken) {
  const std::string first = this->new_token();
  const std::string second = this->new_token();
  this->protect(first);
  this->host().write_more(5);
  auto abandoned = this->point(second, first);
  ASSERT_TRUE(abandoned) << why(abandoned);
  Replica at_second = this->replica_;
  ASSERT_TRUE(at_second.apply_changes(**abandoned));
  ASSERT_TRUE((*abandoned)->abandon());
  ASSERT_TRUE((*abandoned)->abandon()) << "a repeated call is harmless";
  std::uint64_t acknowledged = this->host().write_more(5);

  auto since_second = this->point(this->new_token(), second);
  ASSERT_TRUE(since_second) << why(since_second);
  ASSERT_TRUE(at_second.apply_changes(**since_second));
  ASSERT_TRUE((*since_second)->abandon());
  this->follow(this->new_token(), first);

  EXPECT_TRUE(at_second.check({.acknowledged = acknowledged})->ok);
  EXPECT_TRUE(this->replica_has(acknowledged));
}

TYPED_TEST_P(PlatformContract, ClosingDropsOlderTokens) {
  const std::string first = this->new_token();
  const std::string second = this->new_token();
  this->protect(first);
  this->follow(second, first);

  EXPECT_EQ(code(this->point(this->new_token(), first)), ErrorCode::kTrackingLost);
  this->follow(this->new_token(), second);
}

TYPED_TEST_P(PlatformContract, AnUnknownTokenIsLostTracking) {
  EXPECT_EQ(code(this->point(this->new_token(), "never-existed")), ErrorCode::kTrackingLost);
  EXPECT_EQ(code(this->platform().create_point({.vm_id = "00000000-0000-4000-8000-000000000000",
                                                .token = this->new_token(),
                                                .since = ""})),
            ErrorCode::kNotFound);
}

TYPED_TEST_P(PlatformContract, LostBitmapsAreToldAndReplacedByTheNextPoint) {
  const std::string first = this->new_token();
  const std::string second = this->new_token();
  this->protect(first);
  this->host().lose_tracking();
  this->host().write_more(5);

  EXPECT_EQ(code(this->point(this->new_token(), first)), ErrorCode::kTrackingLost);
  this->protect(second);
  const std::uint64_t acknowledged = this->host().write_more(5);
  this->follow(this->new_token(), second);

  EXPECT_TRUE(this->replica_has(acknowledged));
}

TYPED_TEST_P(PlatformContract, ARepeatedRequestForAPointGivesAPoint) {
  const std::string first = this->new_token();
  const std::string second = this->new_token();
  this->protect(first);
  this->host().write_more(5);
  {
    const auto dropped = this->point(second, first);
    ASSERT_TRUE(dropped) << why(dropped);
  }
  const std::uint64_t acknowledged = this->host().write_more(5);

  this->follow(second, first);

  EXPECT_TRUE(this->replica_has(acknowledged));
}

TYPED_TEST_P(PlatformContract, ReconcileEndsThePointsOfACrashAndKeepsTheirTokens) {
  const std::string first = this->new_token();
  const std::string second = this->new_token();
  this->protect(first);
  this->host().write_more(5);
  Replica at_second = this->replica_;
  {
    auto dropped = this->point(second, first);
    ASSERT_TRUE(dropped) << why(dropped);
    ASSERT_TRUE(at_second.apply_changes(**dropped));
  }

  this->host().restart_agent();
  const auto reconciled = this->platform().reconcile({});

  ASSERT_TRUE(reconciled) << why(reconciled);
  EXPECT_EQ(this->state(this->witness()), msg::PowerState::running);
  const std::uint64_t acknowledged = this->host().write_more(5);
  auto since_second = this->point(this->new_token(), second);
  ASSERT_TRUE(since_second) << why(since_second);
  ASSERT_TRUE(at_second.apply_changes(**since_second));
  EXPECT_TRUE(at_second.check({.acknowledged = acknowledged})->ok);
  ASSERT_TRUE((*since_second)->abandon());
  this->follow(this->new_token(), first);
  EXPECT_TRUE(this->replica_has(acknowledged));
}

TYPED_TEST_P(PlatformContract, AVmThatIsOffIsFrozenWithoutRunning) {
  const std::string first = this->new_token();
  const std::string second = this->new_token();
  this->protect(first);
  const std::uint64_t acknowledged = this->host().write_more(10);

  const auto shut = this->platform().shut_down(this->witness(), 60);
  ASSERT_TRUE(shut) << why(shut);
  EXPECT_TRUE(shut->was_running);
  EXPECT_FALSE(shut->forced);
  const auto again = this->platform().shut_down(this->witness(), 60);
  ASSERT_TRUE(again) << why(again);
  EXPECT_FALSE(again->was_running);
  auto point = this->point(second, first);
  ASSERT_TRUE(point) << why(point);
  EXPECT_EQ(this->state(this->witness()), msg::PowerState::off) << "not even while it is frozen";
  ASSERT_TRUE(this->replica_.apply_changes(**point));
  ASSERT_TRUE((*point)->close());

  EXPECT_EQ(this->state(this->witness()), msg::PowerState::off);
  EXPECT_TRUE(this->replica_has(acknowledged));
  const std::uint64_t final_seq = this->newest_;
  this->follow(this->new_token(), second);
  EXPECT_TRUE(this->replica_has(final_seq));
  EXPECT_EQ(this->newest_, final_seq) << "nothing was written while it was off";
}

// Whether the point survives it is the platform's affair; that nobody takes a torn one for whole is
// not.
TYPED_TEST_P(PlatformContract, AStartWinsAgainstThePointOfAVmThatIsOff) {
  const std::string first = this->new_token();
  const std::string second = this->new_token();
  this->protect(first);
  const auto shut = this->platform().shut_down(this->witness(), 60);
  ASSERT_TRUE(shut) << why(shut);
  auto point = this->point(second, first);
  ASSERT_TRUE(point) << why(point);

  const auto started = this->platform().start(this->witness());
  ASSERT_TRUE(started) << why(started);
  EXPECT_EQ(this->state(this->witness()), msg::PowerState::running);
  std::uint64_t acknowledged = this->host().write_more(5);

  Replica attempt = this->replica_;
  const bool is_read = attempt.apply_changes(**point).has_value();
  const bool is_whole = is_read && !(*point)->is_lost();
  if (is_whole) {
    EXPECT_TRUE(attempt.check({})->ok);
    ASSERT_TRUE((*point)->close());
    this->replica_ = attempt;
  } else {
    EXPECT_FALSE((*point)->close());
    ASSERT_TRUE((*point)->abandon());
  }
  EXPECT_EQ(this->state(this->witness()), msg::PowerState::running) << "and it stays";
  acknowledged = this->host().write_more(5);
  this->follow(this->new_token(), is_whole ? second : first);
  EXPECT_TRUE(this->replica_has(acknowledged));
}

TYPED_TEST_P(PlatformContract, APointOfAVmThatIsOffKeepsItsTokenInACrashAndTheVmStaysOff) {
  const std::string first = this->new_token();
  const std::string second = this->new_token();
  this->protect(first);
  const std::uint64_t acknowledged = this->host().write_more(5);
  ASSERT_TRUE(this->platform().power_off(this->witness()));
  ASSERT_TRUE(this->platform().power_off(this->witness()));
  Replica at_second = this->replica_;
  {
    const auto dropped = this->point(second, first);
    ASSERT_TRUE(dropped) << why(dropped);
    ASSERT_TRUE(at_second.apply_changes(**dropped));
  }

  this->host().restart_agent();
  ASSERT_TRUE(this->platform().reconcile({}));

  EXPECT_EQ(this->state(this->witness()), msg::PowerState::off);
  auto since_second = this->point(this->new_token(), second);
  ASSERT_TRUE(since_second) << why(since_second);
  ASSERT_TRUE(at_second.apply_changes(**since_second));
  EXPECT_TRUE(at_second.check({.acknowledged = acknowledged})->ok);
  ASSERT_TRUE((*since_second)->abandon());
  this->follow(this->new_token(), first);
  EXPECT_TRUE(this->replica_has(acknowledged));
  ASSERT_TRUE(this->platform().start(this->witness()));
  ASSERT_TRUE(this->platform().start(this->witness()));
  EXPECT_EQ(this->state(this->witness()), msg::PowerState::running);
}

TYPED_TEST_P(PlatformContract, AGuestThatIgnoresTheRequestIsTurnedOff) {
  const std::string deaf = this->host().deaf();
  ASSERT_TRUE(this->platform().start(deaf));

  const auto shut = this->platform().shut_down(deaf, 1);

  ASSERT_TRUE(shut) << why(shut);
  EXPECT_TRUE(shut->was_running);
  EXPECT_TRUE(shut->forced);
  EXPECT_EQ(this->state(deaf), msg::PowerState::off);
}

TYPED_TEST_P(PlatformContract, AFencedVmDoesNotRunHere) {
  const std::string deaf = this->host().deaf();
  ASSERT_TRUE(this->platform().start(deaf));
  EXPECT_FALSE(contains(*this->platform().enforce_fences(), deaf));
  ASSERT_TRUE(this->platform().set_fenced(deaf, true));
  ASSERT_TRUE(this->platform().set_fenced(deaf, true));

  EXPECT_TRUE(contains(*this->platform().enforce_fences(), deaf));
  EXPECT_EQ(this->state(deaf), msg::PowerState::off);
  EXPECT_EQ(code(this->platform().start(deaf)), ErrorCode::kStaleEpoch);
  this->host().restart_agent();
  EXPECT_EQ(code(this->platform().start(deaf)), ErrorCode::kStaleEpoch) << "fences are durable";
  const std::string token = this->new_token();
  auto point = this->platform().create_point({.vm_id = deaf, .token = token, .since = ""});
  ASSERT_TRUE(point) << "its last changes can still be read: " << why(point);
  EXPECT_TRUE(this->platform().enforce_fences()->empty());
  EXPECT_FALSE((*point)->is_lost());
  ASSERT_TRUE((*point)->close());

  ASSERT_TRUE(this->platform().set_fenced(deaf, false));
  EXPECT_TRUE(this->platform().start(deaf));
  ASSERT_TRUE(this->platform().power_off(deaf));
  ASSERT_TRUE(this->platform().forget_tokens(deaf));
}

TYPED_TEST_P(PlatformContract, ForgettingTokensEndsTracking) {
  const std::string first = this->new_token();
  this->protect(first);

  ASSERT_TRUE(this->platform().forget_tokens(this->witness()));
  ASSERT_TRUE(this->platform().forget_tokens(this->witness()));
  ASSERT_TRUE(this->platform().forget_tokens("00000000-0000-4000-8000-000000000000"));

  EXPECT_EQ(code(this->point(this->new_token(), first)), ErrorCode::kTrackingLost);
}

TYPED_TEST_P(PlatformContract, ReadsOutsideADiskAreRefused) {
  auto point = this->point(this->new_token());
  ASSERT_TRUE(point) << why(point);
  FrozenDisk& disk = *(*point)->disks()[0];
  std::vector<char> to(4096);
  bool is_done = false;

  const auto status =
      disk.read_async(disk.bytes() - 512, 1024, to.data(), [&](const Status&) { is_done = true; });

  EXPECT_EQ(code(status), ErrorCode::kInvalidArgument);
  ASSERT_TRUE(disk.poll(0));
  EXPECT_FALSE(is_done);
  ASSERT_TRUE((*point)->abandon());
}

TYPED_TEST_P(PlatformContract, CreatesAndDestroysVmsOfOursOnly) {
  const NewVm vm = this->host().new_vm("created");

  const auto created = this->platform().create_vm(vm);
  ASSERT_TRUE(created) << why(created);
  ASSERT_TRUE(this->platform().create_vm(vm)) << "a repeated call is harmless";
  const auto found = this->platform().describe_vm(vm.id);
  ASSERT_TRUE(found) << why(found);
  EXPECT_EQ(found->name, vm.shape.name);
  EXPECT_EQ(found->state, msg::PowerState::running);
  EXPECT_TRUE(found->is_replica);
  EXPECT_TRUE(found->is_test);
  ASSERT_EQ(found->disks.size(), 1U);
  EXPECT_EQ(found->disks[0].bytes, vm.disks[0].bytes);
  ASSERT_EQ(found->nics.size(), vm.shape.nics.size());
  for (std::size_t i = 0; i < found->nics.size(); ++i) {
    EXPECT_EQ(found->nics[i].network, vm.shape.nics[i].network);
    EXPECT_EQ(found->nics[i].mac, vm.shape.nics[i].mac);
  }

  ASSERT_TRUE(this->platform().destroy_vm(vm.id, /*delete_overlays=*/true));
  ASSERT_TRUE(this->platform().destroy_vm(vm.id, /*delete_overlays=*/true));
  EXPECT_EQ(code(this->platform().describe_vm(vm.id)), ErrorCode::kNotFound);
  EXPECT_FALSE(this->host().overlay_exists(vm));

  NewVm foreign = vm;
  foreign.id = this->host().deaf();
  EXPECT_EQ(code(this->platform().create_vm(foreign)), ErrorCode::kForbidden);
  EXPECT_EQ(code(this->platform().destroy_vm(foreign.id, false)), ErrorCode::kForbidden);
  EXPECT_TRUE(this->platform().describe_vm(foreign.id));
}

TYPED_TEST_P(PlatformContract, RefusesAVmOnANetworkThatDoesNotExist) {
  NewVm vm = this->host().new_vm("lost");
  vm.shape.nics.push_back({.mac = "52:54:00:00:00:77", .network = "no-such", .address = ""});

  EXPECT_EQ(code(this->platform().create_vm(vm)), ErrorCode::kNotFound);
  EXPECT_EQ(code(this->platform().describe_vm(vm.id)), ErrorCode::kNotFound);
}

TYPED_TEST_P(PlatformContract, ReconcileRemovesVmsOfOursThatNobodyWants) {
  const NewVm wanted = this->host().new_vm("wanted");
  const NewVm unwanted = this->host().new_vm("unwanted");
  ASSERT_TRUE(this->platform().create_vm(wanted));
  ASSERT_TRUE(this->platform().create_vm(unwanted));

  this->host().restart_agent();
  const auto reconciled = this->platform().reconcile({wanted.id});

  ASSERT_TRUE(reconciled) << why(reconciled);
  EXPECT_EQ(this->state(wanted.id), msg::PowerState::running);
  EXPECT_EQ(code(this->platform().describe_vm(unwanted.id)), ErrorCode::kNotFound);
  EXPECT_FALSE(this->host().overlay_exists(unwanted));
  EXPECT_EQ(this->state(this->witness()), msg::PowerState::running) << "not ours: not touched";
  ASSERT_TRUE(this->platform().destroy_vm(wanted.id, true));
}

// Whatever an agent's records say or have lost, it is somebody's production.
TYPED_TEST_P(PlatformContract, AVmOfAFailoverIsNeverRemoved) {
  NewVm vm = this->host().new_vm("production");
  vm.is_test = false;
  const auto created = this->platform().create_vm(vm);
  ASSERT_TRUE(created) << why(created);

  EXPECT_EQ(code(this->platform().destroy_vm(vm.id, true)), ErrorCode::kForbidden);
  this->host().restart_agent();
  const auto reconciled = this->platform().reconcile({});

  EXPECT_TRUE(reconciled) << why(reconciled);
  EXPECT_EQ(this->state(vm.id), msg::PowerState::running);
  EXPECT_TRUE(this->host().overlay_exists(vm));
  ASSERT_TRUE(this->platform().power_off(vm.id));
  ASSERT_TRUE(this->platform().reconcile({}));
  EXPECT_EQ(this->state(vm.id), msg::PowerState::off);
  EXPECT_TRUE(this->host().overlay_exists(vm));
}

TYPED_TEST_P(PlatformContract, AReleasedVmIsTheOperatorsOwn) {
  NewVm vm = this->host().new_vm("released");
  const NewVm test = this->host().new_vm("test");
  vm.is_test = false;
  ASSERT_TRUE(this->platform().create_vm(vm));
  ASSERT_TRUE(this->platform().create_vm(test));
  EXPECT_EQ(code(this->platform().release_vm(test.id)), ErrorCode::kConflict);
  EXPECT_EQ(code(this->platform().release_vm(this->random_.uuid())), ErrorCode::kNotFound);

  const auto id = this->platform().release_vm(vm.id);

  ASSERT_TRUE(id) << why(id);
  EXPECT_EQ(this->platform().release_vm(vm.id).value_or(""), *id) << "a repeated call is harmless";
  this->host().restart_agent();
  ASSERT_TRUE(this->platform().reconcile({}));
  const auto released = this->platform().describe_vm(*id);
  ASSERT_TRUE(released) << why(released);
  EXPECT_EQ(released->id, *id);
  EXPECT_EQ(released->name, vm.shape.name);
  EXPECT_FALSE(released->is_replica);
  EXPECT_EQ(released->state, msg::PowerState::running);
  EXPECT_TRUE(this->platform().describe_vm(vm.id)) << "the old id finds it, too";
  int listed = 0;
  for (const msg::Vm& one : this->platform().list_vms().value_or(std::vector<msg::Vm>())) {
    listed += one.name == vm.shape.name ? 1 : 0;
    EXPECT_NE(one.id, test.id) << "nobody wanted the test VM";
  }
  EXPECT_EQ(listed, 1);
  EXPECT_EQ(code(this->platform().destroy_vm(*id, true)), ErrorCode::kForbidden);
  EXPECT_EQ(code(this->platform().destroy_vm(vm.id, true)), ErrorCode::kForbidden);
  ASSERT_TRUE(this->platform().power_off(*id));
  ASSERT_TRUE(this->platform().reconcile({}));
  EXPECT_TRUE(this->host().overlay_exists(vm));
  EXPECT_EQ(this->platform().describe_vm(*id).value_or(msg::Vm{}).state, msg::PowerState::off);
}

TYPED_TEST_P(PlatformContract, DetachingMakesAVmIndependentOfItsView) {
  const NewVm vm = this->host().new_vm("detached");
  ASSERT_TRUE(this->platform().create_vm(vm));
  EXPECT_FALSE(this->host().overlay_is_complete(vm)) << "it begins as a view";

  Result<BlockProgress> progress = this->platform().detach_view(vm.id);
  for (int i = 0; i < 600 && progress && !progress->finished; ++i) {
    EXPECT_LE(progress->done, progress->total);
    ::poll(nullptr, 0, 50);
    progress = this->platform().detach_view(vm.id);
  }

  ASSERT_TRUE(progress) << why(progress);
  EXPECT_TRUE(progress->finished);
  ASSERT_TRUE(this->platform().detach_view(vm.id)->finished) << "a repeated call is harmless";
  ASSERT_TRUE(this->platform().power_off(vm.id));
  EXPECT_TRUE(this->host().overlay_is_complete(vm));
  ASSERT_TRUE(this->platform().destroy_vm(vm.id, true));
}

TYPED_TEST_P(PlatformContract, TheDefinitionOfAVmThatDoesNotChangeIsTheSame) {
  const auto definition = [&]() -> msg::VmDefinition {
    auto point = this->point(this->new_token());
    EXPECT_TRUE(point) << why(point);
    if (!point) return {};
    msg::VmDefinition taken = (*point)->definition();
    const auto& disks = (*point)->disks();
    EXPECT_EQ(taken.shape.disks.size(), disks.size());
    for (std::size_t i = 0; i < disks.size() && i < taken.shape.disks.size(); ++i) {
      EXPECT_EQ(taken.shape.disks[i].name, disks[i]->name());
      EXPECT_EQ(taken.shape.disks[i].id, disks[i]->id());
      EXPECT_EQ(taken.shape.disks[i].bytes, disks[i]->bytes());
    }
    EXPECT_TRUE((*point)->close());
    return taken;
  };

  const msg::VmDefinition first = definition();
  this->host().write_more(5);
  const msg::VmDefinition second = definition();
  const auto now = this->platform().definition_of(this->witness());

  EXPECT_EQ(first, second) << to_text(first) << to_text(second);
  EXPECT_FALSE(first.platform.empty());
  EXPECT_EQ(first.shape.id, this->witness());
  EXPECT_EQ(first.shape.problem, "");
  EXPECT_EQ(first.shape.state, msg::PowerState::unknown);
  ASSERT_TRUE(now) << why(now);
  EXPECT_EQ(now->shape, first.shape);
  EXPECT_EQ(now->text, first.text);
}

TYPED_TEST_P(PlatformContract, ProvingAVmLeavesNothing) {
  const auto ids = [&] {
    std::vector<std::string> found;
    for (const msg::Vm& vm : this->platform().list_vms().value_or(std::vector<msg::Vm>())) {
      found.push_back(vm.id);
    }
    std::ranges::sort(found);
    return found;
  };
  const std::vector<std::string> before = ids();
  const std::string proof = this->random_.uuid();
  const NewVm good = this->host().new_vm("good");
  NewVm lost = this->host().new_vm("lost");
  lost.shape.nics.push_back({.mac = "52:54:00:00:00:77", .network = "no-such", .address = ""});
  NewVm taken = good;
  taken.id = this->witness();

  const std::string folder =
      std::filesystem::path(good.disks.at(0).overlay_path).replace_filename("proof").string();
  const auto proven = this->platform().prove_vm(good, proof, folder);
  const auto again = this->platform().prove_vm(good, proof, folder);
  const auto refused = this->platform().prove_vm(lost, proof, folder);
  const auto foreign = this->platform().prove_vm(taken, proof, folder);

  EXPECT_TRUE(proven) << why(proven);
  EXPECT_TRUE(again) << why(again);
  EXPECT_EQ(code(refused), ErrorCode::kNotFound) << why(refused);
  EXPECT_FALSE(foreign) << "that id belongs to a VM that is not ours";
  EXPECT_EQ(ids(), before);
  EXPECT_FALSE(this->host().overlay_exists(good));
  EXPECT_FALSE(std::filesystem::exists(folder));
  EXPECT_EQ(code(this->platform().describe_vm(proof)), ErrorCode::kNotFound);
}

TYPED_TEST_P(PlatformContract, AVmWhoseGuestDoesNothingShowsNoSignOfLife) {
  const NewVm vm = this->host().new_vm("still");
  const auto planned = this->platform().plan_vm(vm);
  const auto created = this->platform().create_vm(vm);
  ASSERT_TRUE(created) << why(created);

  const auto life = this->platform().sign_of_life(vm.id);
  ASSERT_TRUE(this->platform().power_off(vm.id));
  const auto off = this->platform().sign_of_life(vm.id);
  ASSERT_TRUE(this->platform().destroy_vm(vm.id, true));

  ASSERT_TRUE(planned) << why(planned);
  EXPECT_FALSE(planned->empty());
  ASSERT_TRUE(life) << why(life);
  EXPECT_EQ(*life, "");
  EXPECT_EQ(code(off), ErrorCode::kConflict);
  EXPECT_EQ(code(this->platform().sign_of_life(vm.id)), ErrorCode::kNotFound);
}

REGISTER_TYPED_TEST_SUITE_P(
    PlatformContract, DescribesTheHostAndItsVms, APointIsAPrefixOfTheHistoryOverAllDisks,
    APointStaysAsItIsWhileTheGuestGoesOn, ChangesCoverEverythingWrittenSinceTheToken,
    AnAbandonedPointLosesNoToken, ClosingDropsOlderTokens, AnUnknownTokenIsLostTracking,
    LostBitmapsAreToldAndReplacedByTheNextPoint, ARepeatedRequestForAPointGivesAPoint,
    ReconcileEndsThePointsOfACrashAndKeepsTheirTokens, AVmThatIsOffIsFrozenWithoutRunning,
    AStartWinsAgainstThePointOfAVmThatIsOff,
    APointOfAVmThatIsOffKeepsItsTokenInACrashAndTheVmStaysOff,
    AGuestThatIgnoresTheRequestIsTurnedOff, AFencedVmDoesNotRunHere, ForgettingTokensEndsTracking,
    ReadsOutsideADiskAreRefused, CreatesAndDestroysVmsOfOursOnly,
    RefusesAVmOnANetworkThatDoesNotExist, ReconcileRemovesVmsOfOursThatNobodyWants,
    TheDefinitionOfAVmThatDoesNotChangeIsTheSame, ProvingAVmLeavesNothing,
    AVmWhoseGuestDoesNothingShowsNoSignOfLife, AVmOfAFailoverIsNeverRemoved,
    // Last: these VMs may take over what others need.
    AReleasedVmIsTheOperatorsOwn, DetachingMakesAVmIndependentOfItsView);

}  // namespace farside::agent
