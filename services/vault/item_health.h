// How well a protected item is, from everything the vault knows of it, with the reasons.
#pragma once

#include <vector>

#include "services/vault/catalog.h"

namespace farside::vault {

struct HealthReason {
  bool is_critical = false;
  bool is_at_target = false;
  msg::Fault fault;
};

struct ItemHealth {
  msg::Health health = msg::Health::normal;
  std::vector<HealthReason> reasons;  // Never empty unless the health is normal.
};

ItemHealth health_of(const msg::ProtectedItem& item, const Live& live);

}  // namespace farside::vault
