#include "services/provider/probe.h"

namespace farside::provider {

void Probe::site(const msg::Inventory& inventory) {
  for (const auto& entry : inventory.hosts) {
    const metrics::Labels labels{{"host", entry.host.name}};
    registry_.forget("host", entry.host.name);  // Paths come and go.
    registry_.gauge("farside_host_connected", "1 while the agent of the host is heard of.", labels)
        .set(entry.connected ? 1 : 0);
    registry_.gauge("farside_host_vms", "Virtual machines on the host.", labels)
        .set(static_cast<double>(entry.vms.size()));
    for (const auto& path : entry.host.storage) {
      auto with_path = labels;
      with_path["path"] = path.path;
      registry_.gauge("farside_host_storage_free_bytes", "Free bytes for replicas.", with_path)
          .set(static_cast<double>(path.free_bytes));
      registry_.gauge("farside_host_storage_bytes", "Size of the volume.", with_path)
          .set(static_cast<double>(path.total_bytes));
    }
  }
}

void Probe::odd_key(const std::string& host) {
  registry_
      .counter("farside_host_foreign_keys_total",
               "Data keys an agent claimed that are not the one it was admitted with.",
               {{"agent_host", host}})
      .add();
}

}  // namespace farside::provider
