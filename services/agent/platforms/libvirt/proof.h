// Whether this host can build and start a VM, found out by building and starting one like it: with
// empty disks, and paused, so that no guest code runs and nothing reaches a network.
#pragma once

#include <libvirt/libvirt.h>

#include <functional>
#include <string>

#include "services/agent/platforms/libvirt/transform.h"

namespace farside::agent::libvirt {

struct ProofPlace {
  virConnectPtr connection;
  const Networks& networks;
  TargetHost host;
  std::string folder;  // For its files; made, emptied and removed.
  std::function<Status(const std::string&)> make_folder;  // One that QEMU can enter.
};

// See Platform::prove_vm().  Errors: kAlreadyExists, kNoSpace (memory), kPlatform (it does not
// start), those of make_domain().
Status prove_vm(const ProofPlace& place, const NewVm& vm, const std::string& proof_id);

}  // namespace farside::agent::libvirt
