#include "cli/watch.h"

#include <fmt/format.h>

#include "cli/format.h"
#include "cli/job_watch.h"
#include "cli/session.h"

namespace farside::cli {
namespace {

std::string progress_of(const Json& item) {
  const double total = number(item, "properties.farside.bytesTotal");
  const std::string phase = text(item, "properties.farside.phase");
  if (total > 0 && (phase == "initial" || phase == "delta" || phase == "resync")) {
    return bar(number(item, "properties.farside.bytesDone"), total, 20);
  }
  return {};
}

// What is done with the item, or waits to be: a job, or a drill that nobody has ended.
std::string doing(const Json& item, const std::vector<Json>& jobs) {
  const std::string id = last_segment(text(item, "properties.currentScenario.jobId"));
  for (const Json& job : jobs) {
    if (text(job, "name") != id) continue;
    return text(job, "properties.friendlyName") +
           (waits_for_operator(job) ? ": WAITS FOR AN OPERATOR" : "");
  }
  const std::string scenario = text(item, "properties.currentScenario.scenarioName");
  if (!scenario.empty() && scenario != "None") return scenario;
  const bool is_drilled = text(item, "properties.testFailoverState") == "WaitingForCleanup";
  return is_drilled ? "test VM waits for clean-up" : "";
}

void add(std::string& out, const std::string& of, const std::string& what,
         const std::string& advice) {
  out += (of.empty() ? "" : of + ": ") + what + "\n";
  if (!advice.empty()) out += "  next: " + advice + "\n";
}

// Why items, and the vault as a whole, are not well.
std::string reasons(const Snapshot& snapshot) {
  std::string out;
  for (const Json& item : snapshot.items) {
    const std::string vm = text(item, "properties.friendlyName");
    const Json& errors = items(item, "properties.healthErrors");
    for (const Json& error : errors) {
      add(out, vm, text(error, "errorMessage"), text(error, "recommendedAction"));
    }
    if (const auto fault = text(item, "properties.farside.fault.what");
        errors.empty() && !fault.empty()) {
      add(out, vm, fault, text(item, "properties.farside.fault.advice"));
    }
  }
  for (const Json& reason : items(snapshot.vault, "properties.farside.reasons")) {
    if (!text(reason, "item").empty()) continue;
    add(out, "", text(reason, "message"), text(reason, "advice"));
  }
  return out;
}

}  // namespace

std::string picture(const Snapshot& snapshot, const View& view) {
  std::string out = fmt::format("{} UTC   {}\n", date_text(to_iso(view.now)), view.url);
  if (!view.no_answer.empty()) {
    const auto silent = std::chrono::duration_cast<std::chrono::seconds>(view.now - view.answered);
    out +=
        fmt::format("NO ANSWER since {} UTC, {}: {}; this is as it was then\n",
                    date_text(to_iso(view.answered)), seconds_text(silent.count()), view.no_answer);
  }
  std::vector<std::vector<std::string>> rows;
  for (const Json& item : snapshot.items) {
    rows.push_back({text(item, "properties.friendlyName"), route_of(item),
                    text(item, "properties.protectionStateDescription"),
                    text(item, "properties.replicationHealth"), doing(item, snapshot.jobs),
                    text(item, "properties.farside.phase"), progress_of(item),
                    age_text(text(item, "properties.farside.newestPointTime"), view.now),
                    bytes_text(number(item, "properties.farside.wireBytes"))});
  }
  const std::vector<std::string> headings{"VM",    "WHERE",    "STATE",        "HEALTH", "DOING",
                                          "PHASE", "PROGRESS", "NEWEST POINT", "SENT"};
  out += "\n";
  out += view.columns == 0
             ? table(headings, rows)
             : table_within(view.columns, {"SENT", "PHASE", "WHERE", "PROGRESS", "STATE"}, headings,
                            rows);
  if (const auto why = reasons(snapshot); !why.empty()) out += "\n" + why;
  for (const Json& job : snapshot.jobs) out += "\n" + job_lines(job);
  return out;
}

}  // namespace farside::cli
