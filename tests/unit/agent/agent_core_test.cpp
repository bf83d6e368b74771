#include "services/agent/agent_core.h"

#include <gtest/gtest.h>

#include "common/store/mem_store.h"

namespace farside::agent {
namespace {

constexpr const char* kItem = "item-1";

// The core with a store in memory; what it decides is looked at, nothing is carried out.
class AgentCoreTest : public testing::Test {
 protected:
  void SetUp() override {
    turn([](auto& core, auto& effects) { core.start(effects); });
    job_done("reconcile", msg::Reconciled{});
  }

  void turn(const std::function<void(AgentCore&, reactor::Effects&)>& act) {
    reactor::Effects effects("agent/A/host", store_, now_, Micros{now_.micros}, random_);
    act(core_, effects);
    ASSERT_TRUE(store_.commit(effects.writes));
    sent_.clear();
    jobs_.clear();
    for (auto& effect : effects.effects) {
      if (auto* sent = std::get_if<reactor::SendMessage>(&effect)) sent_.push_back(sent->envelope);
      if (auto* job = std::get_if<reactor::StartJob>(&effect)) jobs_[job->id] = job->request;
      if (auto* timer = std::get_if<reactor::SetTimer>(&effect))
        timers_[timer->name] = timer->delay;
    }
  }

  template <class Body>
  void order(const std::string& id, Body body) {
    turn([&](auto& core, auto& effects) {
      core.on_message({.principal = "provider/A", .role = msg::Role::provider},
                      {.id = id,
                       .from = "orchestrator",
                       .to = "agent/A/host",
                       .body = reactor::message(std::move(body))},
                      effects);
    });
  }
  void job_done(const std::string& id, Result<msg::Message> result) {
    turn([&](auto& core, auto& effects) { core.on_job(id, result, effects); });
  }
  void timer(const std::string& name) {
    turn([&](auto& core, auto& effects) { core.on_timer(name, effects); });
  }

  template <class Body>
  const Body* replied(const std::string& id) const {
    for (const auto& envelope : sent_) {
      if (envelope.id == id && envelope.reply) return std::get_if<Body>(&envelope.body.value);
    }
    return nullptr;
  }

  void start_replication() {
    order("r1", msg::StartReplication{
                    .item = kItem, .vm = "vm", .epoch = 3, .policy = {.frequency_seconds = 5}});
    ASSERT_NE(replied<msg::ReplicationStarted>("r1"), nullptr);
    timer(kCycle);
    ASSERT_TRUE(jobs_.contains(kCycle));
  }
  static msg::CycleDone done(std::uint64_t seq) {
    return {.item = kItem, .point = {.seq = seq, .captured_at = 1}, .token = "t", .digest = "d"};
  }
  static std::unexpected<Error> failure(ErrorCode code) { return fail(code, "planted", "look"); }
  msg::SourceItem source() {
    const store::Table<msg::SourceItem> table{"source"};
    return **table.get(store_, kItem);
  }

