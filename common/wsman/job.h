// Methods that take time: their return value, and the job that they may leave behind.
#pragma once

#include <functional>
#include <string>

#include "common/base/clock.h"
#include "common/wsman/client.h"

namespace farside::wsman {

// How long to wait, and by which clock.
struct JobWait {
  const Clock& clock;
  std::function<void(Micros)> pause;  // Returns after that much of the clock's time.
  Micros within{600'000'000};
  Micros interval{500'000};  // At most a second: finished jobs vanish after a while.
};

enum class JobEnd {
  kCompleted,
  kCompletedWithWarnings,
  kFailed,    // `error` says why.
  kVanished,  // It ended long ago, well or badly: look at its effect.
};

struct JobOutcome {
  JobEnd end = JobEnd::kCompleted;
  Instance job;  // Empty if it vanished.
  std::uint64_t error_code = 0;
  std::string error_description;
};

// Errors: kTimeout (the job goes on), and those of Client.
Result<JobOutcome> wait_for_job(Client& client, const Reference& job, const JobWait& wait);

// What a method left behind.
struct CallOutcome {
  Instance output;            // As of the call, not of the job's end.
  bool had_job = false;       // If so, results are among the job's affected elements.
  bool has_vanished = false;  // The job did, before its end was seen: look at the effect.
  Reference job;
};

// Calls `method` and waits for its job.
// Errors: those of Client; and for what the host calls by a return value or in its job
//   kForbidden 32769, kUnsupported 32770, kTimeout 32772, kInvalidArgument 32773,
//   kConflict 32774 (in use) and 32775 (not in this state), kPlatform all else.
// Source: Microsoft, Hyper-V WMI provider (V2), return values of
// Msvm_VirtualSystemManagementService.
Result<CallOutcome> call(Client& client, const Reference& object, const std::string& method,
                         const Parameters& parameters, const JobWait& wait);

// "0x8007…" or "32775", as hosts are used to be asked about them.
Error job_error(const JobOutcome& outcome, const std::string& doing);
Error return_value_error(std::uint64_t value, const std::string& doing);

// The objects that a finished job made or changed, of one class.
Result<std::vector<Instance>> affected_elements(Client& client, const Reference& job,
                                                std::string_view result_class);

}  // namespace farside::wsman
