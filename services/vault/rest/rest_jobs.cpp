// Jobs and their tasks: the projection of the orchestrator's flow log that operators see.
#include <algorithm>
#include <optional>
#include <utility>

#include "common/flow/fault.h"
#include "services/vault/front_door/uri.h"
#include "services/vault/rest/json.h"

namespace farside::vault {
namespace {

using msg::FlowPhase;
using msg::StepState;

constexpr Micros kClocksDiffer = std::chrono::minutes{1};  // The orchestrator's and ours.

struct JobWords {
  std::string_view state;
  std::string_view description;
  std::string_view operation;  // Of the long-running operation.
};

JobWords words(const msg::JobRecord& job) {
  switch (job.flow.phase) {
    case FlowPhase::succeeded:
      return {"Succeeded", "Completed", "Succeeded"};
    case FlowPhase::failed:
      return {"Failed", "Failed", "Failed"};
    case FlowPhase::cancelled:
      return {"Cancelled", "Cancelled", "Canceled"};
    case FlowPhase::unwinding:
      return {"InProgress", "Undoing", "InProgress"};
    case FlowPhase::needsOperator:
      // Whoever polls the operation would wait for ever for what needs him.  When the job has gone
      // on, the operation has too.
      return {"Suspended", "Waits for an operator", "Failed"};
    case FlowPhase::running:
      break;
  }
  if (!job.accepted) return {"NotStarted", "Waits for the orchestrator", "NotStarted"};
  return {"InProgress", "InProgress", "InProgress"};
}

bool is_under_way(const msg::JobRecord& job) {
  return job.flow.ended_at == 0 && job.flow.phase != FlowPhase::needsOperator;
}

struct TaskWords {
  std::string_view state;
  std::string_view description;
};

TaskWords words(StepState state) {
  switch (state) {
    case StepState::notStarted:
      return {"NotStarted", "NotStarted"};
    case StepState::inProgress:
      return {"InProgress", "InProgress"};
    case StepState::succeeded:
      return {"Succeeded", "Completed"};
    case StepState::failed:
      return {"Failed", "Failed"};
    case StepState::skipped:
      return {"Other", "Skipped"};
    case StepState::undone:
      return {"Other", "Undone"};
    case StepState::undoFailed:
      return {"Failed", "Could not be undone"};
  }
  return {"Other", "Unknown"};
}

Json error_json(const msg::Fault& fault, const std::string& task) {
  return Json{{"serviceErrorDetails",
               {{"code", to_text(static_cast<ErrorCode>(fault.code))},
                {"message", fault.what},
                {"possibleCauses", fault.what},
                {"recommendedAction", advice_of(flow::to_error(fault))}}},
              {"errorLevel", "Error"},
              {"taskId", task}};
}

// Of the operation: that of the job, and what a job wants that waits for somebody.
std::optional<Error> error_of(const msg::JobRecord& job) {
  const bool waits = job.flow.phase == FlowPhase::needsOperator;
  if (!job.flow.fault && !waits) return std::nullopt;
  Error error = job.flow.fault ? flow::to_error(*job.flow.fault) : Error{};
  if (!waits) return error;
  error.what = "the job waits for an operator" + (error.what.empty() ? "" : ": " + error.what);
  error.advice = (job.flow.fault ? advice_of(error) + ", then " : std::string()) +
                 "restart the job '" + job.flow.id + "'";
  return error;
}

Json task_json(const msg::StepRecord& step) {
  const auto text = words(step.state);
  Json errors = Json::array();
  if (step.fault) errors.push_back(error_json(*step.fault, step.name));
  return Json{{"taskId", step.name},
              {"name", step.name},
              {"friendlyName", step.title},
              {"startTime", arm_time(step.started_at)},
              {"endTime", arm_time(step.ended_at)},
              {"allowedActions", Json::array()},
              {"state", text.state},
              {"stateDescription", text.description},
              {"taskType", "TaskDetails"},
              {"customDetails", {{"instanceType", "TaskDetails"}}},
              {"errors", std::move(errors)},
              {"farside",
               {{"tries", step.tries},
                {"note", step.note},
                {"progress", {{"done", step.done}, {"total", step.total}}}}}};
}

}  // namespace

Json Rest::job_json(const Call& call, const msg::JobRecord& job) const {
  const auto text = words(job);
  const auto& scenario = scenario_of(job.flow.workflow);
  Json tasks = Json::array();
  for (const auto& step : job.flow.steps) tasks.push_back(task_json(step));
  Json errors = Json::array();
  if (job.flow.fault) errors.push_back(error_json(*job.flow.fault, ""));
  Json actions = Json::array();
  const bool may_cancel = job.flow.phase == FlowPhase::needsOperator
                              ? scenario.may_be_given_up
                              : job.flow.phase == FlowPhase::running && !job.flow.past_return;
  if (may_cancel) actions.push_back("Cancel");
  if (job.flow.phase == FlowPhase::needsOperator) actions.push_back("Restart");

  std::string target = job.flow.item;
  const auto item = catalog_.items.get(call.effects.store(), job.flow.item);
  if (item && *item) target = item_path(call, **item);
  // Of the newest drill: the record of the item has nothing of earlier ones.
  const bool is_drill = job.flow.workflow == "test_failover" &&
                        job.flow.phase == FlowPhase::succeeded && item && *item &&
                        (*item)->drilled_at >= job.flow.started_at - kClocksDiffer.count() &&
                        (*item)->drilled_at <= job.flow.ended_at + kClocksDiffer.count();
  const std::string description = is_drill && (*item)->drill_sign.empty()
                                      ? "Succeeded, not confirmed"
                                      : std::string(text.description);

  Json out = resource(job_path(call, job.flow.id), job.flow.id, "replicationJobs",
                      Json{{"activityId", job.flow.id},
                           {"scenarioName", scenario.scenario},
                           {"friendlyName", scenario.friendly_name},
                           {"state", text.state},
                           {"stateDescription", description},
                           {"tasks", std::move(tasks)},
                           {"errors", std::move(errors)},
                           {"startTime", arm_time(job.flow.started_at)},
                           {"endTime", arm_time(job.flow.ended_at)},
                           {"allowedActions", std::move(actions)},
                           {"targetObjectId", target},
                           {"targetObjectName", job.vm_name},
                           {"targetInstanceType", "ProtectionEntity"},
                           {"customDetails", {{"instanceType", "AsrJobDetails"}}}});
  // Clients of the first generation poll the job itself and look for these four at the top.
  out["status"] = text.operation;
  out["startTime"] = arm_time(job.flow.started_at);
  out["endTime"] = arm_time(job.flow.ended_at);
  if (const auto error = error_of(job)) {
    out["error"] = Json{{"code", to_text(error->code)},
                        {"message", error->what + ". Next: " + advice_of(*error)},
                        {"details", nullptr}};
  }
  return out;
}

Result<msg::JobRecord> Rest::job_of(Call& call) const {
  FARSIDE_ASSIGN(auto job, catalog_.jobs.get(call.effects.store(), call["job"]));
  if (job) return std::move(*job);
  return fail(ErrorCode::kNotFound, "no job '" + call["job"] + "'",
              "list them with `farside jobs list`");
}

Reply Rest::list_jobs(Call& call) {
  FARSIDE_ASSIGN(auto all, Catalog::rows(catalog_.jobs, call.effects.store()));
  std::ranges::sort(
      all, [](const auto& a, const auto& b) { return a.flow.started_at > b.flow.started_at; });
  // "JobStatus eq 'Failed'" is the filter clients send most; the others do not narrow the list.
  const auto query = front_door::Query::parse(call.http.query);
  const auto filter = query ? query->text("$filter") : "";
  Json out = Json::array();
  for (const auto& job : all) {
    if (filter.contains("JobStatus eq '") &&
        !filter.contains("'" + std::string(words(job).state) + "'")) {
      continue;
    }
    out.push_back(job_json(call, job));
  }
  return listing(std::move(out));
}

Reply Rest::get_job(Call& call) {
  FARSIDE_ASSIGN(const auto job, job_of(call));
  return ok(job_json(call, job));
}

Reply Rest::cancel_job(Call& call) {
  FARSIDE_ASSIGN(const auto job, job_of(call));
  return ask(call, "orchestrator", "orchestrator",
             reactor::message(msg::CancelWorkflow{.job = job.flow.id}),
             [body = job_json(call, job)](const msg::Message&, reactor::Effects&) -> Reply {
               return ok(body);
             });
}

Reply Rest::restart_job(Call& call) {
  FARSIDE_ASSIGN(const auto job, job_of(call));
  return ask(call, "orchestrator", "orchestrator",
             reactor::message(msg::RestartWorkflow{.job = job.flow.id}),
             [this, body = job_json(call, job), id = job.flow.id](
                 const msg::Message&, reactor::Effects& effects) -> Reply {
               desk_.restarted(id, effects);
               return ok(body);
             });
}

Reply Rest::operation_status(Call& call) {
  FARSIDE_ASSIGN(const auto job, job_of(call));
  const auto text = words(job);
  Json body{{"id", call.vault_path + "/replicationOperationStatus/" + job.flow.id},
            {"name", job.flow.id},
            {"status", text.operation},
            {"startTime", arm_time(job.flow.started_at)},
            {"endTime", arm_time(job.flow.ended_at)}};
  const auto as_job = job_json(call, job);
  if (as_job.contains("error")) body["error"] = as_job["error"];
  auto response = ok(body);
  if (is_under_way(job)) response.headers.emplace_back("Retry-After", "1");
  return response;
}

Reply Rest::operation_result(Call& call) {
  FARSIDE_ASSIGN(const auto job, job_of(call));
  if (is_under_way(job)) {
    HttpResponse response{.status = 202};
    response.headers = {{"Location", "https://" + call.http.host + call.http.path +
                                         (call.http.query.empty() ? "" : "?" + call.http.query)},
                        {"Retry-After", "1"}};
    return response;
  }
  if (job.flow.phase != FlowPhase::succeeded) {
    auto error =
        error_of(job).value_or(Error{.code = ErrorCode::kCancelled, .what = "", .advice = ""});
    error.code = ErrorCode::kConflict;
    return fail(error.in(scenario_of(job.flow.workflow).friendly_name));
  }
  FARSIDE_ASSIGN(const auto item, catalog_.item_named(call.effects.store(), call["fabric"],
                                                      call["cloud"], call["item"]));
  if (!item) return no_content();
  return ok(item_json(call, *item));
}

}  // namespace farside::vault
