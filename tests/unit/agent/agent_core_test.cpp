#include "services/agent/agent_core.h"

#include <gtest/gtest.h>

#include "common/store/mem_store.h"
#include "services/agent/health.h"

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

  template <class Body>
  const Body* told() const {  // Among what was sent in the last turn.
    for (const auto& envelope : sent_) {
      if (const auto* body = std::get_if<Body>(&envelope.body.value)) return body;
    }
    return nullptr;
  }
  void settings(msg::ItemSettings wanted) {
    turn([&](auto& core, auto& effects) {
      core.on_message(
          {.principal = "provider/A", .role = msg::Role::provider},
          {.from = "vault", .to = "agent/A/host", .body = reactor::message(std::move(wanted))},
          effects);
    });
  }
  void pause() {
    settings({.item = kItem,
              .epoch = 3,
              .digest = "p",
              .policy = {.frequency_seconds = 5},
              .paused = true});
  }
  void resume() {
    settings({.item = kItem, .epoch = 3, .digest = "r", .policy = {.frequency_seconds = 5}});
  }

  void start_replication() {
    order("r1", msg::StartReplication{
                    .item = kItem, .vm = "vm", .epoch = 3, .policy = {.frequency_seconds = 5}});
    ASSERT_NE(replied<msg::ReplicationStarted>("r1"), nullptr);
    timer(kCycle);
    ASSERT_TRUE(jobs_.contains(kCycle));
  }
  static msg::PrepareReplica preparation(const std::string& item, std::uint64_t epoch,
                                         const std::string& path = "/replicas") {
    return {.item = item, .epoch = epoch, .storage_path = path, .policy = {.frequency_seconds = 5}};
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

TEST_F(AgentCoreTest, ADrillIsAnsweredOnceItsVmShowsALife) {
  const std::string look = std::string("life/") + kItem;
  order("p", preparation(kItem, 3));
  job_done("order/p", reactor::message(msg::ReplicaPrepared{.item = kItem}));
  order("t", msg::StartTestVm{.item = kItem});
  job_done("order/t", reactor::message(msg::TestVmStarted{.item = kItem, .seq = 1}));

  order("l", msg::AwaitLife{.item = kItem, .seconds = 300});
  ASSERT_TRUE(jobs_.contains(look));
  EXPECT_FALSE(std::get<msg::AwaitLife>(jobs_[look].value).vm.empty());
  job_done(look, reactor::message(msg::LifeSeen{.item = kItem}));
  EXPECT_NE(told<msg::Progress>(), nullptr) << "who waits hears that it is worked on";
  timer(look);
  job_done(look, reactor::message(msg::LifeSeen{.item = kItem, .sign = "it writes"}));

  ASSERT_NE(replied<msg::LifeSeen>("l"), nullptr);
  EXPECT_EQ(replied<msg::LifeSeen>("l")->sign, "it writes");
}

TEST_F(AgentCoreTest, ADrillWithoutALifeEndsWithoutASign) {
  const std::string look = std::string("life/") + kItem;
  order("p", preparation(kItem, 3));
  job_done("order/p", reactor::message(msg::ReplicaPrepared{.item = kItem}));
  order("t", msg::StartTestVm{.item = kItem});
  job_done("order/t", reactor::message(msg::TestVmStarted{.item = kItem, .seq = 1}));
  order("l", msg::AwaitLife{.item = kItem, .seconds = 300});
  job_done(look, failure(ErrorCode::kConflict));
  EXPECT_EQ(replied<msg::LifeSeen>("l"), nullptr) << "a VM that is off may be started again";

  now_ = now_ + std::chrono::seconds{301};
  timer(look);
  job_done(look, failure(ErrorCode::kConflict));

  ASSERT_NE(replied<msg::LifeSeen>("l"), nullptr);
  EXPECT_EQ(replied<msg::LifeSeen>("l")->sign, "");
}

TEST_F(AgentCoreTest, ReplicasAreMaintainedThoughTheHostIsNotInOrder) {
  order("p", preparation(kItem, 3));
  job_done("order/p", reactor::message(msg::ReplicaPrepared{.item = kItem}));
  AgentCore again{"provider/A", "data-key", probe_};
  const auto at = [&](auto&& act) {
    reactor::Effects effects("agent/A/host", store_, now_, Micros{now_.micros}, random_);
    act(effects);
    std::vector<std::string> started;
    for (auto& effect : effects.effects) {
      if (auto* job = std::get_if<reactor::StartJob>(&effect)) started.push_back(job->id);
    }
    return started;
  };
  at([&](auto& effects) { again.start(effects); });
  EXPECT_TRUE(at([&](auto& effects) { again.on_timer("maintain", effects); }).empty());
  msg::Reconciled without_host;
  without_host.platform_fault = msg::Fault{.what = "libvirtd is away"};

  at([&](auto& effects) { again.on_job("reconcile", reactor::message(without_host), effects); });

  EXPECT_EQ(at([&](auto& effects) { again.on_timer("maintain", effects); }),
            std::vector<std::string>{std::string("maintain/") + kItem});
  EXPECT_NE(problems_.text().find("libvirtd"), std::string::npos);
}

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
  for (const int seconds : {2, 4, 8, 10, 300}) {
    timer(kCycle);
    job_done(kCycle, failure(ErrorCode::kIo));
    EXPECT_EQ(timers_[kCycle], Micros{std::chrono::seconds{seconds}});
  }
}

// ---- What others end

