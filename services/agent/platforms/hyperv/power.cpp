#include "services/agent/platforms/hyperv/power.h"

#include <fmt/format.h>

#include "services/agent/platforms/deadline.h"

namespace farside::agent::hyperv {
namespace {

using std::chrono::seconds;

// A guest that is still booting has nobody to listen; it is asked again this often.
constexpr seconds kAskAgain(3);

Result<std::uint64_t> state_of(Host& host, const std::string& guid) {
  FARSIDE_ASSIGN(const auto found, host.query(fmt::format(
                                       "SELECT * FROM Msvm_ComputerSystem WHERE Name='{}'", guid)));
  if (found.empty()) return fail(ErrorCode::kNotFound, "VM " + guid + " is not on this host");
  return found.front().number_or("EnabledState", 0);
}

// Whether it came to be in that state in time.
Result<bool> reaches(Host& host, const std::string& guid, std::uint64_t state,
                     const Deadline& deadline) {
  while (true) {
    FARSIDE_ASSIGN(const std::uint64_t now, state_of(host, guid));
    if (now == state) return true;
    if (!deadline.pause()) return false;
  }
}

// A VM on its way to another state, as after an agent that was killed, refuses the request; it is
// asked again.
Status request(Host& host, const std::string& guid, std::uint64_t state) {
  const Deadline deadline{seconds(kCallSeconds)};
  while (true) {
    const auto asked =
        host.call(system_of(guid), "RequestStateChange",
                  {{"RequestedState", wsman::Value::u16(static_cast<std::uint16_t>(state))}});
    if (!asked && asked.error().code != ErrorCode::kConflict) return fail(asked.error());
    FARSIDE_ASSIGN(const bool is_there, reaches(host, guid, state, Deadline(kAskAgain)));
    if (is_there) return {};
    if (!deadline.passed()) continue;
    if (!asked) return fail(asked.error());
    return fail(ErrorCode::kTimeout,
                fmt::format("VM {} did not {} within {} s", guid,
                            state == kEnabled ? "start" : "stop", kCallSeconds),
                "look at the VM and its event log on the host");
  }
}

// Whether there is somebody in the guest who heard it.
Result<bool> ask_guest(Host& host, const std::string& guid) {
  FARSIDE_ASSIGN(
      const auto components,
      host.query(fmt::format("SELECT * FROM Msvm_ShutdownComponent WHERE SystemName='{}'", guid)));
  if (components.empty()) return false;
  const wsman::Instance& component = components.front();
  wsman::Reference reference{.class_name = "Msvm_ShutdownComponent", .keys = {}};
  for (const char* key :
       {"CreationClassName", "DeviceID", "SystemCreationClassName", "SystemName"}) {
    reference.keys[key] = component.text(key);
  }
  const auto asked = host.call(reference, "InitiateShutdown",
                               {{"Force", wsman::Value::flag(true)},
                                {"Reason", wsman::Value::text("Farside fails this VM over")}});
  return asked.has_value();  // Not ready, locked, or at it already: its state tells.
}

// Saved, paused, or on its way there: turned off it loses what is in its memory.
Status refuse_memory(const VirtualMachine& vm, msg::PowerState state) {
  if (state != msg::PowerState::paused) return {};
  return fail(
      ErrorCode::kConflict,
      fmt::format("VM '{}' is saved or paused: it cannot shut down, and its memory would be "
                  "lost",
                  vm.vm.name),
      "start or resume it, or turn it off");
}

}  // namespace

Result<PowerResult> shut_down(Host& host, const VirtualMachine& vm, int deadline_s) {
  if (vm.vm.state == msg::PowerState::off) return PowerResult{};
  FARSIDE_TRY(refuse_memory(vm, vm.vm.state));
  const Deadline deadline{seconds(deadline_s)};
  bool can_react = vm.vm.state == msg::PowerState::running;
  while (can_react && !deadline.passed()) {
    FARSIDE_TRY(ask_guest(host, vm.guid));
    for (const Deadline again(kAskAgain); can_react && !again.passed();) {
      FARSIDE_ASSIGN(const std::uint64_t state, state_of(host, vm.guid));
      if (state == kDisabled) return PowerResult{.was_running = true, .forced = false};
      FARSIDE_TRY(refuse_memory(vm, power_state(state)));
      can_react = deadline.pause();
    }
  }
  FARSIDE_ASSIGN(const std::uint64_t last, state_of(host, vm.guid));
  FARSIDE_TRY(refuse_memory(vm, power_state(last)));
  FARSIDE_TRY(turn_off(host, vm.guid));
  return PowerResult{.was_running = true, .forced = true};
}

Status turn_off(Host& host, const std::string& guid) {
  FARSIDE_ASSIGN(const std::uint64_t state, state_of(host, guid));
  return state == kDisabled ? Status() : request(host, guid, kDisabled);
}

Status turn_on(Host& host, const std::string& guid) {
  FARSIDE_ASSIGN(const std::uint64_t state, state_of(host, guid));
  return state == kEnabled ? Status() : request(host, guid, kEnabled);
}

}  // namespace farside::agent::hyperv
