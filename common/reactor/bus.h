// The control-plane transport as the reactor sees it: named, authenticated peers and whole frames.
//
// Implementations: ZmqBus (production), SimBus (simulation); one contract suite.
// Delivery is at most once per send and in no promised order after a reconnect: whoever needs an
// answer repeats its request under the same id.  Thread: the reactor's.
#pragma once

#include <functional>
#include <string>
#include <string_view>
#include <vector>

#include "common/base/result.h"
#include "common/schema/types.plain.h"

namespace farside::reactor {

// Who a frame really came from, as proven by its CURVE key; never what the frame claims.
struct PeerId {
  std::string principal;  // "agent/siteA/host1"
  msg::Role role = msg::Role::nobody;
  bool operator==(const PeerId&) const = default;
};

struct PeerChange {
  PeerId peer;
  bool connected = false;  // False: silent for `silent_after_ms`.
};

class Bus {
 public:
  virtual ~Bus() = default;

  // The set of identities that may talk to us, and where to dial those that listen.  A peer with
  // an endpoint is dialled and redialled; one without is expected to dial us.  Replaces an earlier
  // entry of the same principal; a revoked entry cuts its connection and refuses its key.
  virtual Status set_peer(const msg::Peer& peer) = 0;
  virtual void remove_peer(const std::string& principal) = 0;

  // Queues a frame; dropped (and counted) when the peer is away or its queue is full.
  virtual void send(const std::string& principal, std::string frame) = 0;

  struct Handlers {
    std::function<void(const PeerId&, std::string_view frame)> on_frame;
    std::function<void(const PeerChange&)> on_peer;
  };

  // Waits up to `timeout_ms` for something to arrive, then delivers up to `frames_max` frames and
  // all peer changes.  wake() from any thread ends the wait early.
  virtual Status poll(int timeout_ms, int frames_max, const Handlers& handlers) = 0;
  virtual void wake() = 0;
};

}  // namespace farside::reactor
