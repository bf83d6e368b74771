#include "common/reactor/worker_pool.h"

namespace farside::reactor {

WorkerPool::WorkerPool(Limits limits, Run run, std::function<void()> wake)
    : limits_(limits), run_(std::move(run)), wake_(std::move(wake)) {
  for (std::size_t i = 0; i < limits_.threads; ++i) {
    threads_.emplace_back([this] { work(/*urgent_only=*/false); });
  }
  for (std::size_t i = 0; limits_.is_urgent && i < limits_.urgent_threads; ++i) {
    threads_.emplace_back([this] { work(/*urgent_only=*/true); });
  }
}

WorkerPool::~WorkerPool() {
  {
    const std::lock_guard lock(mutex_);
    stopping_ = true;
  }
  ready_.notify_all();
  for (auto& thread : threads_) thread.join();
}

void WorkerPool::start(const std::string& id, msg::Message request) {
  {
    const std::lock_guard lock(mutex_);
    if (running_.contains(id)) return;
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

WorkerPool::Job WorkerPool::next(bool urgent_only) {
  auto& queue = urgent_only || !urgent_.empty() ? urgent_ : queue_;
  auto job = std::move(queue.front());
  queue.pop_front();
  return job;
}

void WorkerPool::work(bool urgent_only) {
  while (true) {
    Job job;
    {
      std::unique_lock lock(mutex_);
      ready_.wait(
          lock, [&] { return stopping_ || !urgent_.empty() || (!urgent_only && !queue_.empty()); });
      if (stopping_) return;
      job = next(urgent_only);
    }
    auto result = run_(job.first, job.second);
    {
      // Results of jobs are bounded by the queue they came from, so they are never refused.
      const std::lock_guard lock(mutex_);
      running_.erase(job.first);
      results_.emplace_back(job.first, std::move(result));
    }
    wake_();
  }
}

}  // namespace farside::reactor
