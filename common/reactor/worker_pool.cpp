#include "common/reactor/worker_pool.h"

#include <pthread.h>

#include <algorithm>

#include "common/base/log.h"
#include "common/reactor/stacks.h"

namespace farside::reactor {

WorkerPool::WorkerPool(Limits limits, Run run, std::function<void()> wake)
    : limits_(std::move(limits)), run_(std::move(run)), wake_(std::move(wake)) {
  const std::lock_guard lock(mutex_);
  for (std::size_t i = 0; i < limits_.threads; ++i) add_thread(/*urgent_only=*/false);
  for (std::size_t i = 0; limits_.is_urgent && i < limits_.urgent_threads; ++i) {
    add_thread(/*urgent_only=*/true);
  }
  if (limits_.patience) {
    prepare_stacks();
    watch_ = std::thread([this] { watch(); });
  }
}

WorkerPool::~WorkerPool() {
  {
    const std::lock_guard lock(mutex_);
    stopping_ = true;
  }
  ready_.notify_all();
  look_.notify_all();
  if (watch_.joinable()) watch_.join();  // From here on nobody adds threads.
  for (auto& one : threads_) one.thread.join();
}

// Under the lock.
void WorkerPool::add_thread(bool urgent_only) {
  auto& self = threads_.emplace_back();
  self.thread = std::thread([this, &self, urgent_only] { work(self, urgent_only); });
}

void WorkerPool::start(const std::string& id, msg::Message request) {
  {
    const std::lock_guard lock(mutex_);
    if (running_.contains(id)) return;
    const auto hanging = abandoned_.find(id);
    if (hanging != abandoned_.end() && hanging->second >= limits_.repeats_max) {
      results_.emplace_back(
          id, fail(ErrorCode::kTimeout,
                   "job '" + id + "': " + std::to_string(hanging->second) + " tries of it hang",
                   "look at the host and its storage; it is repeated by itself"));
      return;
    }
    auto& queue = limits_.is_urgent && limits_.is_urgent(request) ? urgent_ : queue_;
    if (queue.size() >= limits_.queue_max) {
      results_.emplace_back(
          id, fail(ErrorCode::kUnavailable, "job '" + id + "': the queue of workers is full",
                   "it is repeated by itself; if this stays, look for a host that hangs"));
      return;
    }
    running_.insert(id);
    queue.emplace_back(id, std::move(request));
  }
  ready_.notify_all();  // Whoever is woken alone might not be one that may take it.
}

Status WorkerPool::post(const std::string& id, Result<msg::Message> result) {
  {
    const std::lock_guard lock(mutex_);
    if (results_.size() >= limits_.queue_max) {
      return fail(ErrorCode::kUnavailable, "request '" + id + "': too many are waiting",
                  "repeat it in a few seconds");
    }
    results_.emplace_back(id, std::move(result));
  }
  wake_();
  return {};
}

void WorkerPool::collect(const OnResult& on_result) {
  std::deque<std::pair<std::string, Result<msg::Message>>> taken;
  {
    const std::lock_guard lock(mutex_);
    taken.swap(results_);
  }
  for (auto& [id, result] : taken) on_result(id, std::move(result));
}

void WorkerPool::moved(const std::string& id, std::uint64_t done) {
  const std::lock_guard lock(mutex_);
  for (auto& job : at_work_) {
    if (job.id != id || job.abandoned || job.done == done) continue;
    job.done = done;
    if (!job.patience.by_progress) continue;
    job.since = std::chrono::steady_clock::now();
    if (std::exchange(job.overdue, false)) well_again(job);
  }
}

std::size_t WorkerPool::threads() const {
  const std::lock_guard lock(mutex_);
  return static_cast<std::size_t>(std::ranges::count(threads_, false, &Thread::ended));
}

WorkerPool::Job WorkerPool::next(bool urgent_only) {
  auto& queue = urgent_only || !urgent_.empty() ? urgent_ : queue_;
  auto job = std::move(queue.front());
  queue.pop_front();
  return job;
}

void WorkerPool::work(Thread& self, bool urgent_only) {
  pthread_setname_np(pthread_self(), urgent_only ? "urgent-worker" : "worker");
  while (true) {
    Job job;
    std::list<AtWork>::iterator mine;
    {
      std::unique_lock lock(mutex_);
      ready_.wait(
          lock, [&] { return stopping_ || !urgent_.empty() || (!urgent_only && !queue_.empty()); });
      if (stopping_) return;
      job = next(urgent_only);
      mine = at_work_.insert(at_work_.end(), AtWork{.id = job.first,
                                                    .name = std::string(msg::name_of(job.second)),
                                                    .since = std::chrono::steady_clock::now(),
                                                    .urgent_only = urgent_only});
      if (limits_.patience) mine->patience = limits_.patience(job.second);
    }
    auto result = run_(job.first, job.second);
    bool is_surplus = false;
    {
      // Results of jobs are bounded by the queue they came from, so they are never refused.
      const std::lock_guard lock(mutex_);
      if (mine->overdue) well_again(*mine);
      if (!mine->abandoned) {
        running_.erase(job.first);
        results_.emplace_back(job.first, std::move(result));
      } else if (--abandoned_[job.first] == 0) {
        abandoned_.erase(job.first);
      }
      is_surplus = mine->replaced;
      if (is_surplus) {
        --replacements_;
        self.ended = true;
      }
      at_work_.erase(mine);
    }
    wake_();
    if (is_surplus) return;
  }
}

// ---- Jobs that take longer than they may

void WorkerPool::watch() {
  pthread_setname_np(pthread_self(), "job-watch");
  while (true) {
    {
      std::unique_lock lock(mutex_);
      if (look_.wait_for(lock, limits_.look_every, [this] { return stopping_; })) return;
    }
    // Once for all that are found together.
    if (judge()) write_past_the_log(stacks_of_all_threads());
  }
}

// True if there is a job that has just become overdue.
bool WorkerPool::judge() {
  std::list<Thread> ended;
  bool any = false;
  {
    const std::lock_guard lock(mutex_);
    const auto now = std::chrono::steady_clock::now();
    for (auto& job : at_work_) {
      if (job.overdue || job.patience.max == Micros{0}) continue;
      const auto taken = now - job.since;
      if (taken < job.patience.max) continue;
      declare_overdue(job, std::chrono::duration_cast<std::chrono::seconds>(taken));
      any = true;
    }
    for (auto it = threads_.begin(); it != threads_.end();) {
      const auto one = it++;
      if (one->ended) ended.splice(ended.end(), threads_, one);
    }
  }
  if (any) wake_();
  for (auto& one : ended) one.thread.join();
  return any;
}

// Under the lock.
void WorkerPool::declare_overdue(AtWork& job, std::chrono::seconds for_so_long) {
  job.overdue = true;
  std::string problem = job.name + (job.patience.of.empty() ? "" : " of " + job.patience.of) +
                        (job.patience.by_progress ? " has not got on for " : " is at work for ") +
                        std::to_string(for_so_long.count()) + " s";
  if (!job.replaced) {
    if (replacements_ < limits_.replacements_max) {
      ++replacements_;
      job.replaced = true;
      add_thread(job.urgent_only);
    } else {
      problem += "; its worker is lost to other jobs, " + std::to_string(replacements_) +
                 " others hang as well";
    }
  }
  if (job.patience.may_repeat && !job.abandoned) {
    job.abandoned = true;
    ++abandoned_[job.id];
    running_.erase(job.id);
    results_.emplace_back(job.id,
                          fail(ErrorCode::kTimeout, problem,
                               "look at the host and its storage; it is repeated by itself"));
  }
  log::error("job overdue", {{"job", job.id}, {"problem", problem}});
  if (limits_.on_problem) limits_.on_problem("job " + job.id, problem);
}

// Under the lock.  As long as another try of the same job hangs, so does the job.
void WorkerPool::well_again(const AtWork& job) {
  const bool another = std::ranges::any_of(at_work_, [&](const AtWork& other) {
    return &other != &job && other.id == job.id && other.overdue;
  });
  log::warn("job goes on", {{"job", job.id}});
  if (!another && limits_.on_problem) limits_.on_problem("job " + job.id, "");
}

}  // namespace farside::reactor
