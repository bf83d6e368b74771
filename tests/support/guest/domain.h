// A virtual machine that runs the witness guest, as libvirt wants it described.
#pragma once

#include <cstdint>
#include <map>
#include <string>
#include <vector>

#include "common/base/result.h"

namespace farside::guest {

struct WitnessVm {
  std::string name;
  std::string id;                  // UUID.
  std::string guest_dir;           // Holds vmlinuz and initrd.gz; empty: the VM boots nothing.
  std::vector<std::string> disks;  // qcow2 files, vda first.
  std::string serial_log{};        // The witness reports here.
  std::map<std::string, std::string> options{};  // Of the witness: {"pace_ms", "20"} ...
  std::vector<std::string> cards{};              // <interface> elements, complete.
  std::uint32_t memory_mib = 128;
  std::string type = "qemu";  // "kvm" only where a guest really boots with it.
};

std::string to_xml(const WitnessVm& vm);

// Errors: kPlatform (qemu-img's words), kAlreadyExists.
Status create_qcow2(const std::string& path, std::uint64_t bytes);

// A copy of the guest in `from`, FOLDER/guest, and the way there: QEMU may run as another user, to
// whom a folder of builds can be closed.  Gives FOLDER/guest.
std::string place_guest(const std::string& from, const std::string& folder);

// The last N in a line `witness: WHAT seq=N` of a serial log; 0 if there is none yet.
std::uint64_t last_reported(const std::string& serial_log, const std::string& what);

}  // namespace farside::guest
