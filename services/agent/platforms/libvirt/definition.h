// A domain as its guest sees it, for the target that makes one like it (msg::VmDefinition).
#pragma once

#include <libvirt/libvirt.h>

#include <string>

#include "common/base/result.h"
#include "common/schema/types.plain.h"
#include "services/agent/platforms/libvirt/networks.h"

namespace farside::agent::libvirt {

inline constexpr std::size_t kNvramBytesMax = 2U << 20U;

// A <domain> element without what changes from one moment to the next though the VM does not, what
// belongs to its host, and what may be secret.  Equal VMs give equal texts.
std::string normal_text(const XmlNode& domain);

// As it runs now; as it would start, if it is off.  `with_nvram`: with the UEFI variables as of
// now, which must not be while the guest writes them for seconds.  Never asks QEMU about its disks.
// Errors: kUnavailable (the variables cannot be read), kTooLarge, kPlatform.
Result<msg::VmDefinition> capture_definition(virDomainPtr domain, const Networks& networks,
                                             bool with_nvram);

}  // namespace farside::agent::libvirt
