#include "services/vault/front_door/connection.h"

#include <fmt/format.h>

#include <algorithm>
#include <boost/asio/post.hpp>
#include <boost/asio/redirect_error.hpp>
#include <boost/asio/ssl/stream_base.hpp>
#include <boost/asio/steady_timer.hpp>
#include <boost/asio/this_coro.hpp>
#include <boost/asio/use_awaitable.hpp>
#include <boost/beast/core/flat_buffer.hpp>
#include <boost/beast/core/string.hpp>
#include <boost/beast/http.hpp>
#include <boost/none.hpp>
#include <chrono>
#include <optional>
#include <utility>

#include "common/base/log.h"
#include "services/vault/front_door/arm_errors.h"
#include "services/vault/front_door/bearer_token.h"
#include "services/vault/front_door/messages.h"

namespace farside::front_door {
namespace {

namespace asio = boost::asio;
namespace beast = boost::beast;
namespace http = boost::beast::http;
using boost::system::error_code;

constexpr std::size_t kReadBytes = std::size_t{16} << 10U;  // What TLS has in one record.
// Headers may have 32 KiB, and what was read with their end 16 KiB more: with what is thrown away
// afterwards, 64 KiB.
constexpr std::size_t kStrangerBufferMax = kHeaderBytesMax + kReadBytes;
constexpr std::size_t kStrangerDiscardMax = kReadBytes;
constexpr std::size_t kBufferMax = kHeaderBytesMax + (std::size_t{64} << 10U);
constexpr std::size_t kDiscardMax = std::size_t{8} << 20U;
constexpr std::chrono::seconds kDiscardFor{2};
constexpr std::chrono::seconds kStrangerDiscardFor{1};
constexpr std::chrono::seconds kHangUpWithin{2};

auto redirect(error_code& error) {
  return asio::redirect_error(asio::use_awaitable, error);
}

HttpResponse busy(const std::string& what) {
  return arm_error(ArmError{.status = 503,
                            .code = "ServiceUnavailable",
                            .message = what,
                            .advice = "repeat this in a few seconds"});
}

// A request that waits for its answer; known to the server so that it can end all of them.
class Waiting final {
 public:
  Waiting(ServerState& server, std::shared_ptr<Responder::Slot> slot)
      : server_(server), slot_(std::move(slot)) {
    server_.add(slot_.get());
  }
  ~Waiting() {
    slot_->close();
    server_.remove(slot_.get());
  }
  Waiting(const Waiting&) = delete;
  Waiting& operator=(const Waiting&) = delete;

 private:
  ServerState& server_;
  const std::shared_ptr<Responder::Slot> slot_;
};

class Connection final {
 public:
  Connection(ServerState& server, Stream& stream, Admission::Pass& pass, std::string remote)
      : server_(server), stream_(stream), pass_(pass), remote_(std::move(remote)) {}

  asio::awaitable<void> run();

 private:
  asio::awaitable<bool> shake_hands();
  asio::awaitable<void> converse();
  asio::awaitable<bool> read_headers(RequestParser& parser);
  asio::awaitable<bool> read_body(RequestParser& parser);
  std::optional<HttpResponse> judge(RequestParser& parser, std::optional<BodyRoom::Share>& room);
  asio::awaitable<bool> write(HttpResponse response, std::string client_request_id,
                              bool keep_alive);
  asio::awaitable<void> refuse(HttpResponse response);
  asio::awaitable<HttpResponse> ask(HttpRequest request);
  asio::awaitable<void> hang_up();
  beast::tcp_stream& transport() { return beast::get_lowest_layer(stream_); }

