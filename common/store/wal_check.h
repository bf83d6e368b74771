// Looks into the log of a RocksDB store before RocksDB does, which drops what follows damage
// without a word.
//
//   ... record record | torn            what a crash leaves: never acknowledged, dropped
//   ... record torn | record            what a crash leaves of an open after that: the next log
//                                       goes on with the sequence at which the torn one ends
//   ... record damaged record record    what a volume did: acknowledged commits would vanish
//
// Thread: any.
#pragma once

#include <string>

#include "common/base/result.h"

namespace farside::store {

// `folder` is that of a store; none there is fine.  Errors: kCorrupt (damage before the tail),
// those of File.
Status check_wal(const std::string& folder);

}  // namespace farside::store
