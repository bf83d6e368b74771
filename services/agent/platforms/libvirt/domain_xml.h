// Between libvirt's description of a domain and ours.  Pure text in, text out.
#pragma once

#include <string>
#include <vector>

#include "services/agent/platforms/libvirt/networks.h"
#include "services/agent/platforms/platform.h"

namespace farside::agent::libvirt {

struct DiskShape {
  std::string name;  // "vda"
  std::string path;  // Empty: not a file.
  std::string format;
  bool is_writable_disk = true;     // Not a CD drive, a floppy or read-only.
  bool reads_network_view = false;  // Its backing chain ends in an NBD view.
  std::uint64_t bytes = 0;          // From our mark; 0: ask libvirt.
};

// All that the platform knows about a domain from its XML.
struct DomainShape {
  msg::Vm vm;  // Without state and disk sizes.
  std::vector<DiskShape> disks;
  bool is_persistent = true;
  bool has_guest_agent = false;  // Connected, not only configured.

  // Of the mark that create_vm() left in <metadata>.
  bool is_ours = false;
  std::string item_id;
  std::vector<std::string> overlays;
};

// Errors: kCorrupt.
Result<DomainShape> read_domain(const std::string& xml, const Networks& networks);

struct DomainDefaults {
  std::string type;      // "kvm" or "qemu".
  std::string emulator;  // Path; empty: libvirt's choice.
  std::string serial_log;
};

// The domain that create_vm() defines.  Errors: kNotFound (a network of a card).
Result<std::string> write_domain(const NewVm& vm, const Networks& networks,
                                 const DomainDefaults& defaults);

// What to give to virDomainBackupBegin.  Each disk gets a scratch file SCRATCH_PREFIX-<disk>.
struct BackupDescription {
  std::string since;  // Checkpoint name; empty: everything.
  std::string checkpoint;
  std::string socket;
  std::string scratch_prefix;
};
std::string scratch_file(const BackupDescription& backup, const std::string& disk);
std::string write_backup(const BackupDescription& backup, const std::vector<DiskShape>& disks);
std::string write_checkpoint(const BackupDescription& backup, const std::vector<DiskShape>& disks);

}  // namespace farside::agent::libvirt