  ServerState& server_;
  Stream& stream_;
  Admission::Pass& pass_;
  const std::string remote_;
  beast::flat_buffer buffer_{kStrangerBufferMax};
};

asio::awaitable<void> Connection::run() {
  const bool is_open = co_await shake_hands();
  if (!is_open) co_return;
  co_await converse();
  co_await hang_up();
}

asio::awaitable<bool> Connection::shake_hands() {
  transport().expires_after(std::chrono::milliseconds(server_.options.handshake_within_ms));
  error_code error;
  co_await stream_.async_handshake(asio::ssl::stream_base::server, redirect(error));
  if (error) ++server_.failed_handshakes;
  co_return !error;
}

asio::awaitable<void> Connection::converse() {
  while (true) {
    RequestParser parser;
    const bool has_headers = co_await read_headers(parser);
    if (!has_headers) co_return;
    std::optional<BodyRoom::Share> room;
    if (auto refusal = judge(parser, room)) {
      co_await refuse(std::move(*refusal));
      co_return;
    }
    const bool has_body = co_await read_body(parser);
    if (!has_body) co_return;
    ++server_.requests;
    RequestMessage message = parser.release();
    const bool keep_alive = message.keep_alive();
    HttpRequest question = to_request(std::move(message), remote_);
    std::string client_request_id = question.client_request_id;
    HttpResponse answer = co_await ask(std::move(question));
    const bool is_written =
        co_await write(std::move(answer), std::move(client_request_id), keep_alive);
    if (!is_written || !keep_alive) co_return;
  }
}

// False if the conversation is over; what cannot be understood has been answered then.
asio::awaitable<bool> Connection::read_headers(RequestParser& parser) {
  parser.header_limit(kHeaderBytesMax);
  parser.body_limit(boost::none);  // The token goes before the size.
  transport().expires_after(std::chrono::milliseconds(
      pass_.is_authenticated() ? server_.options.idle_max_ms
                               : server_.options.first_headers_within_ms));
  error_code error;
  co_await http::async_read_header(stream_, buffer_, parser, redirect(error));
  if (error && is_about_the_request(error)) {
    HttpResponse answer = answer_to_bad_request(error, server_.options.body_bytes_max);
    co_await refuse(std::move(answer));
  }
  co_return !error;
}

// Why the body is not read; else `room` is what it takes.
std::optional<HttpResponse> Connection::judge(RequestParser& parser,
                                              std::optional<BodyRoom::Share>& room) {
  const std::string authorization = only(parser.get(), http::field::authorization);
  if (!server_.authorize(authorization)) {
    ++server_.unauthorized;
    server_.log_refusal("no valid token", remote_);
    return unauthorized(authorization);
  }
  if (auto refusal = framing_error(parser.get())) return refusal;
  if (!pass_.authenticate()) {
    ++server_.refused;
    server_.log_refusal("too many connections", remote_);
    return busy("Too many clients are connected.");
  }
  buffer_.max_size(kBufferMax);

  const std::size_t body_bytes_max = server_.options.body_bytes_max;
  const auto length = parser.content_length();
  if (length && *length > body_bytes_max) return too_large(body_bytes_max);
  const std::size_t bytes =
      parser.chunked() ? body_bytes_max : static_cast<std::size_t>(length.value_or(0));
  room = server_.bodies.take(bytes);
  if (!room) {
    ++server_.refused;
    server_.log_refusal("too many bodies at once", remote_);
    return busy("Too many bodies are being received.");
  }
  return std::nullopt;
}

asio::awaitable<bool> Connection::read_body(RequestParser& parser) {
  parser.body_limit(server_.options.body_bytes_max);
  transport().expires_after(std::chrono::milliseconds(server_.options.transfer_within_ms));
  error_code error;
  if (beast::iequals(parser.get()[http::field::expect], "100-continue")) {
    http::response<http::empty_body> go_on(http::status::continue_, 11);
    co_await http::async_write(stream_, go_on, redirect(error));
  }
  if (!error) co_await http::async_read(stream_, buffer_, parser, redirect(error));
  if (error && is_about_the_request(error)) {
    HttpResponse answer = answer_to_bad_request(error, server_.options.body_bytes_max);
    co_await refuse(std::move(answer));
  }
  co_return !error;
}

// Answers, and throws away a little of what follows: closing with bytes unread would make the
// client's system drop our answer.
asio::awaitable<void> Connection::refuse(HttpResponse response) {
  const bool is_known = pass_.is_authenticated();
  const bool is_written = co_await write(std::move(response), "", false);
  if (!is_written) co_return;
  error_code error;
  transport().socket().shutdown(asio::ip::tcp::socket::shutdown_send, error);
  error.clear();
  const auto pause = is_known ? kDiscardFor : kStrangerDiscardFor;
  const std::size_t discard_max = is_known ? kDiscardMax : kStrangerDiscardMax;
  asio::steady_timer timer(stream_.get_executor(), pause);
  transport().expires_after(pause);
  buffer_.clear();
  for (std::size_t discarded = 0; !error && discarded < discard_max;) {
    const auto part = buffer_.prepare(std::min(kReadBytes, discard_max - discarded));
    discarded += co_await stream_.async_read_some(part, redirect(error));
  }
  // It goes on sending: what it has of our answer in its hands it may read meanwhile.
  if (!error) co_await timer.async_wait(redirect(error));
}

asio::awaitable<bool> Connection::write(HttpResponse response, std::string client_request_id,
                                        bool keep_alive) {
  auto message = to_message(std::move(response), client_request_id, keep_alive);
  transport().expires_after(std::chrono::milliseconds(server_.options.transfer_within_ms));
  error_code error;
  co_await http::async_write(stream_, message, redirect(error));
  co_return !error;
}

asio::awaitable<HttpResponse> Connection::ask(HttpRequest request) {
  const auto executor = co_await asio::this_coro::executor;
  // The wake-up may be queued on our strand when the deadline ends the wait, so it shares the
  // timer.
  const auto timer = std::make_shared<asio::steady_timer>(executor);
  timer->expires_after(std::chrono::milliseconds(server_.options.answer_within_ms));
  const auto slot = std::make_shared<Responder::Slot>();
  slot->ready = [timer, executor] { asio::post(executor, [timer] { timer->cancel(); }); };
  const Waiting waiting(server_, slot);
  server_.handler(std::move(request), Responder(slot));

  error_code ignored;
  co_await timer->async_wait(redirect(ignored));
  {
    const std::lock_guard lock(slot->mutex);
    if (slot->response) co_return std::move(*slot->response);
    slot->open = false;
  }
  ++server_.unanswered;
  co_return arm_error(ArmError{
      .status = 504,
      .code = "GatewayTimeout",
      .message =
          fmt::format("The vault did not answer within {} ms.", server_.options.answer_within_ms),
      .advice = "try again; if it lasts, look at the vault's /healthz and its log"});
}

asio::awaitable<void> Connection::hang_up() {
  error_code ignored;
  transport().expires_after(kHangUpWithin);
  co_await stream_.async_shutdown(redirect(ignored));
}

}  // namespace

ServerState::ServerState(ServerOptions options_in, const Clock& clock_in, Authorize authorize_in,
                         RequestHandler handler_in)
    : options(std::move(options_in)),
      clock(clock_in),
      authorize(std::move(authorize_in)),
      handler(std::move(handler_in)),
      admission(options.admission),
      bodies(options.bodies_bytes_max) {}

void ServerState::log_refusal(std::string_view why, const std::string& remote) {
  const std::int64_t now = clock.monotonic().count();
  std::int64_t next = next_line_at_;
  if (next != 0 && now < next) return;
  const std::int64_t after = now + Micros{std::chrono::seconds{1}}.count();
  if (!next_line_at_.compare_exchange_strong(next, after)) return;
  log::warn("https_refused", {{"cause", why},
                              {"remote", remote},
                              {"unauthorized", unauthorized.load()},
                              {"refused", refused.load()},
                              {"closed_for_room", admission.closed_for_room()}});
}

void ServerState::add(Responder::Slot* slot) {
  const std::lock_guard lock(mutex_);
  slots_.insert(slot);
}

void ServerState::remove(Responder::Slot* slot) {
  const std::lock_guard lock(mutex_);
  slots_.erase(slot);
}

void ServerState::close_all_slots() {
  const std::lock_guard lock(mutex_);
  for (Responder::Slot* slot : slots_) slot->close();
}

ServerStats ServerState::stats() const {
  return {.connections = connections,
          .strangers = admission.strangers(),
          .accepted = accepted,
          .closed_for_room = admission.closed_for_room(),
          .refused = refused,
          .unauthorized = unauthorized,
          .requests = requests,
          .failed_handshakes = failed_handshakes,
          .unanswered = unanswered};
}

asio::awaitable<void> serve(ServerState& server, std::shared_ptr<Stream> stream,
                            Admission::Pass pass, std::string remote) {
  struct Leaving {
    std::atomic<std::uint64_t>& connections;
    ~Leaving() { --connections; }
  } const leaving{server.connections};
  try {
    Connection connection(server, *stream, pass, std::move(remote));
    co_await connection.run();
  } catch (const std::exception& error) {
    log::warn("https_connection_failed", {{"error", error.what()}});
  }
}

}  // namespace farside::front_door