TEST_F(AgentCoreTest, WhatSomebodyElseIsDoingIsAskedForEveryIntervalHoweverLongItTakes) {
  start_replication();
  job_done(kCycle, reactor::message(done(1)));

  for (int i = 0; i < 20; ++i) {
    timer(kCycle);
    job_done(kCycle, fail(ErrorCode::kBusy, "a backup by 'nightly' is under way", "wait"));
    EXPECT_EQ(timers_[kCycle], Micros{std::chrono::seconds{5}});
    EXPECT_EQ(source().status.phase, msg::ReplicationPhase::paused);
    EXPECT_EQ(source().status.fault->what, "a backup by 'nightly' is under way");
  }

  // It is no failure: the first real one begins the ladder.
  timer(kCycle);
  job_done(kCycle, failure(ErrorCode::kIo));
  EXPECT_EQ(timers_[kCycle], Micros{std::chrono::seconds{1}});
}

TEST_F(AgentCoreTest, ItIsAskedForAtLeastEveryMinuteAndAtMostEverySecond) {
  const auto wait = [](std::uint32_t frequency, ErrorCode code) {
    return retry_after(static_cast<std::uint16_t>(code), 50, {.frequency_seconds = frequency});
  };

  EXPECT_EQ(wait(900, ErrorCode::kBusy), std::chrono::seconds{60});
  EXPECT_EQ(wait(0, ErrorCode::kBusy), std::chrono::seconds{1});
  EXPECT_EQ(wait(30, ErrorCode::kUnsupported), std::chrono::seconds{30});
  // What an operator or another host ends as well.
  EXPECT_LE(wait(30, ErrorCode::kPlatform), std::chrono::seconds{60});
  EXPECT_LE(wait(30, ErrorCode::kNotFound), std::chrono::seconds{60});
  EXPECT_EQ(wait(30, ErrorCode::kCorrupt), std::chrono::minutes{30});
}

TEST_F(AgentCoreTest, AVmThatCannotBeReplicatedIsAWarningUntilItsPointIsTooOld) {
  for (const auto code : {ErrorCode::kBusy, ErrorCode::kUnsupported}) {
    msg::ReplicationStatus status{
        .phase = msg::ReplicationPhase::paused,
        .newest = {.seq = 1, .captured_at = now_.micros},
        .fault = msg::Fault{.code = static_cast<std::uint16_t>(code), .what = "a snapshot"}};
    const msg::Policy policy{.frequency_seconds = 30};

    EXPECT_EQ(health_of(status, policy, now_), msg::Health::warning);
    EXPECT_EQ(health_of(status, policy, now_ + std::chrono::seconds{200}), msg::Health::critical);
  }
}

TEST_F(AgentCoreTest, AgeCountsByTheOwnClockWhateverTimeTheTargetGaveThePoint) {
  const msg::ReplicationStatus status{
      .newest = {.seq = 1, .captured_at = (now_ - std::chrono::hours{1}).micros},
      .newest_here = now_.micros};

  EXPECT_EQ(health_of(status, {.frequency_seconds = 30}, now_ + std::chrono::seconds{10}),
            msg::Health::normal);
}

// ---- Pause, resume, retry

TEST_F(AgentCoreTest, APausedItemTakesNoMorePointsAndKeepsItsToken) {
  start_replication();
  job_done(kCycle, reactor::message(done(1)));
  timer(kCycle);

  pause();

  EXPECT_TRUE(jobs_.contains(std::string("cancel/") + kItem)) << "the cycle under way is ended";
  job_done(kCycle, failure(ErrorCode::kCancelled));
  EXPECT_TRUE(source().status.paused);
  EXPECT_EQ(source().status.phase, msg::ReplicationPhase::paused);
  EXPECT_EQ(source().status.settings, "p");
  EXPECT_EQ(source().token, "t");
  EXPECT_EQ(source().failures, 0U);
  timer(kCycle);
  EXPECT_FALSE(jobs_.contains(kCycle)) << "whatever timer was left";

  now_ = now_ + std::chrono::hours{5};
  timer("status");
  const auto* report = told<msg::StatusReport>();
  ASSERT_NE(report, nullptr);
  EXPECT_EQ(report->statuses.at(0).health, msg::Health::warning);
  ASSERT_TRUE(report->statuses.at(0).fault);
  EXPECT_NE(report->statuses.at(0).fault->what.find("paused by an operator"), std::string::npos);
}

TEST_F(AgentCoreTest, APauseOutlivesARestart) {
  start_replication();
  pause();

  AgentCore again("provider/A", "data-key", probe_);
  reactor::Effects effects("agent/A/host", store_, now_, Micros{now_.micros}, random_);
  again.start(effects);
  again.on_job("reconcile", reactor::message(msg::Reconciled{}), effects);
  again.on_timer(kCycle, effects);

  for (const auto& effect : effects.effects) {
    const auto* job = std::get_if<reactor::StartJob>(&effect);
    EXPECT_TRUE(job == nullptr || job->id != kCycle);
  }
}

TEST_F(AgentCoreTest, AResumedItemTakesItsNextPointAtOnce) {
  start_replication();
  job_done(kCycle, failure(ErrorCode::kCorrupt));
  pause();

  resume();

  EXPECT_EQ(timers_[kCycle], Micros{0});
  EXPECT_FALSE(source().status.paused);
  EXPECT_EQ(source().failures, 0U);
  timer(kCycle);
  EXPECT_TRUE(jobs_.contains(kCycle));
}

TEST_F(AgentCoreTest, AnItemResumedBeforeItsCycleHadEndedGoesOnWhenItHas) {
  start_replication();
  pause();
  resume();

  job_done(kCycle, failure(ErrorCode::kCancelled));

  EXPECT_EQ(timers_[kCycle], Micros{0});
  EXPECT_FALSE(source().status.fault) << "it is no failure";
}

