// The door of the agent: whether what an order or a setting says can be meant at all, judged before
// anything is decided, recorded or run.  Ids become names of files and VMs, paths are where folders
// are made, hours become microseconds.  Pure.
#pragma once

#include <cstdint>
#include <string_view>

#include "common/base/result.h"
#include "common/schema/agent.plain.h"
#include "common/schema/envelope.plain.h"

namespace farside::agent {

// Judges every field of these names, of whatever message: an order that is new is judged as well.
//   item                            an id
//   vm, test_vm                     an id; empty only where this agent fills it in
//   storage_path                    an absolute path without "." and ".." to 1024 bytes, not "/"
//   epoch                           1 to 2^62 - 1
//   policy, keep_hours              an interval of a second at least, no time beyond 100 years
//   deadline_seconds                a week at most
//   endpoint                        one that may be dialled
// Of ItemSettings the epoch may be 0, and where they end an item they have no policy.  Their
// peer_endpoint is another site's word, which must not keep the vault's own from being taken: it is
// judged where it is.
// Errors: kInvalidArgument, kForbidden (storage_path); each names order and field.
Status check_order(const msg::Message& order);

// The epoch of an item that is on record here under `known` grows by one with each failover: an
// order that leaps more than kEpochStepMax ahead would shut out every later one.  Errors:
// kForbidden.
inline constexpr std::uint64_t kEpochStepMax = 1U << 20U;
Status check_epoch_step(std::uint64_t known, const msg::Message& order);

// An order about an item that is replicated from here concerns its VM, and no other of this host.
// Errors: kForbidden.
Status check_own_vm(const msg::SourceItem& source, const msg::Message& order);

}  // namespace farside::agent
