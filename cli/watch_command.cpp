// `farside watch`: asks, draws, and goes on drawing while nothing answers.
#include <algorithm>
#include <optional>

#include "cli/commands.h"
#include "cli/format.h"
#include "cli/watch.h"

namespace farside::cli {
namespace {

constexpr std::chrono::milliseconds kAnswerWithin{5'000};
constexpr Micros kDrawEvery = std::chrono::seconds{1};
constexpr Micros kStaleAfter = std::chrono::seconds{3};  // A request that takes longer.
constexpr std::size_t kJobsMax = 20;  // Of items; beyond those that the vault lists as running.

struct Options {
  int interval = 2;
  bool once = false;
};

Result<Snapshot> ask(Session& session) {
  Snapshot out;
  FARSIDE_ASSIGN(out.items, session.vault.list(session.paths.under("replicationProtectedItems")));
  FARSIDE_ASSIGN(out.jobs, session.vault.list(session.paths.under("replicationJobs"),
                                              {{"$filter", "JobStatus eq 'InProgress'"}}));
  // Those that wait for an operator do not run, and are what somebody has to see.
  std::size_t more = 0;
  for (const Json& item : out.items) {
    const std::string id = last_segment(text(item, "properties.currentScenario.jobId"));
    const bool is_known =
        std::ranges::any_of(out.jobs, [&](const Json& job) { return text(job, "name") == id; });
    if (id.empty() || id == "None" || is_known || ++more > kJobsMax) continue;
    if (auto job = session.vault.get(session.paths.job(id))) out.jobs.push_back(std::move(*job));
  }
  if (auto vault = session.vault.get(session.paths.vault())) out.vault = std::move(*vault);
  return out;
}

// A vault that restarts or is busy is part of what one watches for.
bool goes_on_after(const Error& error) {
  return error.code == ErrorCode::kUnavailable || error.code == ErrorCode::kTimeout ||
         error.code == ErrorCode::kPlatform;
}

class Watcher final {
 public:
  explicit Watcher(Session& session)
      : session_(session),
        answered_(session.clock.now()),
        asked_(session.clock.monotonic()),
        drawn_(asked_ - kDrawEvery) {}

  // Until interrupted, or until the vault says that it makes no sense to go on.
  Status run(std::chrono::seconds interval) {
    session_.vault.be_impatient(kAnswerWithin, [this] { draw_if_due(); });
    while (true) {
      asked_ = session_.clock.monotonic();
      is_asking_ = true;
      auto got = ask(session_);
      is_asking_ = false;
      if (got) {
        last_ = std::move(*got);
        answered_ = session_.clock.now();
      } else if (!goes_on_after(got.error())) {
        return fail(got.error());
      }
      problem_ = got ? "" : got.error().what;
      draw();
      const auto until = session_.clock.monotonic() + interval;
      while (session_.clock.monotonic() < until) {
        pause_for(std::min<Micros>(kDrawEvery, until - session_.clock.monotonic()));
        draw_if_due();
      }
    }
  }

 private:
  void draw_if_due() {
    if (session_.clock.monotonic() - drawn_ >= kDrawEvery) draw();
  }
  void draw() {
    drawn_ = session_.clock.monotonic();
    if (problem_.empty() && is_asking_ && drawn_ - asked_ > kStaleAfter) {
      problem_ = "the vault does not answer";
    }
    if (!last_ && problem_.empty()) return;
    session_.screen.redraw(
        picture(last_.value_or(Snapshot{}), {.url = session_.settings.url,
                                             .now = session_.clock.now(),
                                             .no_answer = problem_,
                                             .answered = answered_,
                                             .columns = session_.screen.columns() - 1}));
  }

  Session& session_;
  std::optional<Snapshot> last_;
  Time answered_;
  std::string problem_;
  Micros asked_;  // Monotonic, like the next.
  Micros drawn_;
  bool is_asking_ = false;
};

// Where nobody looks at a terminal, one picture is all there is to show.
Status watch(Session& session, const Options& options) {
  if (session.settings.json) {
    FARSIDE_ASSIGN(const auto all,
                   session.vault.list(session.paths.under("replicationProtectedItems")));
    session.show(all, "");
    return {};
  }
  if (session.screen.is_terminal() && !options.once) {
    return Watcher(session).run(std::chrono::seconds{options.interval});
  }
  FARSIDE_ASSIGN(const auto snapshot, ask(session));
  session.screen.say(picture(snapshot, {.url = session.settings.url,
                                        .now = session.clock.now(),
                                        .no_answer = {},
                                        .answered = session.clock.now()}));
  return {};
}

}  // namespace

void add_watch_command(Commands& commands) {
  auto& options = commands.keep<Options>();
  auto* live = commands.app.add_subcommand("watch", "Everything protected, as it goes on");
  live->add_option("--interval", options.interval, "Seconds between pictures")
      ->check(CLI::Range(1, 3600))
      ->capture_default_str();
  live->add_flag("--once", options.once, "One picture");
  commands.on(live, [&options](Session& session) { return watch(session, options); });
}

}  // namespace farside::cli