TEST_F(AgentCoreTest, APlannedFailoverOfAPausedItemSendsItsLastWrites) {
  start_replication();
  job_done(kCycle, reactor::message(done(1)));
  pause();

  order("s", msg::ShutDownSource{.item = kItem, .vm = "vm"});
  job_done("order/s", reactor::message(msg::SourceShutDown{.item = kItem}));
  order("f", msg::FinalSync{.item = kItem});

  ASSERT_TRUE(jobs_.contains(kCycle));
  EXPECT_TRUE(std::get<msg::RunCycle>(jobs_[kCycle].value).final);
  // Undone, it is paused as before.
  job_done(kCycle, reactor::message(done(2)));
  order("r", msg::RestartSource{.item = kItem, .vm = "vm"});
  job_done("order/r", reactor::message(msg::SourceRestarted{.item = kItem}));
  timer(kCycle);
  EXPECT_FALSE(jobs_.contains(kCycle));
  EXPECT_EQ(source().status.phase, msg::ReplicationPhase::paused);
}

TEST_F(AgentCoreTest, ARetryBeginsTheNextCycleNowWhateverTheLadderSays) {
  start_replication();
  for (int i = 0; i < 6; ++i) {
    job_done(kCycle, failure(ErrorCode::kCorrupt));
    timer(kCycle);
  }
  job_done(kCycle, failure(ErrorCode::kCorrupt));
  ASSERT_EQ(timers_[kCycle], Micros{std::chrono::minutes{30}});

  order("now", msg::RetryReplication{.item = kItem});

  EXPECT_NE(replied<msg::ReplicationRetried>("now"), nullptr);
  EXPECT_EQ(timers_[kCycle], Micros{0});
  EXPECT_EQ(source().failures, 0U);
}

TEST_F(AgentCoreTest, AResynchronisationComparesAtOnceOrRightAfterTheDeltaUnderWay) {
  start_replication();

  order("now", msg::RetryReplication{.item = kItem, .compare = true});
  EXPECT_NE(replied<msg::ReplicationRetried>("now"), nullptr);
  job_done(kCycle, reactor::message(done(1)));  // It had begun before.
  EXPECT_EQ(timers_[kCycle], Micros{0});
  timer(kCycle);

  ASSERT_TRUE(jobs_.contains(kCycle));
  EXPECT_TRUE(std::get<msg::RunCycle>(jobs_[kCycle].value).source.resync);
  auto compared = done(2);
  compared.resynced = true;
  job_done(kCycle, reactor::message(compared));
  EXPECT_FALSE(source().resync);
}

TEST_F(AgentCoreTest, ARetryOfAPausedItemIsRefusedWithTheWayOut) {
  start_replication();
  pause();

  order("now", msg::RetryReplication{.item = kItem});

  ASSERT_NE(replied<msg::Refused>("now"), nullptr);
  EXPECT_NE(replied<msg::Refused>("now")->fault.advice.find("resume"), std::string::npos);
}

// ---- Plans, signs of life, fences

TEST_F(AgentCoreTest, APlanAndASignOfLifeAreAskedOfTheWorkers) {
  order("p", preparation(kItem, 3));
  job_done("order/p", reactor::message(msg::ReplicaPrepared{.item = kItem}));
  order("t", msg::StartTestVm{.item = kItem});
  const auto vm = std::get<msg::StartTestVm>(jobs_["order/t"].value).vm;
  job_done("order/t", reactor::message(msg::TestVmStarted{.item = kItem, .vm = vm}));

  order("plan", msg::ProveReplica{.item = kItem, .plan_only = true});
  EXPECT_TRUE(jobs_.contains("order/plan"));
  order("life", msg::AwaitLife{.item = kItem, .seconds = 60});
  const auto look = std::string("life/") + kItem;
  ASSERT_TRUE(jobs_.contains(look)) << "beside the plan";
  EXPECT_EQ(std::get<msg::AwaitLife>(jobs_[look].value).vm, vm);
  order("clean", msg::RemoveTestVm{.item = kItem});
  EXPECT_TRUE(jobs_.contains("order/clean")) << "does not wait for a guest that shows nothing";

  job_done(look, reactor::message(msg::LifeSeen{.item = kItem, .sign = "it answers"}));
  ASSERT_NE(replied<msg::LifeSeen>("life"), nullptr);
  order("other", msg::ProveReplica{.item = "no-item"});
  EXPECT_NE(replied<msg::Refused>("other"), nullptr);
}

TEST_F(AgentCoreTest, FencesAreTriedEverySecondAlsoWhileATryHangs) {
  timer("fences");
  EXPECT_TRUE(jobs_.contains("fences"));
  timers_.clear();

  timer("fences");  // Nothing has come back.

  EXPECT_TRUE(jobs_.contains("fences"));
  EXPECT_EQ(timers_["fences"], Micros{std::chrono::seconds{1}});
}

TEST_F(AgentCoreTest, FencesThatCannotBeCheckedAreAProblemOfTheHostUntilTheyCan) {
  job_done("observe", reactor::message(msg::HostReport{.host = {.name = "host"}}));
  EXPECT_EQ(told<msg::HostReport>()->host.problem, "");

  job_done("fences", failure(ErrorCode::kPlatform));

  EXPECT_NE(problems_.text().find("fences: whether fenced VMs are off"), std::string::npos);
  ASSERT_NE(told<msg::HostReport>(), nullptr) << "the vault learns of it";
  EXPECT_NE(told<msg::HostReport>()->host.problem.find("planted"), std::string::npos);
  job_done("fences", reactor::message(msg::FencesEnforced{}));
  EXPECT_EQ(problems_.text(), "");
  EXPECT_EQ(told<msg::HostReport>()->host.problem, "");
}