  const std::string kCycle = std::string("cycle/") + kItem;
  store::MemStore store_;
  SeededRandom random_{1};
  Time now_{1'800'000'000'000'000};
  metrics::Registry registry_;
  metrics::Problems problems_;
  Probe probe_{registry_, problems_};
  AgentCore core_{"provider/A", "data-key", probe_};
  std::vector<msg::Envelope> sent_;
  std::map<std::string, msg::Message> jobs_;
  std::map<std::string, Micros> timers_;
};

TEST_F(AgentCoreTest, RunsTheNextCycleAnIntervalAfterTheStartOfTheLast) {
  start_replication();
  now_ = now_ + std::chrono::seconds{2};

  job_done(kCycle, reactor::message(done(1)));

  EXPECT_EQ(timers_[kCycle], Micros{std::chrono::seconds{3}});
  EXPECT_EQ(source().token, "t");
  EXPECT_EQ(source().status.newest.seq, 1U);
}

TEST_F(AgentCoreTest, AFailedCycleIsPausedWithItsCauseAndRetriedUpTheLadder) {
  start_replication();

  job_done(kCycle, failure(ErrorCode::kIo));

  EXPECT_EQ(source().status.phase, msg::ReplicationPhase::paused);
  ASSERT_TRUE(source().status.fault);
  EXPECT_EQ(source().status.fault->what, "planted");
  EXPECT_EQ(timers_[kCycle], Micros{std::chrono::seconds{1}});
  for (const int seconds : {2, 4, 8, 10, 1800}) {
    timer(kCycle);
    job_done(kCycle, failure(ErrorCode::kIo));
    EXPECT_EQ(timers_[kCycle], Micros{std::chrono::seconds{seconds}});
  }
}

TEST_F(AgentCoreTest, AnUnreachablePeerIsAskedAgainEveryTenSeconds) {
  start_replication();
  for (int i = 0; i < 9; ++i) {
    job_done(kCycle, failure(ErrorCode::kUnavailable));
    timer(kCycle);
  }

  job_done(kCycle, failure(ErrorCode::kUnavailable));

  EXPECT_EQ(timers_[kCycle], Micros{std::chrono::seconds{10}});
}

TEST_F(AgentCoreTest, LostTrackingComparesHashesAtOnceAndKeepsTheToken) {
  start_replication();
  job_done(kCycle, reactor::message(done(1)));
  timer(kCycle);

  job_done(kCycle, failure(ErrorCode::kTrackingLost));
  EXPECT_EQ(timers_[kCycle], Micros{0});
  timer(kCycle);

  const auto* cycle = std::get_if<msg::RunCycle>(&jobs_.at(kCycle).value);
  ASSERT_NE(cycle, nullptr);
  EXPECT_TRUE(cycle->source.resync);
}

TEST_F(AgentCoreTest, AnswersWhoAwaitsTheFirstPoint) {
  start_replication();
  order("r2", msg::AwaitInitial{.item = kItem});
  EXPECT_EQ(replied<msg::InitialDone>("r2"), nullptr);

  job_done(kCycle, reactor::message(done(1)));

  ASSERT_NE(replied<msg::InitialDone>("r2"), nullptr);
  EXPECT_EQ(replied<msg::InitialDone>("r2")->point.seq, 1U);
}

TEST_F(AgentCoreTest, RepeatsAnAnswerWithoutDoingTheWorkAgain) {
  start_replication();
  order("r3", msg::FenceSource{.item = kItem, .vm = "vm", .epoch = 4});
  ASSERT_TRUE(jobs_.contains("order/r3"));
  job_done("order/r3", reactor::message(msg::SourceFenced{.item = kItem, .epoch = 4}));

  order("r3", msg::FenceSource{.item = kItem, .vm = "vm", .epoch = 4});

  EXPECT_TRUE(jobs_.empty());
  EXPECT_NE(replied<msg::SourceFenced>("r3"), nullptr);
}

TEST_F(AgentCoreTest, RefusesOrdersOfAnOlderEpoch) {
  start_replication();
  order("r4", msg::StartReplication{.item = kItem, .vm = "vm", .epoch = 2});
  ASSERT_NE(replied<msg::Refused>("r4"), nullptr);
  EXPECT_EQ(replied<msg::Refused>("r4")->fault.code,
            static_cast<std::uint16_t>(ErrorCode::kStaleEpoch));

  order("r5", msg::FenceSource{.item = kItem, .vm = "vm", .epoch = 4});
  job_done("order/r5", reactor::message(msg::SourceFenced{.item = kItem, .epoch = 4}));
  order("r6", msg::UnfenceSource{.item = kItem, .vm = "vm", .epoch = 3});

  EXPECT_NE(replied<msg::Refused>("r6"), nullptr);
}

TEST_F(AgentCoreTest, ShutsDownOnlyAfterTheCycleUnderWayAndStartsNoOther) {
  start_replication();

  order("r7", msg::ShutDownSource{.item = kItem, .vm = "vm", .deadline_seconds = 5});
  EXPECT_FALSE(jobs_.contains("order/r7"));
  job_done(kCycle, reactor::message(done(1)));

  EXPECT_TRUE(jobs_.contains("order/r7"));
  timer(kCycle);
  EXPECT_FALSE(jobs_.contains(kCycle));
}

TEST_F(AgentCoreTest, TheLastDeltaFollowsTheShutdownAndCarriesTheDigest) {
  start_replication();
  job_done(kCycle, reactor::message(done(1)));
  order("r8", msg::FinalSync{.item = kItem});
  EXPECT_NE(replied<msg::Refused>("r8"), nullptr) << "the VM still runs";
  order("r9", msg::ShutDownSource{.item = kItem, .vm = "vm"});
  job_done("order/r9", reactor::message(msg::SourceShutDown{.item = kItem}));

  order("r10", msg::FinalSync{.item = kItem});
  ASSERT_TRUE(jobs_.contains(kCycle));
  EXPECT_TRUE(std::get<msg::RunCycle>(jobs_.at(kCycle).value).final);
  job_done(kCycle, reactor::message(done(2)));

  ASSERT_NE(replied<msg::FinalSynced>("r10"), nullptr);
  EXPECT_EQ(replied<msg::FinalSynced>("r10")->digest, "d");
}

TEST_F(AgentCoreTest, AReplicaStartsOnlyPromotedAndIsRecordedBeforeItExists) {
  order("p1", msg::PrepareReplica{.item = kItem, .epoch = 3, .storage_path = "/r"});
  job_done("order/p1", reactor::message(msg::ReplicaPrepared{.item = kItem}));
  order("p2", msg::StartReplica{.item = kItem, .epoch = 4});
  ASSERT_NE(replied<msg::Refused>("p2"), nullptr);

  order("p3", msg::PromoteReplica{.item = kItem, .epoch = 4});
  job_done("order/p3", reactor::message(msg::ReplicaPromoted{.item = kItem, .epoch = 4}));
  order("p4", msg::StartReplica{.item = kItem, .epoch = 4, .seq = 7});

  ASSERT_TRUE(jobs_.contains("order/p4"));
  const store::Table<msg::ReplicaItem> replicas{"replica"};
  EXPECT_FALSE((**replicas.get(store_, kItem)).replica_vm.empty());
  job_done("order/p4", reactor::message(msg::ReplicaStarted{.item = kItem}));
  order("p5", msg::DemoteReplica{.item = kItem, .epoch = 3});
  EXPECT_NE(replied<msg::Refused>("p5"), nullptr) << "it may have written";
}

TEST_F(AgentCoreTest, AnUndoNeverOvertakesItsAct) {
  start_replication();
  job_done(kCycle, reactor::message(done(1)));
  order("u1", msg::ShutDownSource{.item = kItem, .vm = "vm"});

  order("u2", msg::RestartSource{.item = kItem, .vm = "vm", .start = true});
  EXPECT_FALSE(jobs_.contains("order/u2")) << "the shutdown is still under way";
  job_done("order/u1", reactor::message(msg::SourceShutDown{.item = kItem}));
  order("u2", msg::RestartSource{.item = kItem, .vm = "vm", .start = true});

  EXPECT_TRUE(jobs_.contains("order/u2"));
}

TEST_F(AgentCoreTest, AnUndoDropsActsThatStillWaitForACycle) {
  start_replication();
  order("v1", msg::ShutDownSource{.item = kItem, .vm = "vm"});

  order("v2", msg::RestartSource{.item = kItem, .vm = "vm", .start = true});
  job_done("order/v2", reactor::message(msg::SourceRestarted{.item = kItem}));
  job_done(kCycle, reactor::message(done(1)));

  EXPECT_FALSE(jobs_.contains("order/v1"));
  EXPECT_FALSE(source().stopped);
}

TEST_F(AgentCoreTest, IgnoresWhoeverIsNotEntitled) {
  turn([&](auto& core, auto& effects) {
    core.on_message({.principal = "provider/A", .role = msg::Role::provider},
                    {.id = "x",
                     .from = "agent/B/other",
                     .to = "agent/A/host",
                     .body = reactor::message(msg::StopReplication{.item = kItem})},
                    effects);
  });

  EXPECT_TRUE(sent_.empty());
  EXPECT_TRUE(jobs_.empty());
}

}  // namespace
}  // namespace farside::agent
