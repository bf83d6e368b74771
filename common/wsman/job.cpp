#include "common/wsman/job.h"

#include <fmt/format.h>

#include <algorithm>

namespace farside::wsman {
namespace {

constexpr std::uint64_t kDone = 0;
constexpr std::uint64_t kStarted = 4096;
constexpr Micros kIntervalMax{1'000'000};
constexpr Micros kFirstPause{20'000};
constexpr std::uint64_t kMissingChangeTracking = 0xC03A0030;

// Source: Microsoft, Msvm_ConcreteJob.JobState; 32768 as seen in public tools.
constexpr std::uint64_t kJobCompleted = 7;
constexpr std::uint64_t kJobTerminated = 8;
constexpr std::uint64_t kJobKilled = 9;
constexpr std::uint64_t kJobException = 10;
constexpr std::uint64_t kJobCompletedWithWarnings = 32768;

ErrorCode code_of(std::uint64_t value) {
  switch (value) {
    case 32769:
      return ErrorCode::kForbidden;
    case 32770:
      return ErrorCode::kUnsupported;
    case 32772:
      return ErrorCode::kTimeout;
    case 32773:
    case 32776:
      return ErrorCode::kInvalidArgument;
    case 32774:
    case 32775:
      return ErrorCode::kConflict;
    case kMissingChangeTracking:
      return ErrorCode::kTrackingLost;
    default:
      return ErrorCode::kPlatform;
  }
}

std::string words_for(std::uint64_t value) {
  switch (value) {
    case 32768:
      return "failed";
    case 32769:
      return "access denied";
    case 32770:
      return "not supported";
    case 32772:
      return "timed out";
    case 32773:
      return "a parameter is not valid";
    case 32774:
      return "the system is in use";
    case 32775:
      return "not in this state";
    case 32776:
      return "a data type is wrong";
    case 32777:
      return "the system is not available";
    case 32778:
      return "out of memory";
    default:
      return "refused";
  }
}

std::string advice_for(ErrorCode code) {
  switch (code) {
    case ErrorCode::kForbidden:
      return "put the user into the host's group Hyper-V Administrators";
    case ErrorCode::kConflict:
      return "look at the VM's state on the host and try again";
    case ErrorCode::kTrackingLost:
      return {};
    default:
      return "see the host's event log Microsoft-Windows-Hyper-V-VMMS-Admin";
  }
}

std::string number_text(std::uint64_t value) {
  return value > 0xFFFF ? fmt::format("{:#x}", value) : fmt::format("{}", value);
}

JobOutcome ended(JobEnd end, Instance job) {
  JobOutcome outcome{.end = end, .job = std::move(job), .error_code = 0, .error_description = ""};
  outcome.error_code = outcome.job.number_or("ErrorCode", 0);
  outcome.error_description = outcome.job.text("ErrorDescription");
  if (outcome.error_description.empty() && end == JobEnd::kFailed) {
    outcome.error_description = outcome.job.text("JobStatus");
  }
  return outcome;
}

}  // namespace

Result<JobOutcome> wait_for_job(Client& client, const Reference& job, const JobWait& wait) {
  const Micros deadline = wait.clock.monotonic() + wait.within;
  const Micros interval_max = std::min(wait.interval, kIntervalMax);
  Micros interval = std::min(kFirstPause, interval_max);  // Most jobs are short.
  while (true) {
    auto seen = client.get(job);
    if (!seen && seen.error().code == ErrorCode::kNotFound) {
      return JobOutcome{.end = JobEnd::kVanished, .job = {}};
    }
    if (!seen) return fail(seen.error());
    FARSIDE_ASSIGN(const std::uint64_t state, seen->number("JobState"));
    switch (state) {
      case kJobCompleted:
        return ended(JobEnd::kCompleted, std::move(*seen));
      case kJobCompletedWithWarnings:
        return ended(JobEnd::kCompletedWithWarnings, std::move(*seen));
      case kJobTerminated:
      case kJobKilled:
      case kJobException:
        return ended(JobEnd::kFailed, std::move(*seen));
      default:
        break;
    }
    const Micros left = deadline - wait.clock.monotonic();
    if (left <= Micros::zero()) {
      return fail(ErrorCode::kTimeout,
                  fmt::format("job '{}' is at {} % after {} s", seen->text("Caption"),
                              seen->text("PercentComplete"), wait.within.count() / 1'000'000),
                  "see what keeps the host busy; the job goes on there");
    }
    wait.pause(std::min(interval, left));
    interval = std::min(2 * interval, interval_max);
  }
}

Error return_value_error(std::uint64_t value, const std::string& doing) {
  const ErrorCode code = code_of(value);
  return Error{.code = code,
               .what = fmt::format("{}: {} ({})", doing, words_for(value), number_text(value)),
               .advice = advice_for(code)};
}

Error job_error(const JobOutcome& outcome, const std::string& doing) {
  const ErrorCode code = code_of(outcome.error_code);
  return Error{.code = code,
               .what = fmt::format("{}: {} ({})", doing,
                                   outcome.error_description.empty() ? words_for(outcome.error_code)
                                                                     : outcome.error_description,
                                   number_text(outcome.error_code)),
               .advice = advice_for(code)};
}

Result<CallOutcome> call(Client& client, const Reference& object, const std::string& method,
                         const Parameters& parameters, const JobWait& wait) {
  const std::string doing = "call " + object.class_name + "." + method;
  CallOutcome outcome;
  FARSIDE_ASSIGN(outcome.output, client.invoke(object, method, parameters));
  FARSIDE_ASSIGN(const std::uint64_t value, outcome.output.number("ReturnValue"));
  if (value == kDone) return outcome;
  if (value != kStarted) return fail(return_value_error(value, doing));
  FARSIDE_ASSIGN(outcome.job, outcome.output.reference("Job"));
  outcome.had_job = true;
  auto job = wait_for_job(client, outcome.job, wait);
  if (!job) return fail(job.error().in(doing));
  if (job->end == JobEnd::kFailed) return fail(job_error(*job, doing));
  outcome.has_vanished = job->end == JobEnd::kVanished;
  return outcome;
}

Result<std::vector<Instance>> affected_elements(Client& client, const Reference& job,
                                                std::string_view result_class) {
  return client.associators(job, "Msvm_AffectedJobElement", result_class);
}

}  // namespace farside::wsman
