// One client's TLS connection, from its handshake to its end.  Private to this folder.
//
//   handshake --> headers --> token? --> framing, size, room? --> body --> handler --> answer --.
//                    ^                                                                          |
//                    '--------------------------------------------------------------------------'
// Whoever shows no token has 10 s and 64 KiB, gets one answer, and no byte of a body is kept.
#pragma once

#include <atomic>
#include <boost/asio/awaitable.hpp>
#include <boost/asio/ip/tcp.hpp>
#include <boost/beast/core/tcp_stream.hpp>
#include <boost/beast/ssl/ssl_stream.hpp>
#include <cstdint>
#include <memory>
#include <mutex>
#include <set>
#include <string>

#include "services/vault/front_door/admission.h"
#include "services/vault/front_door/body_room.h"
#include "services/vault/front_door/responder.h"
#include "services/vault/front_door/server.h"

namespace farside::front_door {

using Stream = boost::beast::ssl_stream<boost::beast::tcp_stream>;

// What all connections of a server have in common; it outlives them.  Thread: any.
class ServerState final {
 public:
  ServerState(ServerOptions options_in, const Clock& clock_in, Authorize authorize_in,
              RequestHandler handler_in);
  ServerState(const ServerState&) = delete;
  ServerState& operator=(const ServerState&) = delete;

  ServerStats stats() const;
  // At most one line a second, however hard a stranger knocks.
  void log_refusal(std::string_view why, const std::string& remote);
  void close_all_slots();

  const ServerOptions options;
  const Clock& clock;
  const Authorize authorize;
  const RequestHandler handler;
  Admission admission;
  BodyRoom bodies;

  std::atomic<std::uint64_t> connections = 0;
  std::atomic<std::uint64_t> accepted = 0;
  std::atomic<std::uint64_t> refused = 0;
  std::atomic<std::uint64_t> unauthorized = 0;
  std::atomic<std::uint64_t> requests = 0;
  std::atomic<std::uint64_t> failed_handshakes = 0;
  std::atomic<std::uint64_t> unanswered = 0;

  // Of requests that wait for their answers.
  void add(Responder::Slot* slot);
  void remove(Responder::Slot* slot);

 private:
  std::atomic<std::int64_t> next_line_at_ = 0;  // Microseconds, monotonic.
  std::mutex mutex_;                            // Guards `slots_`.
  std::set<Responder::Slot*> slots_;
};

// Serves it until its end; on the stream's executor.
boost::asio::awaitable<void> serve(ServerState& server, std::shared_ptr<Stream> stream,
                                   Admission::Pass pass, std::string remote);

}  // namespace farside::front_door
