#include "cli/job_watch.h"

#include <fmt/format.h>

#include <map>

#include "cli/format.h"

namespace farside::cli {
namespace {

constexpr Micros kAskFirst = std::chrono::milliseconds(200);
constexpr Micros kAskEvery = std::chrono::seconds(1);
constexpr Micros kUnreachableMax = std::chrono::minutes(2);
constexpr std::size_t kBarWidth = 30;

std::string task_state(const Json& task) {
  const std::string state = text(task, "state");
  return state == "Other" ? text(task, "stateDescription") : state;
}

std::string progress_text(const Json& task, bool with_bar) {
  const double done = number(task, "farside.progress.done");
  const double total = number(task, "farside.progress.total");
  if (total <= 0) return {};
  const std::string amount = bytes_text(done) + " of " + bytes_text(total);
  return with_bar ? bar(done, total, kBarWidth) + "  " + amount
                  : fmt::format("{:.0f} % ({})", 100 * done / total, amount);
}

std::string title(const Json& job) {
  const std::string target = text(job, "properties.targetObjectName");
  return text(job, "properties.friendlyName") + (target.empty() ? "" : " of " + target);
}

// For those who read a log: one line for each change, and for each tenth of a long task.
class Plain final {
 public:
  explicit Plain(Screen& screen) : screen_(screen) {}

  void show(const Json& job) {
    for (const Json& task : items(job, "properties.tasks")) {
      const std::string state = task_state(task);
      const double total = number(task, "farside.progress.total");
      const int tenth = total > 0 && state == "InProgress"
                            ? static_cast<int>(10 * number(task, "farside.progress.done") / total)
                            : 0;
      auto& shown = shown_[text(task, "taskId")];
      if (state == "NotStarted" || shown == std::pair(state, tenth)) continue;
      shown = {state, tenth};
      const std::string progress = state == "InProgress" ? progress_text(task, false) : "";
      const std::string note = text(task, "farside.note");
      screen_.say(fmt::format("  {}: {}{}{}\n", text(task, "friendlyName"), state,
                              progress.empty() ? "" : ", " + progress,
                              note.empty() ? "" : " (" + note + ")"));
    }
    if (waits_for_operator(job)) {
      screen_.say("  " + text(job, "properties.stateDescription") + "\n");
    }
  }

