// KVM/QEMU hosts through libvirt.
//
// Change tracking: checkpoints, that is persistent dirty bitmaps in the qcow2 images; a token is a
// checkpoint.  Consistent reads: pull-mode backup jobs; the images themselves where the VM is off.
// What is ours on the host: domains with our element in <metadata>, checkpoints with our prefix,
// and the files in our two directories.
//
// Owns: the connection, state_dir and scratch_dir.  Thread: any; see Platform.  Points refer to the
// platform and must be gone before it.
#pragma once

#include <cstdint>
#include <map>
#include <memory>
#include <string>
#include <vector>

#include "common/base/clock.h"
#include "services/agent/platforms/platform.h"

namespace farside::agent::libvirt {

struct Options {
  std::string uri;   // "qemu:///system"; or empty, and then
  std::string root;  // directory of the driver inside this process: no daemon is needed.

  std::string host_name;    // As the provider knows this host.
  std::string own_folder;   // The agent's: QEMU may be let into it; empty: none is.
  std::string state_dir;    // Small and durable: fences and other marks, tokens, serial logs.
  std::string scratch_dir;  // Holds what guests overwrite while a point is open.
  std::uint64_t scratch_reserve_bytes = 512U << 20U;
  std::vector<std::string> storage;  // Directories whose space describe_host() reports.

  // VM network -> "bridge:NAME", "network:NAME", "user" or "isolated".
  std::map<std::string, std::string> networks;

  // Kernels and initial RAM disks that VMs from the other site may boot from, by name; empty: none.
  std::string boot_folder;

  // So long after its start a guest whose agent has not come yet is left alone: see
  // starting_guests.h.
  int guest_start_seconds = 90;

  int call_seconds = 20;  // A daemon that does not answer for so long loses its connection.

  std::string domain_type = "auto";  // "kvm", "qemu", or "auto": kvm if a guest really boots on it.
  std::string emulator = "/usr/bin/qemu-system-x86_64";
};

// Only one with a `root` per process.  A daemon that is away is waited for later, by every call:
// each says kUnavailable until then.  Errors: kInvalidArgument, kIo; kUnavailable with a `root`.
Result<std::unique_ptr<Platform>> open_platform(const Options& options, const Clock& clock);

}  // namespace farside::agent::libvirt
