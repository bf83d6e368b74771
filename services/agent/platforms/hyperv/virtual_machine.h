// A virtual machine as its host describes it, read into what Farside knows of VMs.
//
// Pure: objects of the host in, values out.
// Source: Microsoft, Hyper-V WMI provider (V2).
#pragma once

#include <cstdint>
#include <map>
#include <optional>
#include <string>
#include <vector>

#include "common/schema/types.plain.h"
#include "common/wsman/value.h"
#include "services/agent/platforms/hyperv/switches.h"

namespace farside::agent::hyperv {

// Values of Msvm_ComputerSystem.EnabledState; the first two can be asked for, too.
inline constexpr std::uint64_t kEnabled = 2;
inline constexpr std::uint64_t kDisabled = 3;

inline constexpr const char* kScsiController = "Microsoft:Hyper-V:Synthetic SCSI Controller";
inline constexpr const char* kDiskDrive = "Microsoft:Hyper-V:Synthetic Disk Drive";
inline constexpr const char* kHardDisk = "Microsoft:Hyper-V:Virtual Hard Disk";
inline constexpr const char* kPhysicalDrive = "Microsoft:Hyper-V:Physical Disk Drive";
inline constexpr const char* kNetworkCard = "Microsoft:Hyper-V:Synthetic Ethernet Port";
inline constexpr const char* kConnection = "Microsoft:Hyper-V:Ethernet Connection";
inline constexpr const char* kBackupCheckpoint = "Microsoft:Hyper-V:Snapshot:Recovery";

// What Farside writes into the notes of VMs that it creates, a line each.
struct Mark {
  std::string vm;    // The id that Farside knows it by; the host gives it one of its own.
  std::string item;  // Of the protected item.
  bool is_test = false;
  bool is_unfinished = false;  // Being created.
  bool is_released = false;    // The operator's own by now: this only says what it was.

  bool operator==(const Mark&) const = default;
};

std::vector<std::string> to_notes(const Mark& mark);
std::vector<std::string> released(std::vector<std::string> notes);
std::optional<Mark> mark_from(const std::vector<std::string>& notes);

// What the host says of a VM: the system, its settings, and all parts of those.
struct RawVm {
  wsman::Instance system;
  wsman::Instance settings;
  std::vector<wsman::Instance> parts;
};

struct VhdxDisk {
  std::string name;  // "vda", in the order of controllers and places on them.
  std::string path;  // On the host.
};

struct VirtualMachine {
  msg::Vm vm;        // Disks without their sizes, which only their files tell.
  std::string guid;  // As the host knows it.
  std::string settings_id;
  std::vector<std::string> notes;
  std::optional<Mark> mark;  // None of one that was released.
  std::string released_as;   // The id that Farside knew it by.
  std::vector<VhdxDisk> disks;
  std::uint64_t startup_action = 0;  // AutomaticStartupAction.
};

// A VM and not the host itself, whatever the language of descriptions.
bool is_vm(const wsman::Instance& system);
// `switches`: names by their GUID.
VirtualMachine read_vm(const RawVm& raw, const Switches& networks,
                       const std::map<std::string, std::string>& switches);

// Its virtual hard disks (of a VM or of a checkpoint), in order.
std::vector<VhdxDisk> read_disks(const std::vector<wsman::Instance>& parts);

// A disk wherever it is plugged in: Disk.id of the VHDX with this VirtualDiskId, which its
// checkpoints share.  Names are places: they move on when a disk before them is removed.
std::string identity_of(const std::string& virtual_disk_id);

msg::PowerState power_state(std::uint64_t enabled_state);

bool is_part(const wsman::Instance& part, const char* sub_type);
std::string mac_text(const std::string& address);  // "00155D000001" -> "00:15:5d:00:00:01"
std::string mac_address(const std::string& text);  // And back.

}  // namespace farside::agent::hyperv
