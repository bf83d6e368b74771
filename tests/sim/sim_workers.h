// Workers on a schedule: a job takes a while, may fail, and dies with its process.
//
// Thread: one.
#pragma once

#include <functional>
#include <map>
#include <string>
#include <tuple>
#include <vector>

#include "common/base/random.h"
#include "common/reactor/workers.h"
#include "tests/sim/sim_clock.h"

namespace farside::sim {

class SimWorkers final : public reactor::Workers {
 public:
  // A job in two halves, so that the world can move on between them: what `begin` returns runs
  // when the job's time is over.
  using End = std::function<Result<msg::Message>()>;
  using Begin = std::function<End(const msg::Message&)>;

  SimWorkers(const SimClock& clock, Random& random, Begin begin, double failure, Micros time_max)
      : clock_(clock),
        random_(random),
        begin_(std::move(begin)),
        failure_(failure),
        time_max_(time_max) {}

  void start(const std::string& id, msg::Message request) override {
    if (running_.contains(id)) return;
    const auto time = random_.below(static_cast<std::uint64_t>(time_max_.count()) + 1);
    running_[id] = Job{.end = begin_(request),
                       .at = clock_.monotonic() + Micros{static_cast<std::int64_t>(time)},
                       .fails = random_.chance(failure_)};
  }

  void collect(const OnResult& on_result) override {
    std::vector<std::pair<std::string, Result<msg::Message>>> done;
    for (auto at = running_.begin(); at != running_.end();) {
      if (at->second.at > clock_.monotonic()) {
        ++at;
        continue;
      }
      done.emplace_back(at->first, finish(at->second));
      at = running_.erase(at);
    }
    for (auto& [id, result] : posted_) done.emplace_back(id, std::move(result));
    posted_.clear();
    for (auto& [id, result] : done) on_result(id, std::move(result));
  }

  void post(const std::string& id, msg::Message message) {
    posted_.emplace_back(id, std::move(message));
  }

 private:
  struct Job;
  // A failure may come after the deed: its caller cannot know.
  Result<msg::Message> finish(const Job& job) {
    if (!job.fails) return job.end();
    if (random_.chance(0.5)) std::ignore = job.end();
    return fail(ErrorCode::kPlatform, "injected failure");
  }

  struct Job {
    End end;
    Micros at{};
    bool fails = false;
  };
  const SimClock& clock_;
  Random& random_;
  Begin begin_;
  double failure_;
  Micros time_max_;
  std::map<std::string, Job> running_;
  std::vector<std::pair<std::string, Result<msg::Message>>> posted_;
};

}  // namespace farside::sim
