// Turning domains on and off, past the edges of libvirt.
#pragma once

#include "services/agent/platforms/libvirt/connection.h"

namespace farside::agent::libvirt {

// `flags`: of virDomainCreateWithFlags.  Already active: success.  Errors: kPlatform.
Status turn_on(virDomainPtr domain, unsigned flags);

// Lets QEMU write its bitmaps into the images.  Already off: success.  Errors: kPlatform.
Status turn_off(virDomainPtr domain);

}  // namespace farside::agent::libvirt
