// What the vault shows to Prometheus of the whole installation.
//
// Thread: the reactor's.
#pragma once

#include <set>
#include <string>

#include "common/metrics/problems.h"
#include "common/metrics/registry.h"
#include "services/vault/catalog.h"
#include "services/vault/front_door/server.h"
#include "services/vault/item_health.h"

namespace farside::vault {

class Probe final {
 public:
  // `notices` are told beside what is wrong with the process itself.
  Probe(metrics::Registry& registry, metrics::Problems& notices)
      : registry_(registry), notices_(notices) {}

  // Every few seconds, with all there are: who is missing is forgotten.
  void items(const std::vector<msg::ProtectedItem>& items, const Live& live);
  void health(const VaultHealth& health);
  void peers(const Live& live);
  // After each turn; figures since the start.
  void front_door(const front_door::ServerStats& stats);

 private:
  metrics::Registry& registry_;
  metrics::Problems& notices_;
  std::set<std::string> shown_;  // Items.
  std::set<std::string> peers_;
};

}  // namespace farside::vault