TEST_F(AgentCoreTest, FencesThatNobodyAnswersForAreAProblemToo) {
  job_done("observe", reactor::message(msg::HostReport{.host = {.name = "host"}}));
  job_done("fences", reactor::message(msg::FencesEnforced{}));

  now_ = now_ + std::chrono::seconds{20};
  timer("fences");

  EXPECT_NE(problems_.text().find("has not answered for 20 s"), std::string::npos);
  ASSERT_NE(told<msg::HostReport>(), nullptr);
  EXPECT_NE(told<msg::HostReport>()->host.problem, "");
}

TEST_F(AgentCoreTest, AHostThatDoesNotAnswerIsReportedAsItWasWithTheReason) {
  job_done("observe", reactor::message(msg::HostReport{.host = {.name = "host"}}));

  job_done("observe", failure(ErrorCode::kTimeout));

  ASSERT_NE(told<msg::HostReport>(), nullptr);
  EXPECT_EQ(told<msg::HostReport>()->host.name, "host");
  EXPECT_EQ(told<msg::HostReport>()->host.problem, "planted");
}

TEST_F(AgentCoreTest, AHostThatHasNeverAnsweredIsReportedByItsNameWithTheReason) {
  job_done("observe", failure(ErrorCode::kUnavailable));

  ASSERT_NE(told<msg::HostReport>(), nullptr) << "the vault learns of it";
  EXPECT_EQ(told<msg::HostReport>()->host.name, "host");
  EXPECT_EQ(told<msg::HostReport>()->host.problem, "planted");
  EXPECT_EQ(told<msg::HostReport>()->host.platform, "");

  job_done("observe",
           reactor::message(msg::HostReport{.host = {.name = "host", .platform = "sim"}}));
  EXPECT_EQ(told<msg::HostReport>()->host.problem, "");
  EXPECT_EQ(told<msg::HostReport>()->host.platform, "sim");
}

TEST_F(AgentCoreTest, FencesThatCannotBeCheckedAreReportedAlsoOfAHostThatHasNeverAnswered) {
  job_done("fences", failure(ErrorCode::kUnavailable));

  ASSERT_NE(told<msg::HostReport>(), nullptr);
  EXPECT_EQ(told<msg::HostReport>()->host.platform, "");
  EXPECT_NE(told<msg::HostReport>()->host.problem.find("whether fenced VMs are off"),
            std::string::npos);
}

TEST_F(AgentCoreTest, AnotherTryDoesNotMakeAnItemHealthy) {
  start_replication();
  job_done(kCycle, failure(ErrorCode::kNoSpace));
  timer(kCycle);

  ASSERT_EQ(source().status.phase, msg::ReplicationPhase::initial);
  EXPECT_EQ(health_of(source().status, {}, {}), msg::Health::warning);

  job_done(kCycle, failure(ErrorCode::kNotFound));
  timer(kCycle);
  EXPECT_EQ(health_of(source().status, {}, {}), msg::Health::critical);
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
  order("r4", msg::StartReplication{
                  .item = kItem, .vm = "vm", .epoch = 2, .policy = {.frequency_seconds = 5}});
  ASSERT_NE(replied<msg::Refused>("r4"), nullptr);
  EXPECT_EQ(replied<msg::Refused>("r4")->fault.code,
            static_cast<std::uint16_t>(ErrorCode::kStaleEpoch));

  order("r5", msg::FenceSource{.item = kItem, .vm = "vm", .epoch = 4});
  job_done("order/r5", reactor::message(msg::SourceFenced{.item = kItem, .epoch = 4}));
  order("r6", msg::UnfenceSource{.item = kItem, .vm = "vm", .epoch = 3});

  EXPECT_NE(replied<msg::Refused>("r6"), nullptr);
}

TEST_F(AgentCoreTest, AFencedVmIsReportedWithWhereItIsActiveAndNotChecked) {
  start_replication();
  order("r5", msg::FenceSource{.item = kItem, .vm = "vm", .epoch = 4, .active_at = "site 'B'"});
  job_done("order/r5",
           reactor::message(msg::SourceFenced{.item = kItem, .epoch = 4, .active_at = "site 'B'"}));

  order("r6", msg::CheckSource{.vm = "vm"});
  ASSERT_NE(replied<msg::Refused>("r6"), nullptr) << "it is a copy of long ago";
  EXPECT_NE(replied<msg::Refused>("r6")->fault.what.find("site 'B'"), std::string::npos);
  order("r7", msg::CheckSource{.vm = "another"});
  EXPECT_TRUE(jobs_.contains("order/r7"));

  job_done("observe", reactor::message(msg::HostReport{.vms = {{.id = "vm"}, {.id = "another"}}}));
  ASSERT_FALSE(sent_.empty());
  const auto& report = std::get<msg::HostReport>(sent_.back().body.value);
  EXPECT_TRUE(report.vms.at(0).fenced);
  EXPECT_EQ(report.vms.at(0).active_at, "site 'B'");
  EXPECT_FALSE(report.vms.at(1).fenced);
}

