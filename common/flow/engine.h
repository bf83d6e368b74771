// Runs workflows durably.
//
//        act/learn                       undo, right to left
//   running ----> succeeded      running ----> unwinding ----> failed | cancelled
//      \--> needs_operator  (past the point of no return and out of retries)
//
// Owns: columns "flow" (one head record each), "flow_active" (ids of those that have not ended or
// whose end the observer has not noted), "flow_log" (what happened, in order).
// Thread: the reactor's.
// Invariants
//   * `started` is durable before its request leaves (the reactor commits first), so the log is
//     also the outbox: tick() repeats every unanswered request under the same id.
//   * An unknown outcome counts as "may have happened": unwinding begins with the current step.
//   * Past the point of no return a flow only goes forward.
//   * A step that is told of but does not get on ends with a cause; see progress.cpp.
#pragma once

#include <chrono>
#include <map>
#include <optional>
#include <string>
#include <vector>

#include "common/flow/fault.h"
#include "common/flow/step.h"
#include "common/reactor/effects.h"
#include "common/store/table.h"

namespace farside::flow {

struct EngineLimits {
  std::chrono::seconds resend_after{5};
  std::uint32_t tries_max = 6;  // Per step, before it fails for good; ...
  std::uint32_t undo_tries_max = 10;
  // ... and so many more, ten seconds each, if there is something to lose and all that is wrong is
  // that somebody is away: a hypervisor's daemon or a host that is started again takes its time.
  std::uint32_t away_tries = 18;
  std::uint32_t dispensable_tries_max = 2;
  std::size_t flows_running_max = 10'000;  // Beyond: new ones are refused as kUnavailable.
};

class Engine final {
 public:
  // `route` names the neighbour behind which a principal lives.
  using Route = std::function<std::string(const std::string& principal)>;
  // Told of every step and flow that ended, in the turn that decided it; for figures only.
  struct Ended {
    std::string_view workflow;
    std::string_view step;  // Empty: the flow as a whole.
    std::string_view result;
    Micros took{};
  };
  using Observer = std::function<void(const Ended&)>;
  Engine(std::vector<Workflow> workflows, EngineLimits limits, Route route, Observer observer = {});

  // Starts `workflow` under `id`; repeating a start is success and changes nothing.
  // Errors: kUnsupported (no such workflow), kUnavailable (too many), kIo.
  Status begin(const std::string& id, const std::string& workflow, const msg::WorkflowInput& input,
               reactor::Effects& effects);

  // Unwinds the flow, if it has not passed its point of no return.  Errors: kNotFound, kConflict.
  Status cancel(const std::string& id, reactor::Effects& effects);

  // Sends a flow that needs an operator on.  Errors: kNotFound, kConflict.
  Status restart(const std::string& id, reactor::Effects& effects);

  // The id of a reply is ours if it starts with "flow/".
  static bool owns(const std::string& request_id) { return request_id.starts_with("flow/"); }
  // A reply that does not come from whom the step asked is ignored.
  void on_reply(const std::string& request_id, const std::string& from, const msg::Message& reply,
                reactor::Effects& effects);
  // From whom the step asked: a sign of life.  From the neighbour before it: only why it is silent.
  void on_progress(const msg::Progress& progress, const std::string& from,
                   reactor::Effects& effects);

  // How many flows have not ended, and how many of them wait for an operator.
  struct Running {
    std::size_t flows = 0;
    std::size_t need_operator = 0;
  };
  Result<Running> running(const store::Reader& store) const;

  // Repeats, times out and retries.  Call at start and about once a second.
  void tick(reactor::Effects& effects);

  // Flows whose revision the observer has not acknowledged yet, oldest first, at most `max`.
  Result<std::vector<msg::FlowRecord>> unnoted(const store::Reader& store, std::size_t max) const;
  void noted(const std::string& id, std::uint64_t revision, reactor::Effects& effects);

  Result<std::optional<msg::FlowRecord>> find(const store::Reader& store,
                                              const std::string& id) const;

 private:
  struct Flow {  // A record loaded for one turn, with its workflow.
    msg::FlowRecord record;
    const Workflow* workflow = nullptr;
  };

  Result<Flow> load(const std::string& id, const reactor::Effects& effects) const;
  Result<std::vector<std::string>> active(const store::Reader& store) const;
  void save(Flow& flow, reactor::Effects& effects) const;
  void note(Flow& flow, msg::FlowEvent event, std::string detail, reactor::Effects& effects) const;

  void advance(Flow& flow, reactor::Effects& effects) const;
  void ask(Flow& flow, reactor::Effects& effects) const;
  void ask_again(Flow& flow, reactor::Effects& effects) const;
  void fail_step(Flow& flow, const Error& error, reactor::Effects& effects,
                 bool try_again = true) const;
  bool go_on_without(Flow& flow, reactor::Effects& effects) const;
  static bool has_something_to_undo(const Flow& flow);
  void begin_unwinding(Flow& flow, reactor::Effects& effects) const;
  void unwind(Flow& flow, reactor::Effects& effects) const;
  void end(Flow& flow, msg::FlowPhase phase, reactor::Effects& effects) const;
  static void begin_progress(msg::FlowRecord& record, Time now);
  // Set if the step is told of, and has not got on for longer than it may.
  static std::optional<Error> stalled_error(const Flow& flow, Time now);
  static std::string asked(const Flow& flow);
  static bool is_asked(const Flow& flow, const std::string& principal);
  void observe(const Flow& flow, const msg::StepRecord* step, std::string_view result,
               reactor::Effects& effects) const;
  void tick(Flow& flow, reactor::Effects& effects) const;

  std::map<std::string, Workflow, std::less<>> workflows_;
  EngineLimits limits_;
  Route route_;
  Observer observer_;
  store::Table<msg::FlowRecord> flows_{"flow"};
  store::Table<msg::FlowLogEntry> log_{"flow_log"};
};

}  // namespace farside::flow
