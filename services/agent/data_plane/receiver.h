// The target's data port: takes deltas from the sources it was told of.
//
// Owns: the port (CURVE; no plaintext) and the one beside it for bulk that is sealed frame by
// frame, a thread for each, and one per session.  Thread: any. Bounds: what strangers and peers may
// take of memory and connections is the listener's matter (common/bus/listener.h).  A source has
// kSessionsPerSourceMax sessions, one for each item; it may have `window_bytes` under way in each,
// and what its budget allows in all of them together; one that sends more than it was told is cut
// off.
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

// A further session is told to come again later.
inline constexpr std::size_t kSessionsMax = 256;
inline constexpr std::size_t kSessionsPerSourceMax = 24;
inline constexpr std::uint64_t kWindowBytesMin = std::uint64_t{2} << 20U;  // More than any batch.

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
