// The target's data port: takes deltas from the sources it was told of.
//
// Owns: a ZeroMQ context with a ROUTER socket (CURVE; no plaintext) and the key gate, one thread
// for them, and one thread per session, at most kSessionsMax.  Thread: any. Bounds: a source may
// have `window_bytes` under way; one that sends more is cut off.
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "common/base/clock.h"
#include "common/base/result.h"
#include "common/bus/curve_keys.h"
#include "services/agent/data_plane/figures.h"
#include "services/agent/replica_store/item.h"

namespace farside::data {

inline constexpr std::size_t kSessionsMax = 64;  // A further source is told to come again later.

struct ReceiverOptions {
  std::string endpoint;  // "tcp://*:8084"; port * picks a free one.
  bus::CurveKeys keys;
  std::uint64_t window_bytes = std::uint64_t{16} << 20U;
  int idle_s = 60;  // A session that hears nothing for so long ends.

  // Finds or makes a replica; any session's thread.
  std::function<Result<replica::SharedItem>(const std::string& item,
                                            const std::vector<msg::ReplicaDisk>& disks)>
      open_item;
  // A point became durable; any session's thread.  May be empty.
  std::function<void(const std::string& item, const msg::RecoveryPoint& point)> on_durable;
};

class Receiver final {
 public:
  // Errors: kInvalidArgument (endpoint, keys), kConflict (the port is taken), kInternal.
  static Result<std::unique_ptr<Receiver>> start(ReceiverOptions options, const Clock& clock);
  ~Receiver();  // Ends all sessions; what they staged stays.

  const std::string& endpoint() const;  // With the port it got.

  // From now on the owner of `source_key` may replicate `item` under `epoch`, and nobody else.  A
  // higher epoch ends a session of a lower one.  Errors: kStaleEpoch, kInvalidArgument (key).
  Status allow(const std::string& item, const std::string& source_key, std::uint64_t epoch);

  // Nobody may.  Once this returned, no session touches the item any more.
  void forbid(const std::string& item);

  ReceiverFigures figures() const;

  // Why no delta can be received any more; empty: all is well.
  std::string problem() const;

 private:
  struct Impl;
  explicit Receiver(std::unique_ptr<Impl> impl);
  void forget_key(const std::string& key);
  std::unique_ptr<Impl> impl_;
};

}  // namespace farside::data
