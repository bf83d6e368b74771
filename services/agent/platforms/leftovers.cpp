#include "services/agent/platforms/leftovers.h"

#include <fmt/core.h>

#include <algorithm>
#include <vector>

#include "common/base/log.h"
#include "services/agent/platforms/deadline.h"

namespace farside::agent {
namespace {

using std::chrono::milliseconds;
using std::chrono::steady_clock;

constexpr milliseconds kPauseMin(500);
constexpr milliseconds kPauseMax(30'000);
constexpr std::chrono::seconds kOtherMax(20);
constexpr std::chrono::seconds kUncleanAfter(60);  // Twice the longest pause between two tries.

}  // namespace

void Leftovers::add(const std::string& vm_id, const Error& why) {
  const std::lock_guard lock(mutex_);
  all_[vm_id].why = why;
}

void Leftovers::add_if(const std::string& vm_id, const Error& why,
                       const std::function<bool()>& is_so) {
  const std::lock_guard lock(mutex_);
  if (!all_.contains(vm_id) && is_so()) all_[vm_id].why = why;
}

std::optional<Error> Leftovers::of(const std::string& vm_id) const {
  const std::lock_guard lock(mutex_);
  const auto found = all_.find(vm_id);
  if (found == all_.end()) return std::nullopt;
  return found->second.why;
}

std::map<std::string, Error> Leftovers::stuck(std::chrono::seconds time) const {
  const std::lock_guard lock(mutex_);
  std::map<std::string, Error> out;
  for (const auto& [vm_id, left] : all_) {
    if (left.why.code == ErrorCode::kBusy || steady_clock::now() - left.since < time) continue;
    out.emplace(vm_id, left.why);
  }
  return out;
}

std::vector<msg::VmTrouble> Leftovers::troubles() const {
  std::vector<msg::VmTrouble> out;
  for (const auto& [vm_id, why] : stuck(kUncleanAfter)) {
    out.push_back(
        {.vm = vm_id,
         .kind = msg::VmTroubleKind::unclean,
         .what = "what an earlier point left on VM " + vm_id + " is not cleaned up: " + why.what});
  }
  return out;
}

void Leftovers::mark_going(const std::string& vm_id) {
  const std::lock_guard lock(mutex_);
  going_.insert(vm_id);
}

bool Leftovers::is_going(const std::string& vm_id) const {
  const std::lock_guard lock(mutex_);
  return going_.contains(vm_id);
}

Status Leftovers::run(const std::string& vm_id, const CleanUp& clean_up) {
  auto cleaned = clean_up(vm_id);
  const std::lock_guard lock(mutex_);
  if (cleaned) {
    all_.erase(vm_id);
    return {};
  }
  Leftover& left = all_[vm_id];
  left.why = cleaned.error();
  left.is_under_way = false;
  left.pause = std::clamp(2 * left.pause, kPauseMin, kPauseMax);
  left.again = steady_clock::now() + left.pause;
  return fail(cleaned.error().in("what an earlier point left is not cleaned up yet"));
}

Status Leftovers::settle(const std::string& vm_id, const CleanUp& clean_up) {
  for (const Deadline deadline(kOtherMax);;) {
    {
      const std::lock_guard lock(mutex_);
      const auto found = all_.find(vm_id);
      if (found == all_.end()) return {};
      if (!found->second.is_under_way) {
        found->second.is_under_way = true;
        break;
      }
    }
    if (!deadline.pause()) {
      return fail(ErrorCode::kBusy,
                  fmt::format("VM {}: what an earlier point left is still being ended", vm_id));
    }
  }
  return run(vm_id, clean_up);
}

void Leftovers::sweep(const CleanUp& clean_up) {
  std::vector<std::string> due;
  {
    const std::lock_guard lock(mutex_);
    const auto now = steady_clock::now();
    for (const auto& [vm_id, left] : all_) {
      if (!left.is_under_way && left.again <= now) due.push_back(vm_id);
    }
  }
  for (const std::string& vm_id : due) {
    if (const auto settled = settle(vm_id, clean_up); !settled) {
      log::warn("vm_not_cleaned_up", {{"vm", vm_id}, {"error", settled.error()}});
    }
  }
}

}  // namespace farside::agent
