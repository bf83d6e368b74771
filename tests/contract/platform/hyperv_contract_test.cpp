// The contract of platforms, kept by Hyper-V: a simulated host with real guests on VHDX files.
#include "tests/contract/platform/hyperv_host.h"
#include "tests/contract/platform/platform_contract.h"

namespace farside::agent {

INSTANTIATE_TYPED_TEST_SUITE_P(Hyperv, PlatformContract, HypervHost);

}  // namespace farside::agent
