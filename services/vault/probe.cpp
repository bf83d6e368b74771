#include "services/vault/probe.h"

#include "services/vault/item_health.h"

namespace farside::vault {
namespace {

double seconds(std::int64_t micros) {
  return static_cast<double>(micros) / 1'000'000.0;
}

}  // namespace

void Probe::items(const std::vector<msg::ProtectedItem>& items, const Live& live) {
  std::set<std::string> now;
  for (const auto& item : items) {
    now.insert(item.id);
    // A state, name or place that changed must not leave its old figure behind.
    registry_.forget("item", item.id);
    const metrics::Labels labels{{"item", item.id}, {"name", item.name}};
    const auto gauge = [&](const char* name, const char* help, double value) {
      registry_.gauge(name, help, labels).set(value);
    };
    registry_
        .gauge("farside_item_info", "1 for each protected item: what its id stands for.",
               {{"item", item.id},
                {"name", item.name},
                {"vm", item.vm},
                {"vm_name", item.vm_name},
                {"policy", item.policy},
                {"source_agent", item.source_agent},
                {"target_agent", item.target_agent},
                {"state", std::string(msg::to_text(item.state))}})
        .set(1);
    gauge("farside_item_health", "0 unknown, 1 normal, 2 warning, 3 critical.",
          static_cast<double>(health_of(item, live).health));
    gauge("farside_item_epoch", "Role epoch of the item.", static_cast<double>(item.epoch));
    gauge("farside_item_drill_timestamp_seconds",
          "When its newest test failover showed that its VM lives; 0 = it did not, or never.",
          item.drill_sign.empty() ? 0.0 : seconds(item.drilled_at));
    gauge("farside_item_drill_boot_seconds", "How long the test VM then took to start.",
          static_cast<double>(item.drill_boot_millis) / 1000.0);
    gauge("farside_item_failover_timestamp_seconds", "When it was last failed over; 0 = never.",
          seconds(item.failed_over_at));
  }
  for (const auto& id : shown_) {
    if (!now.contains(id)) registry_.forget("item", id);
  }
  shown_ = std::move(now);
}

void Probe::peers(const Live& live) {
  for (const auto& [principal, connected] : live.connected) {
    registry_
        .gauge("farside_peer_connected", "1 while the process is heard of.",
               {{"principal", principal}})
        .set(connected ? 1 : 0);
  }
}

}  // namespace farside::vault
