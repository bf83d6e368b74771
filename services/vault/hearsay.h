// What sites say about themselves, cut to what an operator can read: an agent that means harm would
// fill the vault's memory with its excuses.
#pragma once

#include "common/schema/agent.plain.h"
#include "common/schema/types.plain.h"

namespace farside::vault {

inline constexpr std::size_t kFaultsMax = 20;      // Of one replica.
inline constexpr std::size_t kTroublesMax = 1000;  // Of one host: VMs.

void cut(msg::ReplicationStatus& status);
void cut(msg::ReplicaStatus& status);
void cut(msg::HostState& host);

}  // namespace farside::vault
