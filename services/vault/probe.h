// What the vault shows to Prometheus of the whole installation.
//
// Thread: the reactor's.
#pragma once

#include <set>
#include <string>

#include "common/metrics/registry.h"
#include "services/vault/catalog.h"

namespace farside::vault {

class Probe final {
 public:
  explicit Probe(metrics::Registry& registry) : registry_(registry) {}

  // Every few seconds, with all there are: who is missing is forgotten.
  void items(const std::vector<msg::ProtectedItem>& items, const Live& live);
  void peers(const Live& live);

 private:
  metrics::Registry& registry_;
  std::set<std::string> shown_;  // Items.
};

}  // namespace farside::vault