 private:
  Screen& screen_;
  std::map<std::string, std::pair<std::string, int>> shown_;
};

// The error that a job stands at: of what could not be undone, of itself, of a task.
const Json* error_in(const Json& job) {
  for (const Json& task : items(job, "properties.tasks")) {
    if (text(task, "stateDescription") != "Could not be undone") continue;
    for (const Json& one : items(task, "errors")) return &one;  // Undone last, so first in order.
  }
  const Json* found = nullptr;
  for (const Json& one : items(job, "properties.errors")) found = &one;
  for (const Json& task : items(job, "properties.tasks")) {
    if (found != nullptr) break;
    for (const Json& one : items(task, "errors")) found = &one;
  }
  return found;
}

std::string advice_in(const Json* error) {
  return error == nullptr ? "" : text(*error, "serviceErrorDetails.recommendedAction");
}

}  // namespace

bool has_ended(const Json& job) {
  const std::string state = text(job, "properties.state");
  return state != "NotStarted" && state != "InProgress" && state != "Suspended" &&
         state != "Cancelling";
}

bool waits_for_operator(const Json& job) {
  return text(job, "properties.state") == "Suspended";
}

bool has_succeeded(const Json& job) {
  return has_ended(job) && text(job, "properties.state").starts_with("Succeeded");
}

std::string job_lines(const Json& job) {
  std::string lines = fmt::format("{}: {}\n", title(job),
                                  text(job, "properties.stateDescription").empty()
                                      ? text(job, "properties.state")
                                      : text(job, "properties.stateDescription"));
  for (const Json& task : items(job, "properties.tasks")) {
    const std::string state = task_state(task);
    std::string mark = "     ";
    if (state == "Succeeded") mark = "[ok] ";
    if (state == "InProgress") mark = "[..] ";
    if (state.starts_with("Failed") || state.starts_with("Could")) mark = "[!!] ";
    lines += mark + text(task, "friendlyName");
    if (state == "InProgress") {
      if (const std::string progress = progress_text(task, true); !progress.empty()) {
        lines += "  " + progress;
      }
    } else if (state != "Succeeded" && state != "NotStarted") {
      lines += ": " + state;
    }
    if (const std::string note = text(task, "farside.note"); !note.empty()) {
      lines += " (" + note + ")";
    }
    lines += "\n";
    for (const Json& error : items(task, "errors")) {
      if (state != "InProgress") break;
      lines += "     tried again after: " + text(error, "serviceErrorDetails.message") + "\n";
    }
  }
  return lines;
}

Result<Json> wait_for_job(VaultClient& vault, const Paths& paths, const std::string& job,
                          Screen& screen, const Clock& clock, bool quiet) {
  Plain plain(screen);
  Micros ask_after = kAskFirst;
  Micros answered = clock.monotonic();
  bool told_unreachable = false;
  bool told_name = false;
  while (true) {
    auto got = vault.get(paths.job(job));
    if (!got && got.error().code == ErrorCode::kUnavailable &&
        clock.monotonic() - answered < kUnreachableMax) {
      if (!quiet && !std::exchange(told_unreachable, true)) {
        screen.say("  the vault does not answer; the job goes on, asking again\n");
        screen.keep();
      }
      pause_for(kAskEvery);
      continue;
    }
    if (!got) return got;
    answered = clock.monotonic();
    told_unreachable = false;
    if (!quiet) {
      if (screen.is_terminal()) {
        screen.redraw(job_lines(*got));
      } else {
        if (!std::exchange(told_name, true)) screen.say(title(*got) + ", job " + job + "\n");
        plain.show(*got);
      }
    }
    if (has_ended(*got) || waits_for_operator(*got)) {
      screen.keep();
      return got;
    }
    pause_for(ask_after);
    ask_after = std::min(kAskEvery, ask_after * 2);
  }
}

Error error_of_job(const Json& job) {
  const bool waits = waits_for_operator(job);
  Error error{
      .code = ErrorCode::kPlatform,
      .what = fmt::format("{}: {}", title(job),
                          waits ? "it waits for an operator" : text(job, "properties.state")),
      .advice = next_step(job)};
  if (const Json* found = error_in(job); found != nullptr) {
    error.what += fmt::format(": {} ({})", text(*found, "serviceErrorDetails.message"),
                              text(*found, "serviceErrorDetails.code"));
  }
  return error;
}

std::string next_step(const Json& job) {
  const std::string id = text(job, "name");
  const std::string vm = text(job, "properties.targetObjectName");
  const std::string advice = advice_in(error_in(job));
  if (waits_for_operator(job)) {
    return (advice.empty() ? "remove the cause that its tasks tell" : advice) +
           ", then `farside jobs restart " + id + "`";
  }
  if (!has_ended(job)) {
    return advice.empty() ? "follow it with `farside jobs wait " + id + "`"
                          : "it is tried again by itself; to help it: " + advice;
  }
  if (!has_succeeded(job)) {
    return advice.empty() ? "see `farside jobs show " + id + "`, then start it again" : advice;
  }
  const std::string scenario = text(job, "properties.scenarioName");
  if (scenario == "PlannedFailover") {
    return "look at the VM at the other site, then `farside commit " + vm + "`";
  }
  if (scenario == "TestFailover") return "look at the test VM, then `farside cleanup " + vm + "`";
  if (scenario == "EnableDr") return "try it with `farside test-failover " + vm + "`";
  return "nothing, it is done";
}

}  // namespace farside::cli
