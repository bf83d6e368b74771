#include "services/agent/data_plane/channel.h"

#include <array>
#include <atomic>
#include <cerrno>
#include <cstring>

#include "common/base/endpoint.h"
#include "services/agent/data_plane/frames.h"
#include "services/agent/replica_store/layout.h"

namespace farside::data {
namespace {

constexpr auto kPingEvery = std::chrono::seconds(2);
// After this long without a word the silence is a fact even if no ping was due.
constexpr int kHandshakeMs = 5'000;
// What was sent in parts is given time to leave: libzmq ends the process if a connection breaks
// between two parts of a message whose socket was closed, and has nothing of the second any more.
// Source: libzmq issue 3442 (session_base.cpp, clean_pipes).
constexpr int kLingerMs = 1'000;

}  // namespace

Result<Channel> Channel::open(zmq::context_t& context, const ChannelOptions& options) {
  if (!bus::is_key(options.target_key) || !bus::is_key(options.keys.public_key) ||
      !bus::is_key(options.keys.secret_key)) {
    return fail(ErrorCode::kInvalidArgument, "a data session needs the keys of both ends");
  }
  FARSIDE_TRY(check_endpoint(options.endpoint));
  static std::atomic<std::uint64_t> number{0};
  Channel channel;
  channel.options_ = options;
  try {
    channel.socket_ = zmq::socket_t(context, zmq::socket_type::dealer);
    zmq::socket_t& socket = channel.socket_;
    socket.set(zmq::sockopt::curve_serverkey, options.target_key);
    socket.set(zmq::sockopt::curve_publickey, options.keys.public_key);
    socket.set(zmq::sockopt::curve_secretkey, options.keys.secret_key);
    socket.set(zmq::sockopt::handshake_ivl, kHandshakeMs);
    socket.set(zmq::sockopt::maxmsgsize, kFrameBytesMax);
    socket.set(zmq::sockopt::linger, kLingerMs);
    socket.set(zmq::sockopt::sndhwm, 4096);
    socket.set(zmq::sockopt::rcvhwm, 4096);
    socket.set(zmq::sockopt::sndtimeo, 0);
    socket.set(zmq::sockopt::reconnect_ivl, 100);
    socket.set(zmq::sockopt::reconnect_ivl_max, 1000);
    socket.set(zmq::sockopt::tcp_keepalive, 1);
    socket.set(zmq::sockopt::ipv6, true);
    const std::string events = "inproc://data-channel-" + std::to_string(++number);
    constexpr int kEvents =
        ZMQ_EVENT_HANDSHAKE_FAILED_AUTH | ZMQ_EVENT_HANDSHAKE_SUCCEEDED | ZMQ_EVENT_DISCONNECTED;
    if (zmq_socket_monitor(socket.handle(), events.c_str(), kEvents) != 0) {
      return fail(ErrorCode::kInternal, "cannot watch a data connection");
    }
    channel.monitor_ = zmq::socket_t(context, zmq::socket_type::pair);
    channel.monitor_.set(zmq::sockopt::linger, 0);
    channel.monitor_.connect(events);
    socket.connect(options.endpoint);
  } catch (const zmq::error_t& error) {
    return fail(ErrorCode::kInvalidArgument,
                "connect to the data port " + options.endpoint + ": " + error.what(),
                "check the data endpoint of the target agent");
  }
  channel.heard_ = channel.pinged_ = std::chrono::steady_clock::now();
  return channel;
}

// A socket that is watched reports events, on libzmq's own thread, as long as it lives, which is
// beyond our close.  With the watcher gone that report waits for ever, and every other session of
// the context with it: the watch ends before the watcher does.
Channel::~Channel() {
  if (socket_.handle() != nullptr) zmq_socket_monitor(socket_.handle(), nullptr, 0);
}

Status Channel::send(const msg::DataFrame& frame, std::string payload) {
  const std::string head = encode(frame);
  bytes_sent_ += head.size() + payload.size();
  try {
    const bool with_payload = !payload.empty();
    const auto flags = with_payload ? zmq::send_flags::sndmore : zmq::send_flags::none;
    bool sent = socket_.send(to_message(head), flags).has_value();
    if (sent && with_payload) {
      sent = socket_.send(to_message(std::move(payload)), zmq::send_flags::none).has_value();
    }
    if (sent) return {};
  } catch (const zmq::error_t& error) {
    return fail(ErrorCode::kUnavailable, "send to " + options_.endpoint + ": " + error.what());
  }
  FARSIDE_TRY(check_monitor());  // It may have told why.
  return fail(ErrorCode::kUnavailable, "the target at " + options_.endpoint + " takes no data");
}

Status Channel::open_sealed(const msg::DeltaOpened& opened) {
  const std::size_t colon = options_.endpoint.rfind(':');
  if (colon == std::string::npos) {
    return fail(ErrorCode::kInvalidArgument, "no port in " + options_.endpoint);
  }
  const std::string endpoint =
      options_.endpoint.substr(0, colon + 1) + std::to_string(opened.sealed_port);
  FARSIDE_ASSIGN(seal_, Seal::with_key(opened.sealed_key, Seal::Side::kSeals));
  FARSIDE_ASSIGN(bulk_, BulkSender::open(endpoint, opened.sealed_session,
                                         std::chrono::seconds(options_.silent_s)));
  // Where that way is closed nothing answers, and everything goes inside CURVE.
  std::ignore = send_sealed(frame(msg::DataPing{}));
  return {};
}

Status Channel::send_sealed(const msg::DataFrame& frame, std::string payload) {
  FARSIDE_ASSIGN(std::string head, seal_->seal(encode(frame), payload));
  bytes_sent_ += head.size() + payload.size();
  return bulk_->send(std::move(head), std::move(payload));
}

Result<std::optional<Received>> Channel::take() {
  zmq::message_t head;
  zmq::message_t payload;
  if (!socket_.recv(head, zmq::recv_flags::dontwait)) return std::nullopt;
  if (head.more()) [[maybe_unused]]
    const auto got = socket_.recv(payload);
  heard_ = std::chrono::steady_clock::now();
  auto frame = msg::decode<msg::DataFrame>({static_cast<const char*>(head.data()), head.size()});
  if (!frame) return fail(frame.error().in("answer of " + options_.endpoint));
  if (const auto* refused = std::get_if<msg::DeltaRefused>(&frame->value)) {
    return fail(to_error(refused->fault));
  }
  return Received{.frame = std::move(*frame), .payload = payload.to_string()};
}

Result<std::optional<Received>> Channel::receive(int timeout_ms, int also_fd) {
  const auto until = std::chrono::steady_clock::now() + std::chrono::milliseconds(timeout_ms);
  try {
    for (;;) {
      FARSIDE_ASSIGN(std::optional<Received> received, take());
      if (received && std::holds_alternative<msg::SealedReady>(received->frame.value)) {
        is_sealed_ready_ = bulk_ != nullptr;
        continue;
      }
      if (received && !std::holds_alternative<msg::DataPong>(received->frame.value)) {
        return received;
      }
      if (received) continue;
      FARSIDE_TRY(check_monitor());
      FARSIDE_TRY(check_silence());
      const auto now = std::chrono::steady_clock::now();
      if (now >= until) return std::nullopt;
      const auto rest = std::chrono::ceil<std::chrono::milliseconds>(until - now);
      std::array<zmq::pollitem_t, 3> items{
          zmq::pollitem_t{.socket = socket_.handle(), .fd = 0, .events = ZMQ_POLLIN, .revents = 0},
          zmq::pollitem_t{.socket = monitor_.handle(), .fd = 0, .events = ZMQ_POLLIN, .revents = 0},
          zmq::pollitem_t{.socket = nullptr, .fd = also_fd, .events = ZMQ_POLLIN, .revents = 0}};
      const auto slice = std::min<std::chrono::milliseconds>(rest, std::chrono::milliseconds(500));
      if (zmq_poll(items.data(), also_fd >= 0 ? 3 : 2, slice.count()) < 0) {
        if (zmq_errno() == EINTR) continue;
        throw zmq::error_t();
      }
      if (also_fd >= 0 && (items[2].revents & ZMQ_POLLIN) != 0) return std::nullopt;
    }
  } catch (const zmq::error_t& error) {
    return fail(ErrorCode::kUnavailable, "receive from " + options_.endpoint + ": " + error.what());
  }
}

Status Channel::check_monitor() {
  // Frames that were lost with a connection cannot be sent again under their numbers.
  if (is_sealed_ready_ && bulk_->is_broken()) {
    return fail(ErrorCode::kUnavailable,
                "the connection for bulk data to " + options_.endpoint + " broke",
                "check the network; replication goes on by itself");
  }
  zmq::message_t event;
  while (monitor_.recv(event, zmq::recv_flags::dontwait)) {
    std::uint16_t kind = 0;
    if (event.size() >= sizeof kind) std::memcpy(&kind, event.data(), sizeof kind);
    while (event.more()) [[maybe_unused]]
      const auto got = monitor_.recv(event);
    if (kind == ZMQ_EVENT_HANDSHAKE_FAILED_AUTH) {
      return fail(ErrorCode::kForbidden,
                  "the target at " + options_.endpoint + " does not know this host's key",
                  "the item is not prepared there yet, or its replication was ended");
    }
    // libzmq connects again by itself, but what was under way is lost, and whoever is there now
    // knows of no session.
    if (kind == ZMQ_EVENT_DISCONNECTED && is_connected_) {
      return fail(ErrorCode::kUnavailable, "the connection to " + options_.endpoint + " broke",
                  "check the network and the agent there; replication goes on by itself");
    }
    is_connected_ = is_connected_ || kind == ZMQ_EVENT_HANDSHAKE_SUCCEEDED;
  }
  return {};
}

Status Channel::check_silence() {
  const auto now = std::chrono::steady_clock::now();
  if (now - heard_ > std::chrono::seconds(options_.silent_s)) {
    return fail(ErrorCode::kUnavailable,
                "the target at " + options_.endpoint + " has been silent for " +
                    std::to_string(options_.silent_s) + " s",
                "check the network and the agent there; replication goes on by itself");
  }
  if (now - heard_ > kPingEvery && now - pinged_ > kPingEvery) {
    pinged_ = now;
    return send(frame(msg::DataPing{}));
  }
  return {};
}

}  // namespace farside::data
