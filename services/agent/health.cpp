#include "services/agent/health.h"

#include <algorithm>

#include <fmt/format.h>

#include "common/base/error.h"
#include "common/flow/retry.h"

namespace farside::agent {

using std::chrono::seconds;

Time captured_here(const msg::ReplicationStatus& status) {
  return Time{status.newest_here != 0 ? status.newest_here : status.newest.captured_at};
}

msg::Health health_of(const msg::ReplicationStatus& status, const msg::Policy& policy, Time now) {
  if (status.phase == msg::ReplicationPhase::failed) return msg::Health::critical;
  if (status.phase == msg::ReplicationPhase::stopped) return msg::Health::normal;
  if (status.paused) return msg::Health::warning;
  // A fault stands until a delta succeeds: another try under way makes the item no healthier.
  const auto& fault = status.fault;
  if (fault && !waits_for_others(fault->code) &&
      !Error{.code = static_cast<ErrorCode>(fault->code)}.is_retryable()) {
    return msg::Health::critical;
  }
  if (status.newest.seq > 0) {
    const seconds interval{policy.frequency_seconds};
    const auto age = now - captured_here(status);
    if (age > std::max(5 * interval, seconds{60})) return msg::Health::critical;
    if (age > std::max(2 * interval, seconds{15})) return msg::Health::warning;
  }
  const bool is_paused = status.phase == msg::ReplicationPhase::paused || fault.has_value();
  return is_paused ? msg::Health::warning : msg::Health::normal;
}

Error late_point(const msg::ReplicationStatus& status, const msg::Policy& policy, Time now) {
  constexpr std::uint64_t kMib = 1U << 20U;
  const auto age = std::chrono::duration_cast<seconds>(now - captured_here(status)).count();
  const bool under_way = status.bytes_total > status.bytes_done;
  return Error{
      .code = ErrorCode::kTimeout,
      .what =
          fmt::format("the newest recovery point is {} s old, the policy asks for one every {} "
                      "s: {}",
                      age, policy.frequency_seconds,
                      under_way ? fmt::format("{} of {} MiB of the next one are sent",
                                              status.bytes_done / kMib, status.bytes_total / kMib)
                                : std::string("the next one waits for its turn on this host")),
      .advice = "if this stays, give the link or the hosts more speed, or the policy more time"};
}

bool waits_for_others(std::uint16_t error_code) {
  const auto code = static_cast<ErrorCode>(error_code);
  return code == ErrorCode::kBusy || code == ErrorCode::kUnsupported;
}

seconds retry_after(std::uint16_t error_code, std::uint32_t failures_in_a_row,
                    const msg::Policy& policy) {
  if (waits_for_others(error_code)) {
    return std::clamp(seconds{policy.frequency_seconds}, seconds{1}, seconds{60});
  }
  const auto ladder = flow::retry_delay(failures_in_a_row);
  switch (static_cast<ErrorCode>(error_code)) {
    case ErrorCode::kUnavailable:
    case ErrorCode::kTimeout:
      return std::min(ladder, seconds{10});  // Asking costs nothing, a late point does.
    case ErrorCode::kNoSpace:
      return std::min(ladder, seconds{30});
    // A VM that is being moved, a hypervisor that is being repaired, a state of either side that
    // an operator is about to change: nobody tells us that it is over.
    case ErrorCode::kPlatform:
    case ErrorCode::kConflict:
    case ErrorCode::kNotFound:
      return std::min(ladder, seconds{60});
    case ErrorCode::kIo:  // Each try reads a disk that may be failing.
      return std::min(ladder, seconds{300});
    default:
      return ladder;
  }
}

}  // namespace farside::agent
