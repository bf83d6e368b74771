// How a workflow is written: a table of pure steps over one typed state.
//
//   act    state -> request          what to ask of whom
//   learn  reply -> state            what the answer taught us; an error fails the step
//   undo   state -> request          correct if act ran fully, partly, twice or never
//
// The engine alone persists, sends, times out, retries and unwinds.
#pragma once

#include <chrono>
#include <cstdint>
#include <functional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "common/base/result.h"
#include "common/flow/fault.h"
#include "common/schema/envelope.plain.h"
#include "common/schema/flow.plain.h"
#include "common/wire/codec.h"

namespace farside::flow {

struct Request {
  std::string to;  // Principal: "vault", "provider/<site>", "agent/<site>/<host>".
  msg::Message body;
};

template <class Body>
Request ask(std::string to, Body body) {
  return Request{.to = std::move(to), .body = msg::Message(std::move(body))};
}

// Longer than what is under way at one piece, such as the digest of a large disk, may take.
inline constexpr std::chrono::hours kStalledAfter{2};

template <class State>
struct Step {
  std::string_view name;   // As in the diagram at the top of the workflow's file.
  std::string_view title;  // As the operator reads it.
  Request (*act)(const State&) = nullptr;
  Status (*learn)(State&, const msg::Message& reply) = nullptr;
  Request (*undo)(const State&) = nullptr;
  std::chrono::seconds silence{60};  // No reply and no progress for so long: ask again, then fail.
  std::chrono::seconds stalled{kStalledAfter};  // Told of, but not getting on, for so long: fail.
  bool (*skip)(const State&) = nullptr;
  // The workflow goes on without it if nobody is there to do it (kUnavailable, kTimeout) after two
  // tries: for what heals by itself once they are back.  Shown as skipped, with the cause.
  bool (*dispensable)(const State&) = nullptr;
  bool undo_dispensable = false;  // The same of its undo, for every state.
};

template <class State>
struct Definition {
  std::string_view name;
  std::uint32_t version = 1;
  std::string_view title;
  std::span<const Step<State>> steps;
  std::string_view point_of_no_return;  // From this step on only forward; empty: none.
  State (*begin)(const msg::WorkflowInput&) = nullptr;
  bool may_be_given_up = false;  // Waiting for an operator: another order does all of it anew.
};

// A definition with its state type folded away: what the engine runs.
struct StepView {
  std::string name;
  std::string title;
  std::chrono::seconds silence;
  std::chrono::seconds stalled;
  bool has_undo = false;
  bool undo_dispensable = false;
  std::function<bool(std::string_view state)> dispensable;
  std::function<bool(std::string_view state)> skip;
  std::function<Result<Request>(std::string_view state)> act;
  std::function<Status(std::string& state, const msg::Message& reply)> learn;
  std::function<Result<Request>(std::string_view state)> undo;
};

struct Workflow {
  std::string name;
  std::uint32_t version = 1;
  std::string title;
  std::vector<StepView> steps;
  std::size_t no_return_from = 0;  // steps.size() if there is no such point.
  bool may_be_given_up = false;
  std::function<std::string(const msg::WorkflowInput&)> begin;
};

template <class State>
Workflow fold(const Definition<State>& definition) {
  const auto with_state = [](auto function) {
    return [function](std::string_view bytes) -> Result<Request> {
      FARSIDE_ASSIGN(const State state, msg::decode<State>(bytes));
      return function(state);
    };
  };
  const auto on_state = [](bool (*question)(const State&)) {
    return [question](std::string_view bytes) {
      if (question == nullptr) return false;
      const auto state = msg::decode<State>(bytes);
      return state && question(*state);
    };
  };
  Workflow out{.name = std::string(definition.name),
               .version = definition.version,
               .title = std::string(definition.title),
               .steps = {},
               .no_return_from = definition.steps.size(),
               .may_be_given_up = definition.may_be_given_up,
               .begin = {}};
  out.begin = [begin = definition.begin](const msg::WorkflowInput& input) {
    return msg::encode(begin(input));
  };
  for (const auto& step : definition.steps) {
    if (step.name == definition.point_of_no_return) out.no_return_from = out.steps.size();
    StepView view{.name = std::string(step.name),
                  .title = std::string(step.title),
                  .silence = step.silence,
                  .stalled = step.stalled,
                  .has_undo = step.undo != nullptr,
                  .undo_dispensable = step.undo_dispensable,
                  .dispensable = {},
                  .skip = {},
                  .act = with_state(step.act),
                  .learn = {},
                  .undo = {}};
    if (step.undo != nullptr) view.undo = with_state(step.undo);
    view.skip = on_state(step.skip);
    view.dispensable = on_state(step.dispensable);
    view.learn = [learn = step.learn](std::string& bytes, const msg::Message& reply) -> Status {
      FARSIDE_ASSIGN(State state, msg::decode<State>(bytes));
      FARSIDE_TRY(learn(state, reply));
      bytes = msg::encode(state);
      return {};
    };
    out.steps.push_back(std::move(view));
  }
  return out;
}

// The reply a step hoped for, or the error that came instead.
template <class Body>
Result<Body> expect(const msg::Message& reply) {
  if (const auto* body = std::get_if<Body>(&reply.value)) return *body;
  if (const auto* refused = std::get_if<msg::Refused>(&reply.value)) {
    return fail(to_error(refused->fault));
  }
  return fail(ErrorCode::kInternal, "unexpected reply '" + std::string(msg::name_of(reply)) + "'",
              "both sides must run the same release");
}

// For steps that learn nothing but "done".
template <class State, class Body>
Status learn_done(State&, const msg::Message& reply) {
  FARSIDE_TRY(expect<Body>(reply));
  return {};
}

}  // namespace farside::flow
