// Turning domains on and off, past the edges of libvirt.
#pragma once

#include <chrono>
#include <string>

#include "services/agent/platforms/libvirt/session.h"
#include "services/agent/platforms/platform.h"

namespace farside::agent::libvirt {

Result<msg::PowerState> power_state(virDomainPtr domain);

// `flags`: of virDomainCreateWithFlags.  Already active: success.  Errors: kPlatform.
Status turn_on(virDomainPtr domain, unsigned flags);

// Lets QEMU write its bitmaps into the images.  Already off: success.  Errors: kPlatform.
Status turn_off(virDomainPtr domain);

// See Platform::shut_down.  The guest gets its time whatever becomes of the daemon meanwhile.
Result<PowerResult> shut_down(Session& session, const std::string& vm_id,
                              std::chrono::seconds limit);

}  // namespace farside::agent::libvirt
