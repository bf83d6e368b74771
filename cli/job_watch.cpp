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
  explicit Plain(std::ostream& out) : out_(out) {}

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
      out_ << "  " << text(task, "friendlyName") << ": " << state
           << (progress.empty() ? "" : ", " + progress) << (note.empty() ? "" : " (" + note + ")")
           << "\n"
           << std::flush;
    }
    if (const std::string state = text(job, "properties.state");
        state == "Suspended" && !suspended_) {
      suspended_ = true;
      out_ << "  " << text(job, "properties.stateDescription")
           << ": see `farside jobs show`, then `farside jobs restart`\n";
    }
  }

 private:
  std::ostream& out_;
  std::map<std::string, std::pair<std::string, int>> shown_;
  bool suspended_ = false;
};

}  // namespace

bool has_ended(const Json& job) {
  const std::string state = text(job, "properties.state");
  return state != "NotStarted" && state != "InProgress" && state != "Suspended" &&
         state != "Cancelling";
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
  }
  return lines;
}

Result<Json> wait_for_job(VaultClient& vault, const Paths& paths, const std::string& job,
                          Screen& screen, const Clock& clock, bool quiet) {
  Plain plain(screen.out());
  Micros ask_after = kAskFirst;
  Micros answered = clock.monotonic();
  bool told_unreachable = false;
  bool told_name = false;
  while (true) {
    auto got = vault.get(paths.job(job));
    if (!got && got.error().code == ErrorCode::kUnavailable &&
        clock.monotonic() - answered < kUnreachableMax) {
      if (!quiet && !std::exchange(told_unreachable, true)) {
        screen.out() << "  the vault does not answer; the job goes on, asking again\n"
                     << std::flush;
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
        if (!std::exchange(told_name, true)) screen.out() << title(*got) << ", job " << job << "\n";
        plain.show(*got);
      }
    }
    if (has_ended(*got)) {
      screen.keep();
      return got;
    }
    pause_for(ask_after);
    ask_after = std::min(kAskEvery, ask_after * 2);
  }
}

Error error_of_job(const Json& job) {
  Error error{.code = ErrorCode::kPlatform,
              .what = fmt::format("{}: {}", title(job), text(job, "properties.state")),
              .advice = "see `farside jobs show " + text(job, "name") + "`"};
  const Json* found = nullptr;
  for (const Json& one : items(job, "properties.errors")) found = &one;
  for (const Json& task : items(job, "properties.tasks")) {
    if (found != nullptr) break;
    for (const Json& one : items(task, "errors")) found = &one;
  }
  if (found == nullptr) return error;
  error.what += fmt::format(": {} ({})", text(*found, "serviceErrorDetails.message"),
                            text(*found, "serviceErrorDetails.code"));
  if (const auto advice = text(*found, "serviceErrorDetails.recommendedAction"); !advice.empty()) {
    error.advice = advice;
  }
  return error;
}

}  // namespace farside::cli
