// Jobs of a simulated host: they take a while, act when they end, and vanish some time after.
//
// Thread: one at a time.
#pragma once

#include <functional>
#include <string>
#include <vector>

#include "common/base/clock.h"
#include "common/base/random.h"
#include "tests/support/hvsim/faults.h"
#include "tests/support/hvsim/methods.h"

namespace farside::hvsim {

struct JobTimes {
  double scale = 1.0;        // Simulated time passes so many times faster.
  Micros kept{300'000'000};  // After their end, in simulated time.
};

class Jobs final {
 public:
  // All outlive the jobs.
  Jobs(Objects& objects, Faults& faults, const Clock& clock, Random& random, JobTimes times)
      : objects_(objects), faults_(faults), clock_(clock), random_(random), times_(times) {}

  // What is done when a job ends: returns the objects that came of it, which are to be found
  // through Msvm_AffectedJobElement.  An error is the job's.
  using Work = std::function<Result<std::vector<Reference>>()>;

  // Starts one whose end acts on the objects; returns what its method answers.
  // `on_failure` acts after an error, and in place of `on_end` if the job is to fail.
  MethodResult start(const std::string& caption, const Reference& affected, Work on_end,
                     std::function<void()> on_failure = {});

  // Lets end what is due, and vanish what ended long ago.  Call before looking at the objects.
  void advance();

 private:
  struct Job {
    Reference reference;
    Micros begins;
    Micros ends;
    bool fails = false;
    bool has_ended = false;
    Work on_end;
    std::function<void()> on_failure;
  };
  Micros scaled(Micros time) const;
  void end(Job& job);

  Objects& objects_;
  Faults& faults_;
  const Clock& clock_;
  Random& random_;
  JobTimes times_;
  std::vector<Job> jobs_;
};

}  // namespace farside::hvsim