TEST_F(AgentCoreTest, AReplicaThatIsKeptAfterACommitIsMaintainedUntilItGoes) {
  order("p", preparation(kItem, 3));
  job_done("order/p", reactor::message(msg::ReplicaPrepared{.item = kItem}));
  const auto until = (now_ + std::chrono::hours{1}).micros;
  order("c", msg::CommitReplica{.item = kItem, .keep_hours = 1});
  job_done("order/c", reactor::message(msg::ReplicaCommitted{.item = kItem, .kept_until = until}));

  timer("maintain");
  ASSERT_TRUE(jobs_.contains("maintain/item-1"));
  job_done("maintain/item-1",
           reactor::message(msg::ReplicaMaintained{
               .status = {.item = kItem, .base_bytes = 7, .kept_until = until}}));
  timer("status");
  ASSERT_FALSE(sent_.empty());
  EXPECT_EQ(std::get<msg::ReplicaReport>(sent_.back().body.value).replicas.at(0).kept_until, until);

  now_ = now_ + std::chrono::hours{2};
  timer("maintain");
  ASSERT_TRUE(jobs_.contains("maintain/item-1"));
  job_done("maintain/item-1", reactor::message(msg::ReplicaMaintained{.status = {.item = kItem}}));
  timer("maintain");
  EXPECT_FALSE(jobs_.contains("maintain/item-1")) << "nothing of it is left";
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

TEST_F(AgentCoreTest, ADeltaWhileTheVmRunsCarriesTheDigestToo) {
  start_replication();
  order("s1", msg::SyncSource{.item = kItem});
  job_done(kCycle, reactor::message(done(1)));  // One without a digest was under way.
  EXPECT_EQ(replied<msg::SourceSynced>("s1"), nullptr);

  ASSERT_TRUE(jobs_.contains(kCycle)) << "it follows at once";
  const auto run = std::get<msg::RunCycle>(jobs_.at(kCycle).value);
  EXPECT_TRUE(run.digest);
  EXPECT_FALSE(run.final);
  job_done(kCycle, reactor::message(done(2)));

  ASSERT_NE(replied<msg::SourceSynced>("s1"), nullptr);
  EXPECT_EQ(replied<msg::SourceSynced>("s1")->digest, "d");
  EXPECT_EQ(replied<msg::SourceSynced>("s1")->point.seq, 2U);
  timer(kCycle);
  ASSERT_TRUE(jobs_.contains(kCycle)) << "and replication goes on";
  EXPECT_FALSE(std::get<msg::RunCycle>(jobs_.at(kCycle).value).digest);
}

TEST_F(AgentCoreTest, TrackingThatIsLostWhileTheVmRunsIsMendedBeforeTheAnswer) {
  start_replication();
  job_done(kCycle, reactor::message(done(1)));
  order("s2", msg::SyncSource{.item = kItem});

  job_done(kCycle, failure(ErrorCode::kTrackingLost));

  ASSERT_TRUE(jobs_.contains(kCycle));
  const auto run = std::get<msg::RunCycle>(jobs_.at(kCycle).value);
  EXPECT_TRUE(run.digest);
  EXPECT_TRUE(run.source.resync);
  job_done(kCycle, reactor::message(done(2)));
  EXPECT_NE(replied<msg::SourceSynced>("s2"), nullptr);
}

TEST_F(AgentCoreTest, TrackingThatIsLostWithTheShutdownEndsTheFailover) {
  start_replication();
  job_done(kCycle, reactor::message(done(1)));
  order("l1", msg::ShutDownSource{.item = kItem, .vm = "vm"});
  job_done("order/l1", reactor::message(msg::SourceShutDown{.item = kItem}));
  order("l2", msg::FinalSync{.item = kItem});

  job_done(kCycle, failure(ErrorCode::kTrackingLost));

  EXPECT_FALSE(jobs_.contains(kCycle)) << "nobody reads all disks while the VM is down";
  ASSERT_NE(replied<msg::Refused>("l2"), nullptr);
  EXPECT_EQ(replied<msg::Refused>("l2")->fault.code,
            static_cast<std::uint16_t>(ErrorCode::kConflict));
  EXPECT_TRUE(source().resync) << "it follows once the VM runs again";
}

TEST_F(AgentCoreTest, AReplicaStartsOnlyPromotedAndIsRecordedBeforeItExists) {
  order("p1", preparation(kItem, 3));
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

// ---- What cannot be meant ----

TEST_F(AgentCoreTest, AnOrderThatCannotBeMeantIsRefusedBeforeAnythingIsRecorded) {
  order("b1",
        msg::StartReplication{
            .item = "../../etc/x", .vm = "vm", .epoch = 1, .policy = {.frequency_seconds = 5}});
  ASSERT_NE(replied<msg::Refused>("b1"), nullptr);
  EXPECT_EQ(replied<msg::Refused>("b1")->fault.code,
            static_cast<std::uint16_t>(ErrorCode::kInvalidArgument));
  const store::Table<msg::SourceItem> table{"source"};
  EXPECT_TRUE(table.all(store_)->empty());

  order("b2", msg::FenceSource{.item = kItem, .vm = "../../x", .epoch = 1});
  EXPECT_NE(replied<msg::Refused>("b2"), nullptr);
  EXPECT_TRUE(jobs_.empty());
  order("b3", preparation(kItem, 1, "/srv/../etc"));
  ASSERT_NE(replied<msg::Refused>("b3"), nullptr);
  EXPECT_EQ(replied<msg::Refused>("b3")->fault.code,
            static_cast<std::uint16_t>(ErrorCode::kForbidden));
  EXPECT_TRUE(jobs_.empty());
  order("b4", msg::RemoveReplica{.item = kItem, .test_vm = "../.."});
  EXPECT_NE(replied<msg::Refused>("b4"), nullptr);
  EXPECT_TRUE(jobs_.empty());
}

TEST_F(AgentCoreTest, AnOrderForAnItemIsAboutItsOwnVm) {
  start_replication();
  job_done(kCycle, reactor::message(done(1)));

  order("o1", msg::ShutDownSource{.item = kItem, .vm = "another"});
  ASSERT_NE(replied<msg::Refused>("o1"), nullptr);
  EXPECT_EQ(replied<msg::Refused>("o1")->fault.code,
            static_cast<std::uint16_t>(ErrorCode::kForbidden));
  EXPECT_FALSE(source().stopped);
  order("o2", msg::FenceSource{.item = kItem, .vm = "another", .epoch = 4});
  EXPECT_NE(replied<msg::Refused>("o2"), nullptr);
  order("o3", msg::StopReplication{.item = kItem, .vm = "another"});
  EXPECT_NE(replied<msg::Refused>("o3"), nullptr);
  order("o4", msg::RestartSource{.item = kItem, .vm = "another", .start = true});
  EXPECT_NE(replied<msg::Refused>("o4"), nullptr);
  EXPECT_TRUE(jobs_.empty());

  order("o5", msg::FenceSource{.item = "unknown", .vm = "another", .epoch = 4});
  EXPECT_TRUE(jobs_.contains("order/o5")) << "an agent that lost its state fences what it is told";
}

TEST_F(AgentCoreTest, EpochsGoBackByAnUndoOnlyAndNeverLeap) {
  const auto refused = [&](const std::string& id) {
    const auto* answer = replied<msg::Refused>(id);
    return answer == nullptr ? 0 : answer->fault.code;
  };
  constexpr auto kStale = static_cast<std::uint16_t>(ErrorCode::kStaleEpoch);
  constexpr auto kLeap = static_cast<std::uint16_t>(ErrorCode::kForbidden);
  order("e1", preparation(kItem, 3));
  job_done("order/e1", reactor::message(msg::ReplicaPrepared{.item = kItem}));

  order("e2", msg::PromoteReplica{.item = kItem, .epoch = 1ULL << 40U});
  EXPECT_EQ(refused("e2"), kLeap) << "no later failover would be taken";
  order("e3", msg::DemoteReplica{.item = kItem, .epoch = 2});
  EXPECT_NE(replied<msg::ReplicaDemoted>("e3"), nullptr) << "it was not promoted";
  EXPECT_FALSE(jobs_.contains("order/e3"));
  order("e4", msg::PromoteReplica{.item = kItem, .epoch = 4});
  job_done("order/e4", reactor::message(msg::ReplicaPromoted{.item = kItem, .epoch = 4}));
  order("e5", msg::DemoteReplica{.item = kItem, .epoch = 2});
  EXPECT_EQ(refused("e5"), kStale) << "two epochs back";
  order("e6", msg::DemoteReplica{.item = kItem, .epoch = 3});
  job_done("order/e6", reactor::message(msg::ReplicaDemoted{.item = kItem}));
  order("e7", msg::DemoteReplica{.item = kItem, .epoch = 3});
  EXPECT_TRUE(jobs_.contains("order/e7")) << "repeated, by another try of its job";

  const std::string other = "6f0d6a0e-0000-4000-8000-000000000002";
  order("e8", msg::FenceSource{.item = other, .vm = "vm", .epoch = 5});
  job_done("order/e8", reactor::message(msg::SourceFenced{.item = other, .epoch = 5}));
  order("e9", msg::FenceSource{.item = other, .vm = "vm", .epoch = 4});
  EXPECT_EQ(refused("e9"), kStale);
  order("e10", msg::UnfenceSource{.item = other, .vm = "vm", .epoch = 4});
  EXPECT_EQ(refused("e10"), kStale);
  order("e11", msg::FenceSource{.item = other, .vm = "vm", .epoch = 5});
  EXPECT_TRUE(jobs_.contains("order/e11"));
}

TEST_F(AgentCoreTest, SettingsThatCannotBeMeantAreNotTaken) {
  start_replication();

  settings({.item = kItem, .epoch = 3, .digest = "d", .policy = {.frequency_seconds = 0}});

  EXPECT_EQ(source().status.settings, "");
  EXPECT_EQ(source().policy.frequency_seconds, 5U);
}

TEST_F(AgentCoreTest, ABadAddressOfThePeerKeepsNoSettingsFromBeingTaken) {
  start_replication();

  settings({.item = kItem,
            .epoch = 3,
            .digest = "d",
            .policy = {.frequency_seconds = 5},
            .peer_endpoint = "ipc:///run/libvirt/libvirt-sock",
            .peer_revoked = true});

  EXPECT_EQ(source().endpoint, "");
  EXPECT_TRUE(source().peer_revoked);
  EXPECT_EQ(source().status.settings, "d");
}

// ---- What the vault has configured ----

TEST_F(AgentCoreTest, AChangedPolicyAndAddressCountFromTheNextCycle) {
  start_replication();
  job_done(kCycle, reactor::message(done(1)));
  now_ = Time{source().status.newest.captured_at} + std::chrono::seconds{10};

  settings({.item = kItem,
            .epoch = 3,
            .digest = "d1",
            .policy = {.name = "calm", .frequency_seconds = 60},
            .peer_endpoint = "tcp://new:8084"});

  EXPECT_EQ(timers_[kCycle], Micros{std::chrono::seconds{50}});
  EXPECT_EQ(source().endpoint, "tcp://new:8084");
  EXPECT_EQ(source().status.settings, "d1");
}

TEST_F(AgentCoreTest, SettingsOfAnOlderEpochAreIgnored) {
  start_replication();

  settings({.item = kItem,
            .epoch = 2,
            .digest = "old",
            .policy = {.frequency_seconds = 5},
            .peer_endpoint = "tcp://old:1"});

  EXPECT_EQ(source().endpoint, "");
  EXPECT_EQ(source().status.settings, "");
}

TEST_F(AgentCoreTest, ARevokedPeerGetsNothingMoreUntilItJoinedAgain) {
  start_replication();

  settings({.item = kItem,
            .epoch = 3,
            .digest = "d",
            .policy = {.frequency_seconds = 5},
            .peer_revoked = true});
  EXPECT_TRUE(jobs_.contains(std::string("cancel/") + kItem));
  job_done(kCycle, failure(ErrorCode::kCancelled));
  timers_.clear();
  timer(kCycle);

  EXPECT_FALSE(jobs_.contains(kCycle));
  // Its provider is there again, and the host is not: the key on record is the one that was
  // revoked.
  settings({.item = kItem, .epoch = 3, .digest = "e0", .policy = {.frequency_seconds = 5}});
  EXPECT_TRUE(source().peer_revoked);
  EXPECT_FALSE(timers_.contains(kCycle));
  settings({.item = kItem,
            .epoch = 3,
            .digest = "e",
            .policy = {.frequency_seconds = 5},
            .peer_key = "another"});
  EXPECT_TRUE(timers_.contains(kCycle));
  timer(kCycle);
  EXPECT_TRUE(jobs_.contains(kCycle));
  EXPECT_EQ(source().target_key, "another");
}

TEST_F(AgentCoreTest, AnItemThatEndedMeanwhileIsStoppedOnce) {
  start_replication();

  for (int i = 0; i < 3; ++i) settings({.item = kItem, .epoch = 3, .ended = true});
  job_done(kCycle, failure(ErrorCode::kCancelled));

  ASSERT_EQ(jobs_.size(), 1U) << "one StopReplication, however often it was told";
  const auto stop = jobs_.begin()->first;
  job_done(stop, reactor::message(msg::ReplicationStopped{.item = kItem}));
  const store::Table<msg::SourceItem> table{"source"};
  EXPECT_FALSE(table.get(store_, kItem)->has_value());
}

TEST_F(AgentCoreTest, AReplicaWorksByItsSettingsOnceTheDataPortDoes) {
  order("p1", preparation("kept", 1));
  job_done("order/p1", reactor::message(msg::ReplicaPrepared{.item = "kept"}));
  const msg::ItemSettings wanted{.item = "kept",
                                 .epoch = 1,
                                 .digest = "d",
                                 .policy = {.frequency_seconds = 5},
                                 .peer_key = "key"};
  const store::Table<msg::ReplicaItem> table{"replica"};

  settings(wanted);
  ASSERT_TRUE(jobs_.contains("settings/kept"));
  EXPECT_EQ((*table.get(store_, "kept"))->settings, "");
  job_done("settings/kept", reactor::message(wanted));

  EXPECT_EQ((*table.get(store_, "kept"))->settings, "d");
  EXPECT_EQ((*table.get(store_, "kept"))->source_key, "key");
}

TEST_F(AgentCoreTest, MaintenanceThatEndsAfterItsReplicaWentSaysNothingOfIt) {
  order("p1", preparation("kept", 1));
  job_done("order/p1", reactor::message(msg::ReplicaPrepared{.item = "kept"}));
  job_done("maintain/kept", failure(ErrorCode::kIo));
  timer("status");
  ASSERT_NE(told<msg::ReplicaReport>(), nullptr);
  EXPECT_EQ(told<msg::ReplicaReport>()->replicas.at(0).fault->what, "planted");

  order("p2", msg::RemoveReplica{.item = "kept"});
  job_done("order/p2", reactor::message(msg::ReplicaRemoved{.item = "kept"}));
  job_done("maintain/kept", failure(ErrorCode::kNotFound));
  timer("status");

  EXPECT_EQ(told<msg::ReplicaReport>(), nullptr);
}

// ---- Many items, slow hosts ----

TEST_F(AgentCoreTest, OneReplicaOfEachVolumeIsMaintainedAtATime) {
  for (const std::string item : {"a", "b", "c"}) {
    order("p" + item, preparation(item, 1, item == "c" ? "/other" : "/srv"));
    job_done("order/p" + item, reactor::message(msg::ReplicaPrepared{.item = item}));
  }
  const auto started = [&] {
    std::vector<std::string> out;
    for (const auto& [id, job] : jobs_) out.push_back(id);
    return out;
  };

  timer("maintain");
  EXPECT_EQ(started(), (std::vector<std::string>{"maintain/a", "maintain/c"}));
  timer("maintain");
  EXPECT_EQ(started(), std::vector<std::string>{}) << "those under way are not doubled";
  job_done("maintain/a", reactor::message(msg::ReplicaMaintained{.status = {.item = "a"}}));
  EXPECT_EQ(started(), std::vector<std::string>{"maintain/b"});
  now_ = now_ + AgentLimits{}.maintain_hung;  // One that hangs stops nobody for ever.
  timer("maintain");
  EXPECT_EQ(started(), std::vector<std::string>{"maintain/a"});
}

TEST_F(AgentCoreTest, InitialCopiesLeaveRoomAndTheNextBeginsWhenOneEnds) {
  const auto cycle = [](int i) { return "cycle/item-" + std::to_string(i); };
  const int max = static_cast<int>(AgentLimits{}.full_cycles_max);
  int started = 0;
  for (int i = 0; i < max + 2; ++i) {
    order("r" + std::to_string(i), msg::StartReplication{.item = "item-" + std::to_string(i),
                                                         .vm = "vm",
                                                         .epoch = 1,
                                                         .policy = {.frequency_seconds = 5}});
    timer(cycle(i));
    started += jobs_.contains(cycle(i)) ? 1 : 0;
  }
  EXPECT_EQ(started, max);

  job_done(cycle(0), reactor::message(msg::CycleDone{
                         .item = "item-0", .point = {.seq = 1}, .token = "t", .full_copy = true}));

  EXPECT_EQ(jobs_.size(), 1U);
  EXPECT_TRUE(jobs_.contains(cycle(max))) << "who waited longest";
  timer(cycle(0));
  EXPECT_TRUE(jobs_.contains(cycle(0))) << "deltas are not held up by copies";
}

TEST_F(AgentCoreTest, StoppingEndsAQueuedOrRunningCycleFirst) {
  start_replication();

  order("s1", msg::StopReplication{.item = kItem, .vm = "vm"});
  ASSERT_TRUE(jobs_.contains(std::string("cancel/") + kItem));
  EXPECT_FALSE(jobs_.contains("order/s1"));
  job_done(kCycle, failure(ErrorCode::kCancelled));

  EXPECT_TRUE(jobs_.contains("order/s1"));
}

TEST_F(AgentCoreTest, ACycleThatDoesNotMoveIsNotCalledAlive) {
  start_replication();
  order("w1", msg::AwaitInitial{.item = kItem});
  timer("status");
  EXPECT_NE(told<msg::Progress>(), nullptr);

  now_ = now_ + AgentLimits{}.stalled_after + std::chrono::seconds{1};
  timer("status");

  EXPECT_EQ(told<msg::Progress>(), nullptr);
  const auto* report = told<msg::StatusReport>();
  ASSERT_NE(report, nullptr);
  EXPECT_EQ(report->statuses.at(0).health, msg::Health::critical);
  ASSERT_TRUE(report->statuses.at(0).fault);
  EXPECT_NE(registry_.text().find("farside_replication_stalled{source_item=\"item-1\""),
            std::string::npos);
}

TEST_F(AgentCoreTest, ALatePointSaysWhyItIsLate) {
  start_replication();
  job_done(kCycle, reactor::message(done(1)));
  now_ = Time{source().status.newest.captured_at} + std::chrono::minutes{2};

  timer("status");

  const auto* report = told<msg::StatusReport>();
  ASSERT_NE(report, nullptr);
  EXPECT_EQ(report->statuses.at(0).health, msg::Health::critical);
  ASSERT_TRUE(report->statuses.at(0).fault);
  EXPECT_NE(report->statuses.at(0).fault->what.find("120 s old"), std::string::npos)
      << report->statuses.at(0).fault->what;
}

TEST_F(AgentCoreTest, BeforeItHasReconciledItSaysWhyOrdersWait) {
  AgentCore fresh("provider/A", "data-key", probe_);
  reactor::Effects effects("agent/A/host", store_, now_, Micros{now_.micros}, random_);
  fresh.on_job("reconcile", failure(ErrorCode::kPlatform), effects);

  fresh.on_message({.principal = "provider/A", .role = msg::Role::provider},
                   {.id = "o1",
                    .from = "orchestrator",
                    .to = "agent/A/host",
                    .body = reactor::message(msg::CheckSource{.vm = "vm"})},
                   effects);

  const auto* sent = std::get_if<reactor::SendMessage>(&effects.effects.back());
  ASSERT_NE(sent, nullptr);
  const auto* progress = std::get_if<msg::Progress>(&sent->envelope.body.value);
  ASSERT_NE(progress, nullptr);
  EXPECT_NE(progress->note.find("planted"), std::string::npos);
  EXPECT_NE(problems_.text().find("reconcile: planted"), std::string::npos);
}

TEST_F(AgentCoreTest, AFencedVmThatWasFoundRunningIsToldForAnHour) {
  job_done("observe", reactor::message(msg::HostReport{.host = {.name = "host", .platform = "sim"},
                                                       .vms = {{.id = "vm", .name = "web"}}}));
  EXPECT_TRUE(told<msg::HostReport>()->host.troubles.empty());

  job_done("fences", reactor::message(msg::FencesEnforced{.stopped = {"vm"}}));

  ASSERT_NE(told<msg::HostReport>(), nullptr) << "at once";
  const auto troubles = told<msg::HostReport>()->host.troubles;
  ASSERT_EQ(troubles.size(), 1U);
  EXPECT_EQ(troubles.front().kind, msg::VmTroubleKind::stray);
  EXPECT_NE(troubles.front().what.find("'web' was found running at 2027-01-15"), std::string::npos)
      << troubles.front().what;
  EXPECT_NE(registry_.text().find("farside_fenced_vms_stopped_total 1"), std::string::npos);

  now_ = now_ + std::chrono::minutes{59};
  job_done("fences", reactor::message(msg::FencesEnforced{}));
  EXPECT_EQ(told<msg::HostReport>(), nullptr) << "nothing has changed";
  now_ = now_ + std::chrono::minutes{2};
  job_done("fences", reactor::message(msg::FencesEnforced{}));
  ASSERT_NE(told<msg::HostReport>(), nullptr);
  EXPECT_TRUE(told<msg::HostReport>()->host.troubles.empty());
}

TEST_F(AgentCoreTest, WhatACrashLeftAndCannotBeCleanedUpIsToldToTheVault) {
  job_done("reconcile", failure(ErrorCode::kPlatform));

  ASSERT_NE(told<msg::HostReport>(), nullptr);
  EXPECT_NE(told<msg::HostReport>()->host.problem.find("is not cleaned up: planted"),
            std::string::npos);
  job_done("reconcile", reactor::message(msg::Reconciled{}));
  job_done("observe", reactor::message(msg::HostReport{.host = {.platform = "sim"}}));
  EXPECT_EQ(told<msg::HostReport>()->host.problem, "");
}

TEST_F(AgentCoreTest, WhatTheDataPortAndTheScrubCountAreFigures) {
  probe_.data_port({.sessions = 2,
                    .batches = 7,
                    .sealed_batches = 5,
                    .payload_bytes = 4096,
                    .refused = 3,
                    .strangers = 4});
  probe_.replica({.item = kItem, .scrub_mismatches = 6, .damaged = 8});

  const auto text = registry_.text();

  for (const std::string line :
       {"# HELP farside_data_port_sessions ", "farside_data_port_sessions 2",
        "farside_data_port_batches_total 7", "farside_data_port_sealed_batches_total 5",
        "farside_data_port_payload_bytes_total 4096", "farside_data_port_refused_sessions_total 3",
        "farside_data_port_unknown_keys_total 4", "# HELP farside_replica_damaged_blocks ",
        "farside_replica_damaged_blocks{"}) {
    EXPECT_NE(text.find(line), std::string::npos) << line;
  }
}

}  // namespace
}  // namespace farside::agent
