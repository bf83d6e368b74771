#include "services/agent/platforms/libvirt/starting_guests.h"

namespace farside::agent::libvirt {

void StartingGuests::see(const std::map<std::string, int>& running, Instant now) {
  const std::lock_guard lock(mutex_);
  const bool are_new = has_seen_ || are_first_ones_new_;
  has_seen_ = true;
  std::erase_if(runs_, [&](const auto& known) { return !running.contains(known.first); });
  for (const auto& [vm_id, number] : running) {
    const auto known = runs_.find(vm_id);
    if (known != runs_.end() && known->second.number == number) continue;
    runs_[vm_id] = {.number = number, .since = are_new ? now : now - start_max_};
  }
}

bool StartingGuests::is_starting(const std::string& vm_id, int run, Instant now) {
  const std::lock_guard lock(mutex_);
  const auto known = runs_.find(vm_id);
  if (known != runs_.end() && known->second.number == run) {
    return now - known->second.since < start_max_;
  }
  // Before the first look nobody can tell; afterwards it began since the last one.
  if (has_seen_) runs_[vm_id] = {.number = run, .since = now};
  return start_max_ > start_max_.zero() && (has_seen_ || are_first_ones_new_);
}

}  // namespace farside::agent::libvirt
