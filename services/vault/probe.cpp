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
    const auto health = health_of(item, live);
    gauge("farside_item_health", "0 unknown, 1 normal, 2 warning, 3 critical.",
          static_cast<double>(health.health));
    for (const auto& reason : health.reasons) {
      registry_
          .gauge("farside_item_problem",
                 "2 (warning) or 3 (critical) for each reason why the item is not well.",
                 {{"item", item.id},
                  {"name", item.name},
                  {"reason", std::string(to_text(reason.kind))}})
          .set(reason.is_critical ? 3 : 2);
    }
    if (const auto point = live.points.find(item.id); point != live.points.end()) {
      gauge("farside_item_recovery_point_arrived_timestamp_seconds",
            "When its newest recovery point arrived, by the vault's clock.",
            seconds(point->second.arrived_at));
      gauge("farside_item_recovery_point_allowed_seconds",
            "How old that may get before its RPO is missed.", seconds(point->second.allowed));
      gauge("farside_item_rpo_missed",
            "1 while no recovery point has arrived for longer than that.",
            point->second.is_missed ? 1 : 0);
    }
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

void Probe::health(const VaultHealth& health) {
  registry_
      .gauge("farside_vault_health",
             "Of all that the vault keeps, the worst: 1 normal, 2 warning, 3 critical.")
      .set(static_cast<double>(health.health));
  notices_.set("critical", critical_lines(health));
}

void Probe::front_door(const front_door::ServerStats& stats) {
  const auto counter = [&](const char* name, const char* help, std::uint64_t total) {
    registry_.counter(name, help).raise_to(static_cast<double>(total));
  };
  registry_.gauge("farside_front_door_connections", "HTTPS connections that are open.")
      .set(static_cast<double>(stats.connections));
  counter("farside_front_door_connections_total", "HTTPS connections accepted.", stats.accepted);
  registry_
      .gauge("farside_front_door_strangers",
             "HTTPS connections that are open and have shown no token yet.")
      .set(static_cast<double>(stats.strangers));
  counter("farside_front_door_closed_for_room_total",
          "Of those, closed for newer ones because there were too many.", stats.closed_for_room);
  counter("farside_front_door_refused_total",
          "Requests with a valid token refused: too many clients, or bodies.", stats.refused);
  counter("farside_front_door_unauthorized_total", "Requests without a valid token.",
          stats.unauthorized);
  counter("farside_front_door_failed_handshakes_total", "TLS handshakes that failed.",
          stats.failed_handshakes);
  counter("farside_front_door_requests_total", "Requests taken.", stats.requests);
  counter("farside_front_door_unanswered_total", "Requests answered 504: nobody did in time.",
          stats.unanswered);
}

void Probe::peers(const Live& live) {
  std::set<std::string> now;
  for (const auto& [principal, connected] : live.connected) {
    now.insert(principal);
    registry_
        .gauge("farside_peer_connected", "1 while the process is heard of.",
               {{"principal", principal}})
        .set(connected ? 1 : 0);
  }
  for (const auto& principal : peers_) {
    if (!now.contains(principal)) registry_.forget("principal", principal);
  }
  peers_ = std::move(now);
}

}  // namespace farside::vault
