// The source's pipeline: brings one point of a VM over to the target as one delta.
//
//   frozen disks --reads--> hash, zeros, zstd (threads) --credit, bandwidth--> target
//
// A delta is resumable: see PendingMap.  Which `since` to take the point with:
//
//   Pending pending = shipper.pending(item);
//   since = pending.attempt if there is one of this epoch and the platform still has that token,
//           else the token of the newest durable point that the caller knows of, else empty.
//
// After a success pending.attempt is that of the delta that just became durable, so that a caller
// who died before noting it does not lose track.
//
// Owns: a ZeroMQ context.  Thread: any; one call per item at a time.
#pragma once

#include <cstdint>
#include <functional>
#include <stop_token>
#include <string>
#include <zmq.hpp>

#include "common/base/random.h"
#include "common/base/result.h"
#include "common/bus/curve_keys.h"
#include "common/schema/types.plain.h"
#include "services/agent/data_plane/kept_hashes.h"
#include "services/agent/data_plane/pending_map.h"
#include "services/agent/platforms/platform.h"

namespace farside::data {

enum class ShipMode {
  kChanged,     // What changed since `since`; resumes a pending delta if `since` is its attempt.
  kEverything,  // The allocated ranges: the initial copy.  `since` empty, or as above.
  kResync,      // Compare hashes, send what differs.
};

struct ShipRequest {
  std::string item;
  std::uint64_t epoch = 0;
  std::string endpoint;
  std::string target_key;
  bus::CurveKeys keys;
  std::string attempt;  // Token of the point.
  std::string since{};  // Token it was taken since.
  ShipMode mode = ShipMode::kChanged;
  bool compression = true;
  std::uint64_t bytes_per_second = 0;  // 0 = no limit.
  int silent_s = 20;
  int request_s = 300;  // The target works on one request no longer than this.
  std::stop_token stop{};
};

struct Progress {
  std::uint64_t done = 0;   // Guest bytes ...
  std::uint64_t total = 0;  // ... of this attempt.
  std::uint64_t wire = 0;
};

struct Shipped {
  msg::RecoveryPoint point;
  std::uint64_t guest_bytes = 0;  // Of the blocks that were looked at in this attempt.
  std::uint64_t wire_bytes = 0;
  std::uint64_t blocks_sent = 0;
  std::uint64_t zero_blocks = 0;   // Of them.
  std::uint64_t delta_blocks = 0;  // That the point differs by, sent in whichever attempt.
  bool resynced = false;           // Hashes were compared.
  bool resumed = false;            // An earlier attempt's blocks were not sent again.
  std::string hash_key{};          // Of the replica: see DigestRequest.
};

class Shipper final {
 public:
  // `state_folder` keeps one small file per item while a delta is pending, and one with the hashes
  // of all its blocks.  An item that is no plain name of a file is refused by all calls:
  // kForbidden.
  Shipper(std::string state_folder, Random& random, std::size_t pack_threads = 2);

  // Errors: kTrackingLost (the replica is not at the point that the changes count from, or the
  // pending delta is not this one's: resynchronise); kCancelled; those of the platform's disks;
  // kUnavailable, kTimeout, kForbidden, kStaleEpoch, kNoSpace, kConflict from the target.  After an
  // error everything that arrived stays there for the next attempt.
  Result<Shipped> ship(agent::Point& point, const ShipRequest& request,
                       const std::function<void(const Progress&)>& on_progress = {});

  // The digest of `point`, which was just shipped; see digest_by().
  Result<std::string> digest(const std::string& item, agent::Point& point,
                             const DigestRequest& request,
                             const std::function<void(const Progress&)>& on_progress = {}) const;

  Result<Pending> pending(const std::string& item) const;
  Status forget(const std::string& item) const;

 private:
  PendingMap map_of(const std::string& item) const;
  std::string hashes_of(const std::string& item) const;

  std::string state_folder_;
  Random& random_;
  std::size_t pack_threads_;
  zmq::context_t context_{1};
};

}  // namespace farside::data
