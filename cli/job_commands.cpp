// Jobs: what has been asked for and how it went.
#include <fmt/format.h>

#include "cli/commands.h"
#include "cli/format.h"

namespace farside::cli {
namespace {

// A drill that nobody saw alive is not shown as one that succeeded.
std::string state_of(const Json& job) {
  const std::string description = text(job, "properties.stateDescription");
  return description.contains("not confirmed") ? description : text(job, "properties.state");
}

Status list_jobs(Session& session, const std::string& state) {
  QueryValues query;
  if (!state.empty()) query.emplace_back("$filter", "JobStatus eq '" + state + "'");
  FARSIDE_ASSIGN(const auto jobs,
                 session.vault.list(session.paths.under("replicationJobs"), query));
  std::vector<std::vector<std::string>> rows;
  for (const Json& job : jobs) {
    rows.push_back({text(job, "name"), text(job, "properties.friendlyName"),
                    text(job, "properties.targetObjectName"), state_of(job),
                    date_text(text(job, "properties.startTime")),
                    date_text(text(job, "properties.endTime"))});
  }
  session.show(jobs, table({"JOB", "WHAT", "OF", "STATE", "STARTED (UTC)", "ENDED (UTC)"}, rows));
  return {};
}

Status show_job(Session& session, const std::string& name) {
  FARSIDE_ASSIGN(const Json job, session.vault.get(session.paths.job(name)));
  std::string words = job_lines(job);
  for (const Json& error : items(job, "properties.errors")) {
    words += fmt::format("error: {} ({})\n", text(error, "serviceErrorDetails.message"),
                         text(error, "serviceErrorDetails.code"));
  }
  words += "next:  " + next_step(job) + "\n";
  session.show(job, words);
  return {};
}

Status wait_job(Session& session, const std::string& name) {
  session.wait = true;
  return session.finish(Outcome{.status = 202, .body = nullptr, .job = name}, "done");
}

void add_jobs(Commands& commands) {
  auto* jobs = commands.app.add_subcommand("jobs", "What has been asked for and how it went");
  jobs->require_subcommand(1);
  auto& state = commands.keep<std::string>();
  auto* list = jobs->add_subcommand("list", "All jobs, newest first");
  list->add_option("--state", state, "Only those of this state")
      ->check(CLI::IsMember(
          {"NotStarted", "InProgress", "Suspended", "Succeeded", "Failed", "Cancelled"}));
  commands.on(list, [&state](Session& session) { return list_jobs(session, state); });

  auto& shown = commands.keep<std::string>();
  auto* show = jobs->add_subcommand("show", "One job with its tasks");
  show->add_option("job", shown)->required();
  commands.on(show, [&shown](Session& session) { return show_job(session, shown); });

  auto& awaited = commands.keep<std::string>();
  auto* wait = jobs->add_subcommand("wait", "Follow a job until it ends or waits for an operator");
  wait->add_option("job", awaited)->required();
  commands.on(wait, [&awaited](Session& session) { return wait_job(session, awaited); });

  for (const std::string action : {"cancel", "restart"}) {
    auto& name = commands.keep<std::string>();
    auto* command = jobs->add_subcommand(
        action, action == "cancel" ? "Stop a job and undo it, or give up one that waits"
                                   : "Try a stopped job again");
    command->add_option("job", name)->required();
    commands.on(command, [&name, action](Session& session) {
      return session.finish(session.vault.send("POST", session.paths.job(name) + "/" + action),
                            "asked to " + action + " job " + name);
    });
  }
}

}  // namespace

void add_job_commands(Commands& commands) {
  add_jobs(commands);
}

}  // namespace farside::cli
