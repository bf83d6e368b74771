#include "common/reactor/worker_pool.h"

namespace farside::reactor {

WorkerPool::WorkerPool(Limits limits, Run run, std::function<void()> wake)
    : limits_(limits), run_(std::move(run)), wake_(std::move(wake)) {
  for (std::size_t i = 0; i < limits_.threads; ++i) {
    threads_.emplace_back([this] { work(); });
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
    if (queue_.size() >= limits_.queue_max) {
      results_.emplace_back(
          id, fail(ErrorCode::kUnavailable, "job '" + id + "': the queue of workers is full",
                   "it is repeated by itself; if this stays, look for a host that hangs"));
      return;
    }
    running_.insert(id);
    queue_.emplace_back(id, std::move(request));
  }
  ready_.notify_one();
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

void WorkerPool::work() {
  while (true) {
    std::pair<std::string, msg::Message> job;
    {
      std::unique_lock lock(mutex_);
      ready_.wait(lock, [this] { return stopping_ || !queue_.empty(); });
      if (stopping_) return;
      job = std::move(queue_.front());
      queue_.pop_front();
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
