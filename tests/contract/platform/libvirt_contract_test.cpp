// The contract of platforms, kept by libvirt with real guests.
#include "tests/contract/platform/libvirt_host.h"
#include "tests/contract/platform/platform_contract.h"

namespace farside::agent {

INSTANTIATE_TYPED_TEST_SUITE_P(Libvirt, PlatformContract, LibvirtHost);

}  // namespace farside::agent
