// The control plane over ZeroMQ: CURVE-encrypted TCP, both ends known by key.
//
// A Listener takes those who dial us (if there is an endpoint), one DEALER of libzmq dials each
// peer that has an endpoint.
// Who a frame comes from is told by the key of its connection, never by its content.  An empty
// frame is a ping; pings go both ways every `ping_every_ms`, and a peer that sends nothing for
// `silent_after_ms` is reported silent.  A dialled peer that stays silent is dialled anew, with
// back-off, whatever libzmq itself believes about the connection.
//
// Owns: a ZeroMQ context with its sockets, the listener.
// Thread: the reactor's, except wake() and refused_keys, which may be used from any.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <string>

#include "common/base/clock.h"
#include "common/bus/curve_keys.h"
#include "common/reactor/bus.h"

namespace farside::bus {

struct ZmqBusOptions {
  CurveKeys keys;
  std::string listen;  // "tcp://0.0.0.0:8081", port 0 or * for a free one; empty: dials only.
  int ping_every_ms = 2'000;
  int silent_after_ms = 6'000;
  int redial_first_ms = 1'000;  // Doubles with each try up to ...
  int redial_max_ms = 10'000;
  int frames_queued_max = 1'000;  // Per dialled peer and direction; what comes on top is dropped.
  std::size_t frame_bytes_max = std::size_t{16} << 20U;
};

struct ZmqBusStats {
  std::uint64_t frames_in = 0;
  std::uint64_t frames_out = 0;
  std::uint64_t dropped = 0;         // Not sent: peer unknown, away or its queue full, too large.
  std::uint64_t refused_keys = 0;    // Handshakes with unknown or revoked keys.
  std::uint64_t refused_frames = 0;  // From a live connection whose key is no longer admitted.
  std::uint64_t redials = 0;
  std::uint64_t turned_away =
      0;                     // Connections to our port, for want of room or of a proof in time.
  std::uint64_t broken = 0;  // Connections to our port, ended for what they sent.
};

class ZmqBus final : public reactor::Bus {
 public:
  // `clock` outlives the bus.  Errors: kUnavailable (the port is taken), kInvalidArgument.
  static Result<std::unique_ptr<ZmqBus>> open(const ZmqBusOptions& options, const Clock& clock);
  ~ZmqBus() override;

  // Errors: kInvalidArgument (no key, bad endpoint), kConflict (another principal has that key).
  Status set_peer(const msg::Peer& peer) override;
  void remove_peer(const std::string& principal) override;
  void send(const std::string& principal, std::string frame) override;
  Status poll(int timeout_ms, int frames_max, const Handlers& handlers) override;
  void wake() override;

  // Where it really listens: "tcp://0.0.0.0:41237"; empty if it does not.
  std::string endpoint() const;
  ZmqBusStats stats() const;

 private:
  struct Impl;
  explicit ZmqBus(std::unique_ptr<Impl> impl);
  std::unique_ptr<Impl> impl_;
};

}  // namespace farside::bus
