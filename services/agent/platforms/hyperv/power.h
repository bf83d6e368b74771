// Turning VMs on and off.
#pragma once

#include "services/agent/platforms/hyperv/host.h"
#include "services/agent/platforms/platform.h"

namespace farside::agent::hyperv {

// Asks the guest and waits for it; then turns the VM off.
Result<PowerResult> shut_down(Host& host, const VirtualMachine& vm, int deadline_s);
// Whatever the guest does.  Errors: kTimeout (it is still on).
Status turn_off(Host& host, const std::string& guid);
Status turn_on(Host& host, const std::string& guid);

}  // namespace farside::agent::hyperv
