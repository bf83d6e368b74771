// What a provider shows to Prometheus of its site.
//
// Thread: the reactor's.
#pragma once

#include <string>

#include "common/metrics/problems.h"
#include "common/metrics/registry.h"
#include "common/schema/types.plain.h"

namespace farside::provider {

class Probe final {
 public:
  Probe(metrics::Registry& registry, metrics::Problems& problems)
      : registry_(registry), problems_(problems) {}

  void site(const msg::Inventory& inventory);
  void odd_key(const std::string& host);
  void site_file(const std::string& problem) { problems_.set("site file", problem); }

 private:
  metrics::Registry& registry_;
  metrics::Problems& problems_;
};

}  // namespace farside::provider
