#include "common/flow/engine.h"

#include <fmt/format.h>

#include <algorithm>
#include <utility>

#include "common/base/log.h"
#include "common/flow/retry.h"

namespace farside::flow {
namespace {

using msg::FlowEvent;
using msg::FlowPhase;
using msg::StepState;

constexpr std::string_view kActive = "flow_active";

bool has_ended(FlowPhase phase) {
  return phase == FlowPhase::succeeded || phase == FlowPhase::failed ||
         phase == FlowPhase::cancelled;
}

std::string log_key(const msg::FlowRecord& record) {
  return fmt::format("{}/{:08}", record.id, record.log_seq);
}

}  // namespace

Engine::Engine(std::vector<Workflow> workflows, EngineLimits limits, Route route, Observer observer)
    : limits_(limits), route_(std::move(route)), observer_(std::move(observer)) {
  for (auto& workflow : workflows) {
    auto name = workflow.name;
    workflows_.emplace(std::move(name), std::move(workflow));
  }
}

// ---- Storage ----

Result<Engine::Flow> Engine::load(const std::string& id, const reactor::Effects& effects) const {
  FARSIDE_ASSIGN(auto record, flows_.get(effects.store(), id));
  if (!record) {
    return fail(ErrorCode::kNotFound, "no job '" + id + "'", "list them with `farside jobs list`");
  }
  const auto workflow = workflows_.find(record->workflow);
  if (workflow == workflows_.end()) {
    return fail(ErrorCode::kUnsupported,
                "job '" + id + "' runs workflow '" + record->workflow + "', unknown here",
                "start the release that began it");
  }
  if (record->version != workflow->second.version ||
      record->steps.size() != workflow->second.steps.size()) {
    return fail(ErrorCode::kUnsupported,
                fmt::format("job '{}' runs version {} of workflow '{}', this release has {}", id,
                            record->version, record->workflow, workflow->second.version),
                "start the release that began it");
  }
  return Flow{.record = std::move(*record), .workflow = &workflow->second};
}

Result<std::vector<std::string>> Engine::active(const store::Reader& store) const {
  std::vector<std::string> ids;
  FARSIDE_TRY(store.scan(kActive, "", "", [&](std::string_view key, std::string_view) {
    ids.emplace_back(key);
    return true;
  }));
  return ids;
}

void Engine::save(Flow& flow, reactor::Effects& effects) const {
  flow.record.revision += 1;
  flow.record.past_return =
      flow.record.phase == FlowPhase::running && flow.record.step >= flow.workflow->no_return_from;
  flows_.put(effects.writes, flow.record.id, flow.record);
}

void Engine::note(Flow& flow, FlowEvent event, std::string detail,
                  reactor::Effects& effects) const {
  auto& record = flow.record;
  record.log_seq += 1;
  const auto step = record.step < record.steps.size() ? record.steps[record.step].name : "";
  log_.put(effects.writes, log_key(record),
           msg::FlowLogEntry{.at = effects.now().micros,
                             .step = step,
                             .event = event,
                             .request = record.request,
                             .detail = std::move(detail)});
}

Result<std::vector<msg::FlowRecord>> Engine::unnoted(const store::Reader& store,
                                                     std::size_t max) const {
  FARSIDE_ASSIGN(const auto ids, active(store));
  std::vector<msg::FlowRecord> out;
  for (const auto& id : ids) {
    FARSIDE_ASSIGN(auto record, flows_.get(store, id));
    if (record && record->revision > record->noted_revision) out.push_back(std::move(*record));
    if (out.size() >= max) break;
  }
  return out;
}

void Engine::noted(const std::string& id, std::uint64_t revision, reactor::Effects& effects) {
  auto record = flows_.get(effects.store(), id);
  if (!record || !*record) return;
  auto& flow = **record;
  if (revision <= flow.noted_revision || revision > flow.revision) return;
  flow.noted_revision = revision;
  flows_.put(effects.writes, id, flow);
  if (has_ended(flow.phase) && flow.noted_revision == flow.revision) {
    effects.writes.erase(kActive, id);
  }
}

Result<std::optional<msg::FlowRecord>> Engine::find(const store::Reader& store,
                                                    const std::string& id) const {
  return flows_.get(store, id);
}

// ---- Commands ----

Status Engine::begin(const std::string& id, const std::string& workflow,
                     const msg::WorkflowInput& input, reactor::Effects& effects) {
  FARSIDE_ASSIGN(const auto present, flows_.get(effects.store(), id));
  if (present) return {};
  const auto found = workflows_.find(workflow);
  if (found == workflows_.end()) {
    return fail(ErrorCode::kUnsupported, "no workflow '" + workflow + "'",
                "vault and orchestrator must run the same release");
  }
  FARSIDE_ASSIGN(const auto running, active(effects.store()));
  if (running.size() >= limits_.flows_running_max) {
    return fail(ErrorCode::kUnavailable, fmt::format("{} jobs are running already", running.size()),
                "it starts by itself when some have ended");
  }
  Flow flow{.record = {}, .workflow = &found->second};
  auto& record = flow.record;
  record.id = id;
  record.workflow = workflow;
  record.version = found->second.version;
  record.item = input.spec.item;
  record.started_at = effects.now().micros;
  record.state = found->second.begin(input);
  for (const auto& step : found->second.steps) {
    record.steps.push_back(msg::StepRecord{.name = step.name, .title = step.title});
  }
  effects.writes.put(kActive, id, "");
  log::info("job started", {{"job", id}, {"workflow", workflow}, {"item", record.item}});
  advance(flow, effects);
  return {};
}

Status Engine::cancel(const std::string& id, reactor::Effects& effects) {
  FARSIDE_ASSIGN(auto flow, load(id, effects));
  auto& record = flow.record;
  const bool is_given_up =
      record.phase == FlowPhase::needsOperator && flow.workflow->may_be_given_up;
  if (is_given_up) {
    record.cancel_requested = true;
    record.steps[record.step].state = StepState::failed;
    note(flow, FlowEvent::cancelled, "", effects);
    end(flow, FlowPhase::cancelled, effects);
    return {};
  }
  if (record.phase != FlowPhase::running || record.step >= flow.workflow->no_return_from) {
    return fail(ErrorCode::kConflict, "job '" + id + "' can no longer be cancelled",
                "wait for its end; it has passed the point of no return or is ending");
  }
  record.cancel_requested = true;
  record.fault = to_fault(Error{.code = ErrorCode::kCancelled,
                                .what = "cancelled by an operator",
                                .advice = "start the operation again when you want it"});
  note(flow, FlowEvent::cancelled, "", effects);
  begin_unwinding(flow, effects);
  return {};
}

Status Engine::restart(const std::string& id, reactor::Effects& effects) {
  FARSIDE_ASSIGN(auto flow, load(id, effects));
  auto& record = flow.record;
  if (record.phase != FlowPhase::needsOperator) {
    return fail(ErrorCode::kConflict, "job '" + id + "' does not wait for an operator",
                "only jobs that do can be restarted; begin the operation anew");
  }
  auto& step = record.steps[record.step];
  const bool was_undoing = step.state == StepState::undoFailed;
  record.phase = was_undoing ? FlowPhase::unwinding : FlowPhase::running;
  record.restarts += 1;
  if (!was_undoing) record.fault.reset();
  step.tries = 0;
  ask(flow, effects);
  return {};
}

// ---- Going forward ----

// Takes the flow to its next step that is not skipped, or to its end.
void Engine::advance(Flow& flow, reactor::Effects& effects) const {
  auto& record = flow.record;
  while (record.step < record.steps.size() &&
         flow.workflow->steps[record.step].skip(record.state)) {
    record.steps[record.step].state = StepState::skipped;
    record.step += 1;
  }
  if (record.step == record.steps.size()) {
    end(flow, FlowPhase::succeeded, effects);
    return;
  }
  ask(flow, effects);
}

// One try of the current step's act or undo, under a request id of its own.
void Engine::ask(Flow& flow, reactor::Effects& effects) const {
  auto& record = flow.record;
  auto& step = record.steps[record.step];
  const bool undoing = record.phase == FlowPhase::unwinding;
  step.tries += 1;
  step.ended_at = 0;
  if (!undoing) step.state = StepState::inProgress;
  if (step.started_at == 0) step.started_at = effects.now().micros;
  record.request = fmt::format("flow/{}/{}/{}{}.{}", record.id, record.step, undoing ? "u" : "a",
                               record.restarts, step.tries);
  record.retry_at = 0;
  record.heard_at = effects.now().micros;
  begin_progress(record, effects.now());
  note(flow, undoing ? FlowEvent::undoStarted : FlowEvent::started, "", effects);
  save(flow, effects);
  ask_again(flow, effects);
}

void Engine::ask_again(Flow& flow, reactor::Effects& effects) const {
  const auto& record = flow.record;
  const auto& step = flow.workflow->steps[record.step];
  const bool undoing = record.phase == FlowPhase::unwinding;
  auto request = undoing ? step.undo(record.state) : step.act(record.state);
  if (!request) {
    log::error("workflow state unreadable", {{"job", record.id}, {"cause", request.error()}});
    return;
  }
  effects.send(route_(request->to), msg::Envelope{.id = record.request,
                                                  .from = effects.self(),
                                                  .to = request->to,
                                                  .reply = false,
                                                  .body = std::move(request->body)});
}

// Whom the try under way asked; empty if its state is unreadable.
std::string Engine::asked(const Flow& flow) {
  const auto& table = flow.workflow->steps[flow.record.step];
  const bool undoing = flow.record.phase == FlowPhase::unwinding;
  const auto request = undoing ? table.undo(flow.record.state) : table.act(flow.record.state);
  return request ? request->to : std::string{};
}

bool Engine::is_asked(const Flow& flow, const std::string& principal) {
  if (asked(flow) == principal) return true;
  log::warn("message ignored", {{"job", flow.record.id}, {"from", principal}});
  return false;
}

void Engine::observe(const Flow& flow, const msg::StepRecord* step, std::string_view result,
                     reactor::Effects& effects) const {
  if (!observer_) return;
  const auto began = step == nullptr ? flow.record.started_at : step->started_at;
  observer_({.workflow = flow.record.workflow,
             .step = step == nullptr ? std::string_view{} : std::string_view(step->name),
             .result = result,
             .took = Micros{std::max<std::int64_t>(effects.now().micros - began, 0)}});
}

Result<Engine::Running> Engine::running(const store::Reader& store) const {
  FARSIDE_ASSIGN(const auto ids, active(store));
  Running out;
  for (const auto& id : ids) {
    FARSIDE_ASSIGN(const auto record, flows_.get(store, id));
    if (!record || has_ended(record->phase)) continue;
    out.flows += 1;
    if (record->phase == FlowPhase::needsOperator) out.need_operator += 1;
  }
  return out;
}

void Engine::on_reply(const std::string& request_id, const std::string& from,
                      const msg::Message& reply, reactor::Effects& effects) {
  const auto id_end = request_id.find('/', 5);
  if (id_end == std::string::npos) return;
  auto loaded = load(request_id.substr(5, id_end - 5), effects);
  if (!loaded || loaded->record.request != request_id) return;  // Late: that try is over.
  Flow& flow = *loaded;
  auto& record = flow.record;
  auto& step = record.steps[record.step];
  const auto& table = flow.workflow->steps[record.step];
  const bool undoing = record.phase == FlowPhase::unwinding;
  if (!is_asked(flow, from)) return;

  if (undoing) {
    if (const auto* refused = std::get_if<msg::Refused>(&reply.value)) {
      fail_step(flow, to_error(refused->fault), effects);
      return;
    }
    step.state = StepState::undone;
    step.ended_at = effects.now().micros;
    note(flow, FlowEvent::undoSucceeded, "", effects);
    observe(flow, &step, "undone", effects);
    unwind(flow, effects);
    return;
  }

  const auto learned = table.learn(record.state, reply);
  if (!learned) {
    fail_step(flow, learned.error(), effects);
    return;
  }
  step.state = StepState::succeeded;
  step.ended_at = effects.now().micros;
  step.fault.reset();
  if (step.total > 0) step.done = step.total;
  note(flow, FlowEvent::succeeded, "", effects);
  observe(flow, &step, "succeeded", effects);
  record.request.clear();
  record.step += 1;
  advance(flow, effects);
}

// ---- Failing and going back ----

void Engine::fail_step(Flow& flow, const Error& error, reactor::Effects& effects,
                       bool try_again) const {
  auto& record = flow.record;
  auto& step = record.steps[record.step];
  const bool undoing = record.phase == FlowPhase::unwinding;
  step.fault = to_fault(error);
  note(flow, undoing ? FlowEvent::undoFailed : FlowEvent::failed, to_text(error), effects);
  record.request.clear();
  log::warn("job step failed", {{"job", record.id},
                                {"step", step.name},
                                {"undo", undoing ? "yes" : "no"},
                                {"try", step.tries},
                                {"cause", error}});

  const bool absent = error.code == ErrorCode::kUnavailable || error.code == ErrorCode::kTimeout;
  const bool is_worth_a_try = try_again && step.tries < limits_.dispensable_tries_max;
  if (absent && !is_worth_a_try && go_on_without(flow, effects)) return;

  const bool past_no_return = !undoing && record.step >= flow.workflow->no_return_from;
  const auto tries_max = undoing ? limits_.undo_tries_max : limits_.tries_max;
  // Undo and everything past the point of no return has to go through, so any error is retried.
  const bool may_retry = error.is_retryable() || undoing || past_no_return;
  const bool has_something_to_lose = undoing || past_no_return || has_something_to_undo(flow);
  const auto tries_more = absent && has_something_to_lose ? limits_.away_tries : 0;
  if (try_again && may_retry && step.tries < tries_max + tries_more) {
    record.retry_at =
        (effects.now() + std::min<Micros>(retry_delay(step.tries), std::chrono::seconds{10}))
            .micros;
    save(flow, effects);
    return;
  }
  if (undoing) {
    // What could not be undone is still so: somebody has to look before anything is called ended.
    step.state = StepState::undoFailed;
    step.ended_at = effects.now().micros;
    observe(flow, &step, "undo_failed", effects);
    record.phase = FlowPhase::needsOperator;
    log::error("job needs an operator",
               {{"job", record.id}, {"undo", step.name}, {"cause", error}});
    save(flow, effects);
    return;
  }
  step.ended_at = effects.now().micros;
  record.fault = step.fault;
  if (past_no_return) {
    record.phase = FlowPhase::needsOperator;
    log::error("job needs an operator",
               {{"job", record.id}, {"step", step.name}, {"cause", error}});
    save(flow, effects);
    return;
  }
  step.state = StepState::failed;
  observe(flow, &step, "failed", effects);
  begin_unwinding(flow, effects);
}

// Where the step, or its undo, is dispensable.
bool Engine::go_on_without(Flow& flow, reactor::Effects& effects) const {
  auto& record = flow.record;
  auto& step = record.steps[record.step];
  const auto& table = flow.workflow->steps[record.step];
  const bool undoing = record.phase == FlowPhase::unwinding;
  if (undoing ? !table.undo_dispensable : !table.dispensable(record.state)) return false;
  step.ended_at = effects.now().micros;
  if (undoing) {
    step.state = StepState::undoFailed;
    observe(flow, &step, "undo_skipped", effects);
    unwind(flow, effects);
    return true;
  }
  step.state = StepState::skipped;  // The fault stays: it tells why.
  observe(flow, &step, "skipped", effects);
  record.step += 1;
  advance(flow, effects);
  return true;
}

bool Engine::has_something_to_undo(const Flow& flow) {
  for (std::size_t i = 0; i <= flow.record.step; ++i) {
    if (flow.record.steps[i].tries > 0 && flow.workflow->steps[i].has_undo) return true;
  }
  return false;
}

void Engine::begin_unwinding(Flow& flow, reactor::Effects& effects) const {
  auto& record = flow.record;
  record.phase = FlowPhase::unwinding;
  for (std::size_t i = record.step; i < record.steps.size(); ++i) {
    if (record.steps[i].state == StepState::notStarted) record.steps[i].state = StepState::skipped;
  }
  // The current step may have happened, so it is the first to be undone.
  record.step += 1;
  unwind(flow, effects);
}

// Goes to the nearest earlier step that ran and has an undo.
void Engine::unwind(Flow& flow, reactor::Effects& effects) const {
  auto& record = flow.record;
  record.request.clear();
  while (record.step > 0) {
    record.step -= 1;
    auto& step = record.steps[record.step];
    const bool ran = step.tries > 0 || step.state == StepState::succeeded;
    if (!ran || !flow.workflow->steps[record.step].has_undo) continue;
    if (step.state == StepState::undone || step.state == StepState::undoFailed) continue;
    step.tries = 0;
    ask(flow, effects);
    return;
  }
  end(flow, record.cancel_requested ? FlowPhase::cancelled : FlowPhase::failed, effects);
}

void Engine::end(Flow& flow, FlowPhase phase, reactor::Effects& effects) const {
  auto& record = flow.record;
  record.phase = phase;
  record.ended_at = effects.now().micros;
  record.request.clear();
  record.retry_at = 0;
  note(flow, FlowEvent::ended, "", effects);
  save(flow, effects);
  observe(flow, nullptr, msg::to_text(phase), effects);
  const auto seconds = (record.ended_at - record.started_at) / 1'000'000;
  log::info("job ended", {{"job", record.id},
                          {"workflow", record.workflow},
                          {"result", phase == FlowPhase::succeeded ? "succeeded" : "failed"},
                          {"seconds", seconds}});
}

// ---- Time ----

void Engine::tick(reactor::Effects& effects) {
  const auto ids = active(effects.store());
  if (!ids) {
    log::error("flows unreadable", {{"cause", ids.error()}});
    return;
  }
  for (const auto& id : *ids) {
    auto flow = load(id, effects);
    if (!flow) {
      log::error("flow unreadable", {{"job", id}, {"cause", flow.error()}});
      continue;
    }
    tick(*flow, effects);
  }
}

void Engine::tick(Flow& flow, reactor::Effects& effects) const {
  auto& record = flow.record;
  if (record.phase != FlowPhase::running && record.phase != FlowPhase::unwinding) return;
  const auto now = effects.now().micros;
  if (record.request.empty()) {
    // A clock that was set back must not postpone a retry for ever.
    const auto latest = now + Micros{std::chrono::seconds{10}}.count();
    if (record.retry_at <= now || record.retry_at > latest) ask(flow, effects);
    return;
  }
  const auto silence = std::chrono::microseconds{now - record.heard_at};
  const auto& step = flow.workflow->steps[record.step];
  if (silence > step.silence) {
    fail_step(flow,
              Error{.code = ErrorCode::kTimeout,
                    .what = fmt::format("step '{}' heard nothing for {} s", step.title,
                                        step.silence.count()),
                    .advice = "check that the provider and agent of this site are connected"},
              effects);
    return;
  }
  if (silence < Micros{0}) {  // The clock was set back.
    record.heard_at = now;
    record.moved_at = std::min(record.moved_at, now);
    flows_.put(effects.writes, record.id, record);
  }
  if (const auto stalled = stalled_error(flow, effects.now())) {
    fail_step(flow, *stalled, effects, /*try_again=*/false);  // It was told of all the time.
    return;
  }
  const auto second = std::chrono::duration_cast<std::chrono::seconds>(silence).count();
  if (second > 0 && second % limits_.resend_after.count() == 0) ask_again(flow, effects);
}

}  // namespace farside::flow
