// Whether this host can run guests by hardware virtualisation.
#pragma once

#include <string>

namespace farside::agent::libvirt {

// Boots a machine under KVM with the host's own processor model up to a boot sector of ours, which
// is the only reliable answer: /dev/kvm may be there without working.  Takes a fraction of a
// second where it works, up to ten seconds where it does not.
bool kvm_boots(const std::string& emulator);

}  // namespace farside::agent::libvirt
