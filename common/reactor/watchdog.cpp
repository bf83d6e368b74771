#include "common/reactor/watchdog.h"

#include <pthread.h>
#include <unistd.h>

#include <algorithm>
#include <csignal>
#include <set>

#include "common/reactor/stacks.h"

namespace farside::reactor {
namespace {

constexpr unsigned kLastWordsSeconds = 30;

std::atomic<bool> is_asked = false;
static_assert(std::atomic<bool>::is_always_lock_free);

void on_quit(int) {
  is_asked = true;
}

struct Beats {
  std::mutex mutex;
  std::set<Beat*> all;
};

Beats& beats() {
  static Beats instance;
  return instance;
}

}  // namespace

Beat::Beat(std::string what) : what_(std::move(what)) {
  const std::lock_guard lock(beats().mutex);
  beats().all.insert(this);
}

Beat::~Beat() {
  const std::lock_guard lock(beats().mutex);
  beats().all.erase(this);
}

void end_with_stacks(const std::string& why) {
  // Should the last words themselves hang, the kernel ends us.
  std::signal(SIGALRM, SIG_DFL);
  sigset_t alarm_only;
  sigemptyset(&alarm_only);
  sigaddset(&alarm_only, SIGALRM);
  pthread_sigmask(SIG_UNBLOCK, &alarm_only, nullptr);
  ::alarm(kLastWordsSeconds);
  write_past_the_log("watchdog: " + why +
                     "; the process ends and is to be started again.  Its threads:\n");
  write_past_the_log(stacks_of_all_threads());
  ::_exit(kStalledExitStatus);
}

Watchdog::Watchdog(Options options, const Clock& clock)
    : options_(std::move(options)), clock_(clock) {
  prepare_stacks();
  std::signal(SIGQUIT, on_quit);
  thread_ = std::thread([this] { run(); });
}

Watchdog::~Watchdog() {
  {
    const std::lock_guard lock(mutex_);
    stopping_ = true;
  }
  wake_.notify_all();
  thread_.join();
}

void Watchdog::run() {
  pthread_setname_np(pthread_self(), "watchdog");
  Micros last = clock_.monotonic();
  std::unique_lock lock(mutex_);
  while (!wake_.wait_for(lock, options_.look_every, [this] { return stopping_; })) {
    if (is_asked.exchange(false)) {
      write_past_the_log("asked where the threads stand:\n" + stacks_of_all_threads());
    }
    const Micros now = clock_.monotonic();
    const Micros awake = std::min(now - last, 2 * options_.look_every);
    last = now;
    const std::string standing = look(awake);
    if (standing.empty()) continue;
    if (!options_.on_stall) {
      const auto seconds = std::chrono::ceil<std::chrono::seconds>(options_.stands_max).count();
      end_with_stacks(standing + " has stood for " + std::to_string(seconds) + " s");
    }
    options_.on_stall(standing);
  }
}

// The names of the loops that have stood for too long.
std::string Watchdog::look(Micros awake) {
  std::string standing;
  std::map<const Beat*, Seen> seen;
  const std::lock_guard lock(beats().mutex);
  for (const Beat* const beat : beats().all) {
    const std::uint64_t count = beat->count_.load(std::memory_order_relaxed);
    const auto before = seen_.find(beat);
    Seen now{.count = count};
    if (before != seen_.end() && before->second.count == count) {
      now.stood = before->second.stood + awake;
    }
    if (now.stood >= options_.stands_max) {
      standing += (standing.empty() ? "" : ", ") + beat->what_;
      now.stood = Micros{0};  // Said once per patience.
    }
    seen.emplace(beat, now);
  }
  seen_ = std::move(seen);
  return standing;
}

}  // namespace farside::reactor
