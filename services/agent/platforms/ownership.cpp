#include "services/agent/platforms/ownership.h"

#include <fmt/format.h>

namespace farside::agent {

Status refuse_to_remove(const std::string& vm_name) {
  return fail(ErrorCode::kForbidden,
              fmt::format("VM '{}' was made by a failover and may hold production", vm_name),
              "remove it with the host's own tools if it is not needed");
}

Status refuse_to_release(const std::string& vm_name) {
  return fail(ErrorCode::kConflict,
              fmt::format("VM '{}' was made for a test failover, or is not whole", vm_name),
              "clean the test failover up, or repeat what makes the VM");
}

}  // namespace farside::agent
