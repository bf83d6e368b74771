// Threads for blocking work.  A job is a message by value; what it returns is one too.
//
// Owns: its threads; the destructor waits for running jobs, so a job must have deadlines.
// Thread: start() and collect() belong to the reactor, post() to anyone.
#pragma once

#include <condition_variable>
#include <deque>
#include <functional>
#include <mutex>
#include <set>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#include "common/reactor/workers.h"

namespace farside::reactor {

class WorkerPool final : public Workers {
 public:
  // `run` is called on any of the threads; `wake` after each result, to end the reactor's wait.
  using Run = std::function<Result<msg::Message>(const std::string& id, const msg::Message&)>;
  // Jobs that must not wait behind long ones; nothing by default.
  using IsUrgent = std::function<bool(const msg::Message&)>;
  struct Limits {
    std::size_t threads = 8;
    std::size_t urgent_threads = 3;  // More threads, for urgent jobs only.
    std::size_t queue_max = 4096;    // Full: the job ends as kUnavailable.
    IsUrgent is_urgent = {};
  };
  WorkerPool(Limits limits, Run run, std::function<void()> wake);
  ~WorkerPool() override;

  void start(const std::string& id, msg::Message request) override;
  void collect(const OnResult& on_result) override;

  // Delivers a local request or a progress report as if a job had returned it.
  // Errors: kUnavailable when `queue_max` results wait to be collected.
  Status post(const std::string& id, Result<msg::Message> result);

 private:
  using Job = std::pair<std::string, msg::Message>;
  void work(bool urgent_only);
  Job next(bool urgent_only);

  Limits limits_;
  Run run_;
  std::function<void()> wake_;
  std::mutex mutex_;
  std::condition_variable ready_;
  bool stopping_ = false;
  std::deque<Job> queue_;
  std::deque<Job> urgent_;
  std::set<std::string> running_;
  std::deque<std::pair<std::string, Result<msg::Message>>> results_;
  std::vector<std::thread> threads_;
};

}  // namespace farside::reactor
