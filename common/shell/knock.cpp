#include "common/shell/knock.h"

#include <cstring>
#include <optional>
#include <zmq.hpp>

namespace farside::shell {
namespace {

constexpr const char* kMonitor = "inproc://knock";
constexpr int kEvents = ZMQ_EVENT_CONNECTED | ZMQ_EVENT_CONNECT_RETRIED | ZMQ_EVENT_CLOSED |
                        ZMQ_EVENT_DISCONNECTED | ZMQ_EVENT_HANDSHAKE_SUCCEEDED |
                        ZMQ_EVENT_HANDSHAKE_FAILED_AUTH | ZMQ_EVENT_HANDSHAKE_FAILED_PROTOCOL |
                        ZMQ_EVENT_HANDSHAKE_FAILED_NO_DETAIL;

// What the next event of the connection is; nullopt: none in time.
std::optional<int> next_event(zmq::socket_t& monitor) {
  zmq::message_t event;
  zmq::message_t address;
  if (!monitor.recv(event) || event.size() < sizeof(std::uint16_t)) return std::nullopt;
  std::uint16_t number = 0;
  std::memcpy(&number, event.data(), sizeof number);
  if (event.more()) std::ignore = monitor.recv(address);
  return number;
}

Knock listen(zmq::socket_t& monitor) {
  bool is_connected = false;
  while (const auto event = next_event(monitor)) {
    switch (*event) {
      case ZMQ_EVENT_CONNECTED:
        is_connected = true;
        break;
      case ZMQ_EVENT_HANDSHAKE_SUCCEEDED:
        return Knock::kLetIn;
      case ZMQ_EVENT_HANDSHAKE_FAILED_AUTH:
        return Knock::kRefused;
      default:
        return is_connected ? Knock::kStranger : Knock::kAway;
    }
  }
  return is_connected ? Knock::kSilent : Knock::kAway;
}

}  // namespace

Knock knock(const bus::CurveKeys& own, const std::string& endpoint, const std::string& server_key,
            std::chrono::milliseconds patience) {
  try {
    zmq::context_t context{1};
    zmq::socket_t dealer(context, zmq::socket_type::dealer);
    dealer.set(zmq::sockopt::linger, 0);
    dealer.set(zmq::sockopt::curve_serverkey, server_key);
    dealer.set(zmq::sockopt::curve_publickey, own.public_key);
    dealer.set(zmq::sockopt::curve_secretkey, own.secret_key);
    if (endpoint.contains('[')) dealer.set(zmq::sockopt::ipv6, true);
    if (zmq_socket_monitor(dealer.handle(), kMonitor, kEvents) != 0) return Knock::kAway;
    zmq::socket_t monitor(context, zmq::socket_type::pair);
    monitor.set(zmq::sockopt::linger, 0);
    monitor.set(zmq::sockopt::rcvtimeo, static_cast<int>(patience.count()));
    monitor.connect(kMonitor);
    dealer.connect(endpoint);
    return listen(monitor);
  } catch (const zmq::error_t&) {
    return Knock::kAway;  // An address that does not parse, or no descriptors left.
  }
}

}  // namespace farside::shell
