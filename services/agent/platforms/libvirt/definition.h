// A domain as its guest sees it, for the target that makes one like it (msg::VmDefinition).
#pragma once

#include <libvirt/libvirt.h>

#include <string>

#include "common/base/result.h"
#include "common/schema/types.plain.h"
#include "services/agent/platforms/libvirt/networks.h"

namespace farside::agent::libvirt {

// A <domain> element without what changes from one moment to the next though the VM does not, what
// belongs to its host, and what may be secret.  Equal VMs give equal texts.
std::string normal_text(const XmlNode& domain);

// The files of a VM's UEFI firmware.
struct FlashFiles {
  std::string loader;
  std::string variables;
};

// What libvirt would tell QEMU about them: reads the command line that it would start QEMU with.
FlashFiles flash_files_of(const std::string& command_line);

// As it runs now; as it would start, if it is off.  `with_nvram`: with the UEFI variables as of
// now, which must not be while the guest writes them for seconds.  Never asks QEMU about its disks.
// Errors: those of read_nvram(), kPlatform.
Result<msg::VmDefinition> capture_definition(virDomainPtr domain, const Networks& networks,
                                             bool with_nvram);

}  // namespace farside::agent::libvirt
