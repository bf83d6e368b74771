// Msvm_ComputerSystem.RequestStateChange and Msvm_ShutdownComponent.InitiateShutdown.
#include <fmt/format.h>

#include <set>

#include "tests/support/hvsim/real_host.h"

namespace farside::hvsim {
namespace {

constexpr std::uint64_t kInvalidState = 32775;
constexpr std::uint64_t kNotReady = 32780;
constexpr std::uint64_t kShutdownRunning = 32782;
constexpr std::uint64_t kNotSupported = 32770;
// Asked for only.
constexpr std::uint64_t kQuiesce = 9;
constexpr std::uint64_t kReset = 11;

struct Transition {
  std::set<std::uint16_t> from;  // Empty: there is no such state.
  std::uint16_t via = 0;
};

Transition transition_to(std::uint64_t wanted, std::uint16_t now) {
  switch (wanted) {
    case kRunning:
      return {{kOff, kSaved, kPaused}, now == kPaused ? kResuming : kStarting};
    case kOff:
      return {{kRunning, kPaused, kSaved}, kStopping};
    case kReset:
      return {{kRunning, kPaused}, kStarting};
    case kQuiesce:
    case kPaused:
      return {{kRunning}, kPausing};
    case kSaved:
      return {{kRunning, kPaused}, kSaving};
    default:
      return {};
  }
}

Status change(Machines& machines, const std::string& guid, std::uint64_t wanted) {
  if (wanted == kRunning) return machines.start(guid);
  if (wanted == kOff) return machines.turn_off(guid);
  if (wanted == kReset) return machines.reset(guid);
  return machines.pause(guid, wanted == kSaved ? kSaved : kPaused);
}

Result<MethodResult> request_state(RealHost& host, const MethodCall& call) {
  const std::string guid = call.target.key("Name");
  const std::uint64_t wanted = call.as_instance().number_or("RequestedState", 0);
  if (host.vms.system(guid) == nullptr) return MethodResult{.return_value = kNotSupported};
  const std::uint16_t now = host.vms.state(guid);
  const Transition transition = transition_to(wanted, now);
  if (!transition.from.contains(now)) return MethodResult{.return_value = kInvalidState};
  host.vms.set_state(guid, transition.via);
  const auto go_back = [&host, guid, now] {
    host.vms.set_state(guid, host.machines.has_process(guid) ? now : kOff);
  };
  const auto act = [&host, guid, wanted]() -> Result<std::vector<Reference>> {
    if (host.vms.system(guid) == nullptr) return fail(ErrorCode::kNotFound, "the VM is gone");
    FARSIDE_TRY(change(host.machines, guid, wanted));
    return std::vector<Reference>{};
  };
  return host.jobs.start("Changing the state of a virtual machine", call.target, act, go_back);
}

Result<MethodResult> shut_down(RealHost& host, const MethodCall& call) {
  const Status pressed = host.machines.press_power_button(call.target.key("SystemName"));
  if (pressed) return MethodResult{};
  const bool is_running = pressed.error().code == ErrorCode::kAlreadyExists;
  return MethodResult{.return_value = is_running ? kShutdownRunning : kNotReady};
}

}  // namespace

void add_power_methods(Methods& methods, RealHost& host) {
  methods["Msvm_ComputerSystem/RequestStateChange"] = {
      .shape = {{.name = "RequestedState", .kind = ParameterKind::kNumber, .is_required = true},
                {.name = "TimeoutPeriod", .kind = ParameterKind::kText}},
      .handler = [&host](const MethodCall& call) { return request_state(host, call); }};
  methods["Msvm_ShutdownComponent/InitiateShutdown"] = {
      .shape = {{.name = "Force", .kind = ParameterKind::kFlag, .is_required = true},
                {.name = "Reason", .is_required = true}},
      .handler = [&host](const MethodCall& call) { return shut_down(host, call); }};
}

}  // namespace farside::hvsim
