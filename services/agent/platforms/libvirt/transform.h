// The domain that this host makes of a VM: from the definition that came with it, or from its shape
// where that was written for another platform.  Pure but for looking up boot files.
#pragma once

#include <string>
#include <vector>

#include "services/agent/platforms/libvirt/firmware.h"
#include "services/agent/platforms/libvirt/networks.h"
#include "services/agent/platforms/platform.h"

namespace farside::agent::libvirt {

// What this host decides, whatever a definition says.
struct TargetHost {
  std::string type;         // "kvm" or "qemu".
  std::string emulator;     // Path; empty: libvirt's choice.
  std::string serial_log;   // Of the first serial port.
  std::string boot_folder;  // See boot_file(); empty: none.
  std::vector<Firmware> firmware;
};

struct TargetDomain {
  std::string xml;
  std::vector<msg::PlanRow> rows;
  std::string nvram_path;  // Empty: it has no UEFI variables.
  std::string nvram;       // What they are to be at first; empty: as the firmware delivers them.
};

// Errors: kNotFound (a network, a boot file), kForbidden (a boot file), kUnsupported (firmware),
// kCorrupt, kTooLarge, kInvalidArgument (a definition that cannot be a VM's).
Result<TargetDomain> make_domain(const NewVm& vm, const Networks& networks, const TargetHost& host);

// Of ours in <metadata>, as read_domain() reads it.
std::string mark_xml(const NewVm& vm);

// The driver and the sources of a disk of ours; with `driver`, further attributes of it.
std::string disk_source_xml(const NewDisk& disk, const std::string& driver);

// What such a disk stands on.
std::string view_xml(const std::string& socket, const std::string& name);

// Where the UEFI variables of a VM of ours lie.  Errors: kInvalidArgument (it has no disk).
Result<std::string> nvram_path_of(const NewVm& vm);

// The children of <os> that name a firmware of this host.
std::string firmware_xml(const Firmware& firmware, const std::string& nvram_path);

// The children of <os> for direct kernel boot; empty: it boots from its disks.  Errors: see
// boot_file().
struct DirectBoot {
  std::string kernel;
  std::string initrd;
  std::string command_line;
};
Result<std::string> direct_boot_xml(const DirectBoot& boot, const TargetHost& host);

}  // namespace farside::agent::libvirt
