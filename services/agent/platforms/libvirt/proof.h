// Whether this host can build and start a VM, found out by building and starting one like it: with
// empty disks, no network link, and paused, so that no guest code runs.
#pragma once

#include <libvirt/libvirt.h>

#include <string>

#include "services/agent/platforms/libvirt/transform.h"

namespace farside::agent::libvirt {

struct ProofPlace {
  virConnectPtr connection;
  const Networks& networks;
  TargetHost host;
  std::string folder;  // Of folders for the files of proofs; QEMU may read and write there.
};

// See Platform::prove_vm().  Errors: kAlreadyExists, kNoSpace (memory), kPlatform (it does not
// start), those of make_domain().
Status prove_vm(const ProofPlace& place, const NewVm& vm, const std::string& proof_id);

// Files of proofs that a crash interrupted; their domains go with all test VMs that nobody wants.
void remove_proof_files(const std::string& folder);

}  // namespace farside::agent::libvirt
