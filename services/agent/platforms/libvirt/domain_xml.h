// Between libvirt's description of a domain and ours.  Pure text in, text out.
#pragma once

#include <string>
#include <vector>

#include "services/agent/platforms/libvirt/networks.h"
#include "services/agent/platforms/platform.h"

namespace farside::agent::libvirt {

// An export of a server on this host that the chain of a disk ends in.
struct ViewSource {
  std::string socket;
  std::string name;  // Of the export.
  bool operator==(const ViewSource&) const = default;
};

struct DiskShape {
  std::string name;  // "vda"
  std::string path;  // Empty: not a file.
  std::string format;
  std::string id;                   // See msg::Disk::id.
  bool is_writable_disk = true;     // Not a CD drive, a floppy or read-only.
  bool reads_network_view = false;  // Its backing chain ends in an NBD view:
  ViewSource view;                  // this one.
  std::string alias;                // What QEMU calls it while the VM runs.
  std::uint64_t bytes = 0;          // From our mark; 0: ask libvirt.
};

// All that the platform knows about a domain from its XML.
struct DomainShape {
  msg::Vm vm;  // Without state and disk sizes.
  std::vector<DiskShape> disks;
  bool is_persistent = true;
  bool has_agent_channel = false;
  bool has_guest_agent = false;  // Connected, not only configured.

  // Of the mark that create_vm() left in <metadata>.
  bool is_ours = false;
  std::string item_id;
  std::vector<std::string> overlays;

  // Why it cannot be protected, each with its cure; vm.problem is all of them.
  std::vector<std::string> problems;
  void add_problem(const std::string& problem);
};

// The namespace of our mark in <metadata>; nobody else's element is ours, whatever it is called.
inline constexpr const char* kMarkSpace = "urn:farside:domain:1";

// What a disk is known by even where it changes its name: see msg::Disk::id.
std::string disk_id(const XmlNode& disk);

// Neither a CD drive, nor a floppy, nor read-only.
bool is_writable_disk(const XmlNode& disk);

std::uint64_t to_number(const std::string& text);  // 0 if it is none.

// Errors: kCorrupt.
Result<DomainShape> read_domain(const std::string& xml, const Networks& networks);

// What to give to virDomainBackupBegin.  Each disk gets a scratch file SCRATCH_PREFIX-<disk>.
struct BackupDescription {
  std::string since;  // Checkpoint name; empty: everything.
  std::string checkpoint;
  std::string socket;
  std::string scratch_prefix;
};
inline constexpr const char* kScratchSuffix = ".scratch";
std::string scratch_file(const BackupDescription& backup, const std::string& disk);
std::string write_backup(const BackupDescription& backup, const std::vector<DiskShape>& disks);
std::string write_checkpoint(const BackupDescription& backup, const std::vector<DiskShape>& disks);

}  // namespace farside::agent::libvirt
