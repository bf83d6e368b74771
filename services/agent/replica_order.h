// What the vault orders of a replica, taken over by the core's record and by the workers' alike.
#pragma once

#include "common/schema/agent.plain.h"

namespace farside::agent {

// Who was shut out comes back with a key of his own: without one, the key on record is still that
// of whoever was revoked.
inline bool stays_revoked(bool was, const msg::ItemSettings& settings) {
  return settings.peer_revoked || (was && settings.peer_key.empty());
}

// A source that is away is in no inventory: what the vault cannot say now stays as it was.
inline void take_order(msg::ReplicaItem& replica, const msg::ItemSettings& settings) {
  replica.policy = settings.policy;
  if (!settings.peer_key.empty()) replica.source_key = settings.peer_key;
  replica.peer_revoked = stays_revoked(replica.peer_revoked, settings);
  if (!settings.disks.empty()) replica.disks = settings.disks;
  if (!settings.networks.empty()) replica.networks = settings.networks;
  if (!settings.vm_name.empty()) replica.vm_name = settings.vm_name;
}

}  // namespace farside::agent
