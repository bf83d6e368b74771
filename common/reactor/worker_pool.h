// Threads for blocking work.  A job is a message by value; what it returns is one too.
//
// A job that takes longer than it may is told of, with the stacks of all threads, and a fresh
// thread takes its place, so that those behind it do not wait for a host that hangs.  When it ends
// after all, the problem is gone and its own thread, now one too many, ends.
//
// Owns: its threads; the destructor waits for running jobs, so a job must have deadlines (and the
// process a watchdog).  Thread: start() and collect() belong to the reactor, the rest to anyone.
#pragma once

#include <chrono>
#include <condition_variable>
#include <cstdint>
#include <deque>
#include <functional>
#include <list>
#include <map>
#include <mutex>
#include <set>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#include "common/base/clock.h"
#include "common/reactor/workers.h"

namespace farside::reactor {

// How long a job may take.
struct Patience {
  Micros max{0};             // 0: for ever.
  bool by_progress = false;  // Counts since the job last got on instead of since it began.
  // Past `max` the job has failed as kTimeout for whoever started it, and may be tried again
  // beside the one that hangs; what that one returns is dropped.
  bool may_repeat = false;
  std::string of;  // The item and its volume or host, for the operator.
};

class WorkerPool final : public Workers {
 public:
  // `run` is called on any of the threads; `wake` after each result, to end the reactor's wait.
  using Run = std::function<Result<msg::Message>(const std::string& id, const msg::Message&)>;
  // Jobs that must not wait behind long ones; nothing by default.
  using IsUrgent = std::function<bool(const msg::Message&)>;
  using PatienceFor = std::function<Patience(const msg::Message&)>;
  // "job cycle/7f…" is in trouble, or well again when `problem` is empty.  Must not call the pool.
  using OnProblem = std::function<void(const std::string& part, const std::string& problem)>;
  struct Limits {
    std::size_t threads = 8;
    std::size_t urgent_threads = 3;  // More threads, for urgent jobs only.
    std::size_t queue_max = 4096;    // Full: the job ends as kUnavailable.
    // Threads in the place of jobs that hang.  Full: the place is lost until one of them ends.
    std::size_t replacements_max = 16;
    std::size_t repeats_max = 2;  // Of one job beside those that hang.  Full: it ends as kTimeout.
    Micros look_every = std::chrono::seconds{1};
    IsUrgent is_urgent = {};
    PatienceFor patience = {};  // By default for ever.
    OnProblem on_problem = {};
  };
  WorkerPool(Limits limits, Run run, std::function<void()> wake);
  ~WorkerPool() override;

  void start(const std::string& id, msg::Message request) override;
  void collect(const OnResult& on_result) override;

  // The job is at work: `done` of whatever it counts.  Only a change counts as getting on.
  void moved(const std::string& id, std::uint64_t done);

  // Delivers a local request or a progress report as if a job had returned it.
  // Errors: kUnavailable when `queue_max` results wait to be collected.
  Status post(const std::string& id, Result<msg::Message> result);

  std::size_t threads() const;  // Now, those that hang included.

 private:
  using Job = std::pair<std::string, msg::Message>;
  using Moment = std::chrono::steady_clock::time_point;
  struct AtWork {
    std::string id;
    std::string name;  // Of the message.
    Patience patience;
    Moment since;
    std::uint64_t done = 0;
    bool urgent_only = false;
    bool overdue = false;
    bool replaced = false;   // Its thread ends with it.
    bool abandoned = false;  // Its result was given up.
  };
  struct Thread {
    std::thread thread;
    bool ended = false;
  };
  void add_thread(bool urgent_only);
  void work(Thread& self, bool urgent_only);
  Job next(bool urgent_only);
  void watch();
  bool judge();
  void declare_overdue(AtWork& job, std::chrono::seconds for_so_long);
  void well_again(const AtWork& job);

  Limits limits_;
  Run run_;
  std::function<void()> wake_;
  mutable std::mutex mutex_;  // Of all that follows.
  std::condition_variable ready_;
  std::condition_variable look_;
  bool stopping_ = false;
  std::deque<Job> queue_;
  std::deque<Job> urgent_;
  std::set<std::string> running_;
  std::map<std::string, std::size_t> abandoned_;  // By id: jobs that hang and were given up.
  std::list<AtWork> at_work_;
  std::size_t replacements_ = 0;
  std::deque<std::pair<std::string, Result<msg::Message>>> results_;
  std::list<Thread> threads_;
  std::thread watch_;
};

}  // namespace farside::reactor
