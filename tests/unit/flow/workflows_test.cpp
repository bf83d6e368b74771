// What every workflow must survive: a failure at each step, a repeated act and undo, a crash after
// each record of its log.  A new workflow is covered by being listed in workflows/all.h.
#include <gtest/gtest.h>

#include "common/base/clip.h"
#include "common/flow/engine.h"
#include "common/store/mem_store.h"
#include "services/orchestrator/workflows/all.h"
#include "tests/support/flow_answers.h"

namespace farside::flow {
namespace {

msg::Message refusal(ErrorCode code) {
  return msg::Refused{.fault = to_fault(Error{.code = code, .what = "planted", .advice = ""})};
}

class WorkflowTest : public testing::TestWithParam<std::string> {
 protected:
  using Sent = msg::Envelope;

  const Workflow workflow() const {
    for (auto& one : orchestrator::all_workflows()) {
      if (one.name == GetParam()) return one;
    }
    ADD_FAILURE() << "no workflow " << GetParam();
    return {};
  }

  std::unique_ptr<Engine> make_engine() const {
    return std::make_unique<Engine>(orchestrator::all_workflows(), EngineLimits{},
                                    [](const std::string& to) { return to; });
  }

  // One turn: `act`, commit, and what left the process.
  std::vector<Sent> turn(const std::function<void(reactor::Effects&)>& act) {
    reactor::Effects effects("orchestrator", store_, now_, Micros{now_.micros}, random_);
    act(effects);
    EXPECT_TRUE(store_.commit(effects.writes));
    std::vector<Sent> out;
    for (auto& effect : effects.effects) {
      if (auto* sent = std::get_if<reactor::SendMessage>(&effect)) {
        out.push_back(std::move(sent->envelope));
      }
    }
    return out;
  }

  std::vector<Sent> begin() {
    msg::WorkflowInput input;
    input.spec = {.item = "item",
                  .vm = "vm",
                  .vm_name = "web",
                  .source_site = "A",
                  .source_agent = "agent/A/host",
                  .target_site = "B",
                  .target_cloud = "cloud",
                  .target_agent = "agent/B/host",
                  .epoch = 1,
                  .networks = {{.source = "lan", .target = "lan"}}};
    input.network = "lan";
    return turn(
        [&](auto& effects) { ASSERT_TRUE(engine_->begin("job", GetParam(), input, effects)); });
  }

  std::vector<Sent> reply(const Sent& request, const msg::Message& body) {
    return turn([&](auto& effects) { engine_->on_reply(request.id, request.to, body, effects); });
  }

  std::vector<Sent> wait(std::chrono::seconds time) {
    now_ = now_ + time;
    return turn([&](auto& effects) { engine_->tick(effects); });
  }

  msg::FlowRecord record() {
    const auto found = engine_->find(store_, "job");
    EXPECT_TRUE(found && *found);
    return **found;
  }

  // Until `until` or the end of the first step, a sign of life each quarter of a minute.
  void talk(const Sent& request, std::chrono::minutes until,
            const std::function<msg::Progress(int)>& say) {
    const auto begun = now_;
    for (int i = 0; now_ - begun < until && is_at_first_step(); ++i) {
      auto progress = say(i);
      progress.request = request.id;
      turn([&](auto& effects) { engine_->on_progress(progress, request.to, effects); });
      wait(std::chrono::seconds{15});
    }
  }
  bool is_at_first_step() {
    const auto flow = record();
    return flow.phase == msg::FlowPhase::running && flow.step == 0 &&
           flow.steps.front().tries == 1 && !flow.steps.front().fault;
  }

  // Answers everything with success until nothing is asked any more.
  void finish(std::vector<Sent> requests) {
    for (int i = 0; i < 100 && !requests.empty(); ++i) {
      requests = reply(requests.back(), testing_support::answer_to(requests.back().body));
    }
  }

