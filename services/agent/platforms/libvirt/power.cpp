#include "services/agent/platforms/libvirt/power.h"

#include <fmt/core.h>

#include <chrono>
#include <utility>

#include "services/agent/platforms/deadline.h"
#include "services/agent/platforms/libvirt/domain_jobs.h"

namespace farside::agent::libvirt {
namespace {

// libvirt 9.0 may learn only after virDomainDestroy has returned that the connection to that QEMU
// was closed.  If the domain has been started again by then, it takes the new QEMU for the one that
// died, and kills it.  Therefore a moment passes after each stop, and a start that ended in this
// way (QEMU exited, and had nothing to say) is repeated.
constexpr std::chrono::milliseconds kSettle(250);
constexpr int kStartsMax = 3;

// A guest that is still booting ignores the power button; it is pressed again this often.
constexpr std::chrono::seconds kPressAgain(3);

void settle() {
  for (const Deadline deadline(kSettle); deadline.pause();) {
  }
}

// Also while it is being saved.
std::unexpected<Error> paused(virDomainPtr domain) {
  return fail(ErrorCode::kConflict,
              fmt::format("VM '{}' is paused: it cannot shut down, and its memory would be lost",
                          name_of(domain)),
              "resume it, or turn it off");
}

}  // namespace

Result<msg::PowerState> power_state(virDomainPtr domain) {
  int state = 0;
  if (virDomainGetState(domain, &state, nullptr, 0) != 0) return libvirt_error("state of a VM");
  switch (state) {
    case VIR_DOMAIN_RUNNING:
    case VIR_DOMAIN_BLOCKED:
    case VIR_DOMAIN_SHUTDOWN:
      return msg::PowerState::running;
    case VIR_DOMAIN_PAUSED:
    case VIR_DOMAIN_PMSUSPENDED:
      return msg::PowerState::paused;
    case VIR_DOMAIN_SHUTOFF:
    case VIR_DOMAIN_CRASHED:
      return msg::PowerState::off;
    default:
      return msg::PowerState::unknown;
  }
}

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

Result<PowerResult> shut_down(Session& session, const std::string& vm_id,
                              std::chrono::seconds limit) {
  FARSIDE_ASSIGN(auto domain, session.find(vm_id));
  FARSIDE_ASSIGN(const auto state, power_state(domain.get()));
  if (state == msg::PowerState::off) {
    FARSIDE_TRY(refuse_saved(domain.get()));
    return PowerResult{};
  }
  if (state == msg::PowerState::paused) return paused(domain.get());

  const Deadline deadline(limit);
  bool can_react = state == msg::PowerState::running;
  while (can_react) {
    virDomainShutdownFlags(domain.get(), VIR_DOMAIN_SHUTDOWN_ACPI_POWER_BTN);
    for (const Deadline again(kPressAgain); can_react;) {
      if (virDomainIsActive(domain.get()) == 0) {
        FARSIDE_TRY(refuse_saved(domain.get()));  // Somebody saved it in place of a shutdown.
        return PowerResult{.was_running = true, .forced = false};
      }
      const auto now = power_state(domain.get());
      if (now && *now == msg::PowerState::paused) return paused(domain.get());
      can_react = deadline.pause();
      if (again.passed()) break;
    }
    // Of a daemon that has ended meanwhile nothing more is to be heard.
    if (auto anew = session.find(vm_id)) {
      domain = std::move(*anew);
    } else if (anew.error().code != ErrorCode::kUnavailable) {
      return fail(std::move(anew).error());
    }
  }
  FARSIDE_TRY(turn_off(domain.get()));
  FARSIDE_TRY(refuse_saved(domain.get()));
  return PowerResult{.was_running = true, .forced = true};
}

}  // namespace farside::agent::libvirt
