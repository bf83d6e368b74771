// What goes on: jobs, and a live view of everything protected.
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
  session.show(jobs, table({"JOB", "WHAT", "OF", "STATE", "STARTED", "ENDED"}, rows));
  return {};
}

Status show_job(Session& session, const std::string& name) {
  FARSIDE_ASSIGN(const Json job, session.vault.get(session.paths.job(name)));
  std::string words = job_lines(job);
  const auto add_error = [&](const Json& error) {
    words += fmt::format("error: {} ({})\nnext:  {}\n", text(error, "serviceErrorDetails.message"),
                         text(error, "serviceErrorDetails.code"),
                         text(error, "serviceErrorDetails.recommendedAction"));
  };
  for (const Json& error : items(job, "properties.errors")) add_error(error);
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
  list->add_option("--state", state, "Only those InProgress, Failed, Succeeded, …");
  commands.on(list, [&state](Session& session) { return list_jobs(session, state); });

  auto& shown = commands.keep<std::string>();
  auto* show = jobs->add_subcommand("show", "One job with its tasks");
  show->add_option("job", shown)->required();
  commands.on(show, [&shown](Session& session) { return show_job(session, shown); });

  auto& awaited = commands.keep<std::string>();
  auto* wait = jobs->add_subcommand("wait", "Follow a job until it ends");
  wait->add_option("job", awaited)->required();
  commands.on(wait, [&awaited](Session& session) { return wait_job(session, awaited); });

  for (const std::string action : {"cancel", "restart"}) {
    auto& name = commands.keep<std::string>();
    auto* command = jobs->add_subcommand(
        action, action == "cancel" ? "Stop a job and undo it" : "Try a stopped job again");
    command->add_option("job", name)->required();
    commands.on(command, [&name, action](Session& session) {
      return session.finish(session.vault.send("POST", session.paths.job(name) + "/" + action),
                            "asked to " + action + " job " + name);
    });
  }
}

std::string item_progress(const Json& item) {
  const double total = number(item, "properties.farside.bytesTotal");
  const std::string phase = text(item, "properties.farside.phase");
  if (total > 0 && (phase == "initial" || phase == "delta" || phase == "resync")) {
    return bar(number(item, "properties.farside.bytesDone"), total, 20);
  }
  return {};
}

Result<std::string> picture(Session& session) {
  FARSIDE_ASSIGN(const auto protected_items,
                 session.vault.list(session.paths.under("replicationProtectedItems")));
  FARSIDE_ASSIGN(const auto jobs, session.vault.list(session.paths.under("replicationJobs"),
                                                     {{"$filter", "JobStatus eq 'InProgress'"}}));
  const Time now = session.clock.now();
  std::vector<std::vector<std::string>> rows;
  std::string faults;
  for (const Json& item : protected_items) {
    const std::string vm = text(item, "properties.friendlyName");
    rows.push_back({vm, route_of(item), text(item, "properties.protectionStateDescription"),
                    text(item, "properties.replicationHealth"),
                    text(item, "properties.farside.phase"), item_progress(item),
                    age_text(text(item, "properties.farside.newestPointTime"), now),
                    bytes_text(number(item, "properties.farside.wireBytes"))});
    if (const auto fault = text(item, "properties.farside.fault.what"); !fault.empty()) {
      faults +=
          vm + ": " + fault + "\n  next: " + text(item, "properties.farside.fault.advice") + "\n";
    }
  }
  std::string out = fmt::format("{} UTC   {}\n\n", date_text(to_iso(now)), session.settings.url);
  out +=
      table({"VM", "WHERE", "STATE", "HEALTH", "PHASE", "PROGRESS", "NEWEST POINT", "SENT"}, rows);
  if (!faults.empty()) out += "\n" + faults;
  for (const Json& job : jobs) out += "\n" + job_lines(job);
  return out;
}

struct Watch {
  int interval = 2;
  bool once = false;
};

// Until interrupted; where nobody looks at a terminal, one picture is all there is to show.
Status watch(Session& session, const Watch& options) {
  const bool once = options.once || !session.screen.is_terminal();
  while (true) {
    if (session.settings.json) {
      FARSIDE_ASSIGN(const auto all,
                     session.vault.list(session.paths.under("replicationProtectedItems")));
      session.show(all, "");
      return {};
    }
    const auto drawn = picture(session);
    if (once) {
      if (!drawn) return fail(drawn.error());
      session.screen.out() << *drawn;
      return {};
    }
    // A vault that restarts is part of what one watches for.
    if (!drawn && drawn.error().code != ErrorCode::kUnavailable) return fail(drawn.error());
    session.screen.redraw(drawn ? *drawn : drawn.error().what + "\n");
    pause_for(std::chrono::seconds(options.interval));
  }
}

}  // namespace

void add_job_commands(Commands& commands) {
  add_jobs(commands);
  auto& options = commands.keep<Watch>();
  auto* live = commands.app.add_subcommand("watch", "Everything protected, as it goes on");
  live->add_option("--interval", options.interval, "Seconds between pictures")
      ->check(CLI::Range(1, 3600))
      ->capture_default_str();
  live->add_flag("--once", options.once, "One picture");
  commands.on(live, [&options](Session& session) { return watch(session, options); });
}

}  // namespace farside::cli
