// How well a protected item is, from everything the vault knows of it, with the reasons.
#pragma once

#include <string>
#include <string_view>
#include <vector>

#include "services/vault/catalog.h"

namespace farside::vault {

// What kind of trouble it is; a closed list, for figures.
enum class Reason {
  silent_agent,
  host,          // Something is wrong with a whole host, such as fences that cannot be checked.
  job_waits,     // A job waits for an operator.
  missed_rpo,    // No recovery point has arrived for longer than the policy allows.
  stray_vm,      // The VM is fenced and was found running.
  unclean_vm,    // What an earlier point left could not be cleaned up.
  paused,        // By an operator.
  replication,   // What the source says.
  stopped,       // The source replicates no more, and no job says why.
  replica,       // What the target says.
  proof,         // A VM could not be built from it.
  damage,        // Stored blocks are damaged.
  orchestrator,  // It is silent: no job goes on.
};
std::string_view to_text(Reason reason);

struct HealthReason {
  Reason kind = Reason::replication;
  bool is_critical = false;
  bool is_at_target = false;
  msg::Fault fault;
};

struct ItemHealth {
  msg::Health health = msg::Health::normal;
  std::vector<HealthReason> reasons;  // Never empty unless the health is normal.
};

ItemHealth health_of(const msg::ProtectedItem& item, const Live& live);

// All that is wrong with what the vault keeps, items' reasons and those that concern none of them.
struct VaultReason {
  std::string item;  // Its name; empty: of none.
  std::string vm;
  HealthReason reason;
};
struct VaultHealth {
  msg::Health health = msg::Health::normal;
  std::vector<VaultReason> reasons;  // Critical ones first.
};
VaultHealth health_of(const std::vector<msg::ProtectedItem>& items, const Live& live);

// The critical ones, a line each and at most kLinesMax; empty while there is none.
inline constexpr std::size_t kLinesMax = 20;
std::string critical_lines(const VaultHealth& health);

}  // namespace farside::vault
