// The source's end of a session: a DEALER socket to one target, CURVE-encrypted, that notices when
// the target falls silent.
//
// Owns: the socket and its monitor.  Thread: one.
// Invariant: no wait is longer than asked for, and a peer that is silent for `silent_s` although it
// was pinged is an error.
#pragma once

#include <chrono>
#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <zmq.hpp>

#include "common/base/result.h"
#include "common/bus/curve_keys.h"
#include "common/schema/data.plain.h"
#include "services/agent/data_plane/bulk_sender.h"
#include "services/agent/data_plane/seal.h"

namespace farside::data {

struct ChannelOptions {
  std::string endpoint;    // "tcp://host:8084"
  std::string target_key;  // Z85
  bus::CurveKeys keys;     // Our own.
  int silent_s = 20;
};

struct Received {
  msg::DataFrame frame;
  std::string payload;
};

class Channel final {
 public:
  Channel(Channel&&) = default;
  Channel& operator=(Channel&&) = delete;
  ~Channel();

  // Does not wait for the connection; `context` outlives the channel.  Errors: kInvalidArgument
  // (endpoint, keys).
  static Result<Channel> open(zmq::context_t& context, const ChannelOptions& options);

  // Errors: kUnavailable (it takes nothing more).
  Status send(const msg::DataFrame& frame, std::string payload = {});

  // Opens the way beside CURVE and asks the target whether frames arrive there; it answers with
  // SealedReady, or never.  Errors: kInvalidArgument.
  Status open_sealed(const msg::DeltaOpened& opened);
  Status send_sealed(const msg::DataFrame& frame, std::string payload = {});

  // What the target sent next; empty after `timeout_ms`, or earlier when `also_fd` can be read.
  // Errors: kUnavailable (silent, or it closed), kForbidden (our key is unknown there), kCorrupt,
  // and whatever the target refused with.
  Result<std::optional<Received>> receive(int timeout_ms, int also_fd = -1);

  // Blocks may go sealed.
  bool is_sealed_ready() const { return is_sealed_ready_; }

  std::uint64_t bytes_sent() const { return bytes_sent_; }

 private:
  using Moment = std::chrono::steady_clock::time_point;
  Channel() = default;
  Result<std::optional<Received>> take();
  Status check_monitor();
  Status check_silence();

  ChannelOptions options_;
  zmq::socket_t socket_;
  zmq::socket_t monitor_;
  std::unique_ptr<BulkSender> bulk_;  // Unless open_sealed() was not called.
  std::optional<Seal> seal_;
  bool is_connected_ = false;
  bool is_sealed_ready_ = false;
  Moment heard_;
  Moment pinged_;
  std::uint64_t bytes_sent_ = 0;
};

}  // namespace farside::data
