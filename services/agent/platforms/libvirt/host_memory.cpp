#include "services/agent/platforms/libvirt/host_memory.h"

#include <fmt/core.h>

#include <string_view>
#include <vector>

#include "services/agent/platforms/libvirt/connection.h"
#include "services/agent/platforms/libvirt/domain_jobs.h"

namespace farside::agent::libvirt {
namespace {

// What is free, and what the kernel gives up when asked.
Result<std::uint64_t> available_mib(virConnectPtr connection) {
  int count = 0;
  if (virNodeGetMemoryStats(connection, VIR_NODE_MEMORY_STATS_ALL_CELLS, nullptr, &count, 0) != 0) {
    return libvirt_error("memory of this host");
  }
  std::vector<virNodeMemoryStats> stats(static_cast<std::size_t>(count));
  if (virNodeGetMemoryStats(connection, VIR_NODE_MEMORY_STATS_ALL_CELLS, stats.data(), &count, 0) !=
      0) {
    return libvirt_error("memory of this host");
  }
  std::uint64_t mib = 0;
  for (const auto& each : stats) {
    const std::string_view field = each.field;
    if (field == VIR_NODE_MEMORY_STATS_FREE || field == VIR_NODE_MEMORY_STATS_CACHED ||
        field == VIR_NODE_MEMORY_STATS_BUFFERS) {
      mib += each.value >> 10U;
    }
  }
  return mib;
}

}  // namespace

Status check_memory(virConnectPtr connection, virDomainPtr domain) {
  FARSIDE_ASSIGN(const auto available, available_mib(connection));
  virDomainInfo info{};
  if (virDomainGetInfo(domain, &info) != 0) {
    return libvirt_error(fmt::format("memory of VM '{}'", name_of(domain)));
  }
  const std::uint64_t needed = info.maxMem >> 10U;
  if (needed <= available) return {};
  return fail(ErrorCode::kNoSpace,
              fmt::format("VM '{}' needs {} MiB of memory, and this host has {} MiB left",
                          name_of(domain), needed, available),
              "stop VMs on this host, or place the replica on a larger one");
}

}  // namespace farside::agent::libvirt
