#include "services/agent/platforms/libvirt/power.h"

#include <fmt/core.h>

#include <chrono>

#include "services/agent/platforms/deadline.h"

namespace farside::agent::libvirt {
namespace {

// libvirt 9.0 may learn only after virDomainDestroy has returned that the connection to that QEMU
// was closed.  If the domain has been started again by then, it takes the new QEMU for the one that
// died, and kills it.  Therefore a moment passes after each stop, and a start that ended in this
// way (QEMU exited, and had nothing to say) is repeated.
constexpr std::chrono::milliseconds kSettle(250);
constexpr int kStartsMax = 3;

void settle() {
  for (const Deadline deadline(kSettle); deadline.pause();) {
  }
}

}  // namespace

Status turn_on(virDomainPtr domain, unsigned flags) {
  for (int i = 1;; ++i) {
    if (virDomainCreateWithFlags(domain, flags) == 0) return {};
    auto error = libvirt_error("start the VM");
    if (virDomainIsActive(domain) == 1) return {};
    if (error.error().what.contains("Cannot access storage file")) {
      // Come back as soon as the file has; an answer costs nothing meanwhile.
      error.error().code = ErrorCode::kUnavailable;
      error.error().advice = "bring the disk's file back; it goes on by itself";
    }
    const bool is_worth_repeating = error.error().what.ends_with("connecting to monitor");
    if (i == kStartsMax || !is_worth_repeating) return error;
    settle();
  }
}

Status turn_off(virDomainPtr domain) {
  const int active = virDomainIsActive(domain);
  if (active == 0) return {};
  if (active < 0) return libvirt_error("turn the VM off");
  const bool is_off = virDomainDestroyFlags(domain, VIR_DOMAIN_DESTROY_GRACEFUL) == 0 ||
                      virDomainDestroy(domain) == 0;
  if (!is_off) {
    auto error = libvirt_error("turn the VM off");
    if (virDomainIsActive(domain) != 0) return error;
  }
  settle();
  return {};
}

}  // namespace farside::agent::libvirt