  store::MemStore store_;
  SeededRandom random_{1};
  Time now_{1'800'000'000'000'000};
  std::unique_ptr<Engine> engine_ = make_engine();
};

TEST_P(WorkflowTest, SucceedsWhenEverybodyDoes) {
  finish(begin());

  const auto flow = record();

  EXPECT_EQ(flow.phase, msg::FlowPhase::succeeded) << msg::to_text(flow);
  EXPECT_NE(flow.ended_at, 0);
}

TEST_P(WorkflowTest, AFailureAtEachStepUnwindsWhatRanOrWaitsForAnOperator) {
  const auto table = workflow();
  for (std::size_t bad = 0; bad < table.steps.size(); ++bad) {
    SCOPED_TRACE(table.steps[bad].name);
    store_ = {};
    engine_ = make_engine();
    auto requests = begin();
    std::vector<std::string> asked;
    bool failed = false;
    for (int i = 0; i < 400; ++i) {
      const auto flow = record();
      if (flow.ended_at != 0 || flow.phase == msg::FlowPhase::needsOperator) break;
      if (requests.empty()) {
        requests = wait(std::chrono::seconds{11});
        continue;
      }
      const bool here = flow.phase == msg::FlowPhase::running && flow.step == bad;
      failed = failed || here;
      const auto request = requests.back();
      requests = reply(request, here ? refusal(ErrorCode::kInvalidArgument)
                                     : testing_support::answer_to(request.body));
    }

    const auto flow = record();

    if (!failed) continue;  // The step is skipped for this input.
    if (bad >= table.no_return_from) {
      EXPECT_EQ(flow.phase, msg::FlowPhase::needsOperator);
      continue;
    }
    EXPECT_EQ(flow.phase, msg::FlowPhase::failed);
    ASSERT_TRUE(flow.fault);
    EXPECT_EQ(flow.fault->what, "planted");
    for (std::size_t i = 0; i <= bad; ++i) {
      if (flow.steps[i].tries == 0 || !table.steps[i].has_undo) continue;
      EXPECT_EQ(flow.steps[i].state, msg::StepState::undone) << flow.steps[i].name;
    }
  }
}

// A hypervisor's daemon that is started again in the midst of it, at each step.
TEST_P(WorkflowTest, WhoeverIsAwayForTwoMinutesIsWaitedForOnceThereIsSomethingToLose) {
  const auto table = workflow();
  bool is_safe_to_fail = true;
  for (std::size_t bad = 0; bad < table.steps.size(); ++bad) {
    SCOPED_TRACE(table.steps[bad].name);
    is_safe_to_fail = is_safe_to_fail && !table.steps[bad].has_undo && bad < table.no_return_from;
    store_ = {};
    engine_ = make_engine();
    auto requests = begin();
    auto back_at = Time{};
    for (int i = 0; i < 400 && record().ended_at == 0; ++i) {
      if (requests.empty()) {
        requests = wait(std::chrono::seconds{11});
        continue;
      }
      const auto flow = record();
      const bool here = flow.phase == msg::FlowPhase::running && flow.step == bad;
      if (here && back_at == Time{}) back_at = now_ + std::chrono::minutes{2};
      const auto request = requests.back();
      requests = reply(request, here && now_ < back_at ? refusal(ErrorCode::kUnavailable)
                                                       : testing_support::answer_to(request.body));
    }
    if (!is_safe_to_fail || back_at == Time{}) {
      EXPECT_EQ(record().phase, msg::FlowPhase::succeeded) << msg::to_text(record());
    } else {
      EXPECT_EQ(record().phase, msg::FlowPhase::failed) << "at once: nothing is lost by it";
    }
  }
}

TEST_P(WorkflowTest, ACrashAfterEachRecordChangesNothing) {
  auto requests = begin();
  for (int i = 0; i < 100 && record().ended_at == 0; ++i) {
    engine_ = make_engine();  // Everything but the store is gone, the request as well.
    requests.clear();
    for (int second = 0; second < 12 && requests.empty(); ++second) {
      requests = wait(std::chrono::seconds{1});
    }
    ASSERT_FALSE(requests.empty()) << msg::to_text(record());
    reply(requests.back(), testing_support::answer_to(requests.back().body));
  }

  EXPECT_EQ(record().phase, msg::FlowPhase::succeeded);
}

TEST_P(WorkflowTest, RepeatedAndForgedRepliesAreHarmless) {
  auto requests = begin();
  for (int i = 0; i < 100 && !requests.empty(); ++i) {
    const auto request = requests.back();
    auto forged = request;
    forged.to = "agent/A/somebody-else";
    EXPECT_TRUE(reply(forged, testing_support::answer_to(request.body)).empty());
    auto next = reply(request, testing_support::answer_to(request.body));
    const auto before = record();
    reply(request, testing_support::answer_to(request.body));  // Once more.
    EXPECT_EQ(record(), before);
    requests = std::move(next);
  }

  EXPECT_EQ(record().phase, msg::FlowPhase::succeeded);
}

TEST_P(WorkflowTest, SilenceIsRetriedAndThenEnds) {
  begin();
  for (int i = 0;
       i < 4000 && record().ended_at == 0 && record().phase != msg::FlowPhase::needsOperator; ++i) {
    wait(std::chrono::minutes{15});
  }

  const auto flow = record();

  EXPECT_NE(flow.phase, msg::FlowPhase::succeeded);
  EXPECT_NE(flow.phase, msg::FlowPhase::running) << "nothing may hang without a state";
  EXPECT_GT(flow.steps.front().tries, 1U);
}

TEST_P(WorkflowTest, CancellingBeforeThePointOfNoReturnUndoesEverything) {
  const auto table = workflow();
  auto requests = begin();

  Status cancelled;
  requests = turn([&](auto& effects) { cancelled = engine_->cancel("job", effects); });
  for (int i = 0; i < 50 && record().ended_at == 0; ++i) {
    if (requests.empty()) requests = wait(std::chrono::seconds{11});
    if (requests.empty()) continue;
    requests = reply(requests.back(), testing_support::answer_to(requests.back().body));
  }

  if (table.no_return_from == 0) {
    EXPECT_FALSE(cancelled);
  } else {
    EXPECT_TRUE(cancelled);
    EXPECT_EQ(record().phase, msg::FlowPhase::cancelled);
  }
}

// An end of protection, or a commit, that waits for what never comes keeps nobody from a forced
// one.
TEST_P(WorkflowTest, WhatWaitsForAnOperatorIsGivenUpIfAnotherOrderDoesAllOfItAgain) {
  begin();
  for (int i = 0;
       i < 4000 && record().ended_at == 0 && record().phase != msg::FlowPhase::needsOperator; ++i) {
    wait(std::chrono::seconds{11});
  }
  if (record().phase != msg::FlowPhase::needsOperator) {  // All of it was undone.
    EXPECT_FALSE(workflow().may_be_given_up);
    return;
  }

  const auto sent = turn([&](auto& effects) {
    EXPECT_EQ(engine_->cancel("job", effects).has_value(), workflow().may_be_given_up);
  });

  EXPECT_TRUE(sent.empty());
  EXPECT_EQ(record().phase,
            workflow().may_be_given_up ? msg::FlowPhase::cancelled : msg::FlowPhase::needsOperator);
}

TEST_P(WorkflowTest, TheNeighbourMayExplainASilenceButNotProlongIt) {
  engine_ = std::make_unique<Engine>(orchestrator::all_workflows(), EngineLimits{},
                                     [](const std::string& to) { return "next to " + to; });
  const auto request = begin().back();
  const auto heard = record().heard_at;
  now_ = now_ + std::chrono::seconds{3};

  turn([&](auto& effects) {
    engine_->on_progress({.request = request.id, .note = "it is away"}, "next to " + request.to,
                         effects);
    engine_->on_progress({.request = request.id, .note = "a lie"}, "somebody", effects);
  });

  EXPECT_EQ(record().steps.front().note, "it is away");
  EXPECT_EQ(record().heard_at, heard);
}

TEST_P(WorkflowTest, OfALongNoteTheBeginningIsKept) {
  const auto request = begin().back();

  turn([&](auto& effects) {
    const std::string flood(1 << 20, 'x');
    engine_->on_progress({.request = request.id, .note = flood}, request.to, effects);
  });

  EXPECT_EQ(record().steps.front().note.size(), kNoteMax);
}

TEST_P(WorkflowTest, AReplicaIsPlacedOnAnAgentOfTheTargetsSiteAndNowhereElse) {
  if (GetParam() != "enable_protection") return;
  auto requests = begin();
  for (int i = 0; i < 20 && !requests.empty(); ++i) {
    const auto request = requests.back();
    auto answer = testing_support::answer_to(request.body);
    if (auto* placed = std::get_if<msg::ReplicaPlaced>(&answer.value)) {
      placed->agent = "agent/A/host";
    }
    EXPECT_NE(request.body.value.index(), msg::Message{msg::PrepareReplica{}}.value.index());
    requests = reply(request, answer);
  }

  ASSERT_TRUE(record().fault) << msg::to_text(record());
  EXPECT_NE(record().fault->what.find("no agent of that site"), std::string::npos);
}

TEST_P(WorkflowTest, AStepThatIsToldOfButDoesNotGetOnEndsWithItsLastFigures) {
  talk(begin().back(), std::chrono::hours{20}, [](int i) {
    // To and fro is nowhere, and a note that changes is no work.
    return msg::Progress{.done = i % 2 == 0 ? 5U : 3U,
                         .total = 10,
                         .note = "waits for its turn, " + std::to_string(i)};
  });

  const auto flow = record();

  EXPECT_FALSE(is_at_first_step());
  EXPECT_NE(flow.phase, msg::FlowPhase::succeeded);
  ASSERT_TRUE(flow.steps.front().fault) << msg::to_text(flow);
  const auto& fault = *flow.steps.front().fault;
  EXPECT_NE(fault.what.find("has not got on since 2027-01-15T08:00:0"), std::string::npos)
      << fault.what;
  EXPECT_NE(fault.what.find(" of 10 done"), std::string::npos) << fault.what;
  EXPECT_NE(fault.what.find("waits for its turn"), std::string::npos) << fault.what;
  EXPECT_FALSE(fault.advice.empty());
}

TEST_P(WorkflowTest, AStepThatGetsOnIsWaitedForHoweverLong) {
  talk(begin().back(), std::chrono::hours{20}, [](int i) {
    return msg::Progress{.done = static_cast<std::uint64_t>(i / 100), .total = 1'000'000};
  });

  EXPECT_TRUE(is_at_first_step()) << msg::to_text(record());
}

TEST_P(WorkflowTest, LessLeftThanEverIsGettingOnAlsoIfItWasBegunAnew) {
  talk(begin().back(), std::chrono::hours{10}, [](int i) {
    // A break after each hour; what arrived before stays, so that the next try has less to do.
    const auto left = static_cast<std::uint64_t>(5'000 - i);
    const auto since = static_cast<std::uint64_t>(i % 240);
    return msg::Progress{.done = since, .total = left + since};
  });

  EXPECT_TRUE(is_at_first_step()) << msg::to_text(record());
}

TEST(FaultTest, AFaultAlwaysSaysWhatToDoNext) {
  for (std::uint16_t code = 1; code <= 40; ++code) {
    const auto fault = to_fault(Error{.code = static_cast<ErrorCode>(code), .what = "x"});
    EXPECT_FALSE(fault.advice.empty()) << code;
  }
  EXPECT_EQ(to_fault(Error{.code = ErrorCode::kIo, .what = "x", .advice = "look"}).advice, "look");
}

class DispensableTest : public WorkflowTest {};

// Who lost a site for good must be able to end what was protected there.
TEST_P(DispensableTest, GoesOnWithoutASourceThatIsLost) {
  auto requests = begin();
  for (int i = 0; i < 400 && record().ended_at == 0; ++i) {
    const bool answered = !requests.empty() && requests.back().to != "agent/A/host";
    requests = answered ? reply(requests.back(), testing_support::answer_to(requests.back().body))
                        : wait(std::chrono::seconds{5});
  }

  EXPECT_EQ(record().phase, msg::FlowPhase::succeeded);
  EXPECT_EQ(record().steps.front().state, msg::StepState::skipped);
  ASSERT_TRUE(record().steps.front().fault) << "the operator sees why";
}

INSTANTIATE_TEST_SUITE_P(All, DispensableTest,
                         testing::Values("disable_protection", "commit_failover"),
                         [](const auto& row) { return row.param; });

std::vector<std::string> names() {
  std::vector<std::string> out;
  for (const auto& one : orchestrator::all_workflows()) out.push_back(one.name);
  return out;
}

INSTANTIATE_TEST_SUITE_P(All, WorkflowTest, testing::ValuesIn(names()),
                         [](const auto& row) { return row.param; });

}  // namespace
}  // namespace farside::flow
