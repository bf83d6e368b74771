#include "services/vault/front_door/server.h"

#include <fmt/format.h>
#include <openssl/ssl.h>

#include <atomic>
#include <boost/asio/awaitable.hpp>
#include <boost/asio/co_spawn.hpp>
#include <boost/asio/detached.hpp>
#include <boost/asio/io_context.hpp>
#include <boost/asio/ip/tcp.hpp>
#include <boost/asio/post.hpp>
#include <boost/asio/redirect_error.hpp>
#include <boost/asio/ssl/context.hpp>
#include <boost/asio/steady_timer.hpp>
#include <boost/asio/strand.hpp>
#include <boost/asio/use_awaitable.hpp>
#include <boost/beast/core/flat_buffer.hpp>
#include <boost/beast/core/tcp_stream.hpp>
#include <boost/beast/http.hpp>
#include <boost/beast/ssl/ssl_stream.hpp>
#include <mutex>
#include <set>
#include <thread>

#include "common/base/log.h"
#include "common/base/random.h"
#include "services/vault/front_door/arm_errors.h"
#include "services/vault/front_door/certificates.h"
#include "services/vault/front_door/responder.h"

namespace farside::front_door {
namespace {

namespace asio = boost::asio;
namespace beast = boost::beast;
namespace http = boost::beast::http;
using asio::ip::tcp;
using boost::system::error_code;
using Stream = beast::ssl_stream<beast::tcp_stream>;
using TlsContext = asio::ssl::context;
using Request = http::request<http::string_body>;

constexpr std::uint32_t kHeaderBytesMax = 32 * 1024;
constexpr std::size_t kReadBytes = std::size_t{16} << 10U;
constexpr std::size_t kDiscardBytesMax = std::size_t{8} << 20U;
constexpr std::chrono::hours kCertificateCheck{24};

auto redirect(error_code& error) {
  return asio::redirect_error(asio::use_awaitable, error);
}

std::string text_of(beast::string_view text) {
  return {text.data(), text.size()};
}

Result<std::unique_ptr<TlsContext>> tls_context(const ServerCertificate& certificate) {
  auto context = std::make_unique<TlsContext>(TlsContext::tls_server);
  SSL_CTX_set_min_proto_version(context->native_handle(), TLS1_2_VERSION);
  SSL_CTX_set_options(context->native_handle(), SSL_OP_NO_RENEGOTIATION | SSL_OP_NO_COMPRESSION);
  error_code error;
  context->use_certificate_chain_file(certificate.chain_file, error);
  if (!error) context->use_private_key_file(certificate.key_file, TlsContext::pem, error);
  if (error) {
    return fail(ErrorCode::kCorrupt,
                fmt::format("use {}: {}", certificate.chain_file, error.message()),
                "delete it and its key; the vault makes new ones");
  }
  return context;
}

HttpRequest to_request(Request&& in, const tcp::endpoint& remote) {
  HttpRequest out;
  const std::string target = text_of(in.target());
  const std::size_t question = std::min(target.find('?'), target.size());
  out.method = text_of(in.method_string());
  out.path = target.substr(0, question);
  out.query = target.substr(std::min(question + 1, target.size()));
  out.host = text_of(in[http::field::host]);
  out.authorization = text_of(in[http::field::authorization]);
  out.client_request_id = text_of(in["x-ms-client-request-id"]).substr(0, 100);
  out.body = std::move(in.body());
  error_code ignored;
  out.remote = remote.address().to_string(ignored);
  return out;
}

// Adds what ARM clients expect of every answer.
http::response<http::string_body> to_message(HttpResponse&& in,
                                             const std::string& client_request_id,
                                             bool keep_alive) {
  http::response<http::string_body> out;
  out.version(11);
  out.result(static_cast<unsigned>(in.status));
  const std::string id = SystemRandom().uuid();
  out.set("x-ms-request-id", id);
  out.set("x-ms-correlation-request-id", id);
  out.set("x-ms-routing-request-id", "FARSIDE:" + id);
  if (!client_request_id.empty()) out.set("x-ms-client-request-id", client_request_id);
  out.set(http::field::cache_control, "no-cache");
  out.set(http::field::pragma, "no-cache");
  out.set(http::field::expires, "-1");
  out.set(http::field::strict_transport_security, "max-age=31536000; includeSubDomains");
  out.set("X-Content-Type-Options", "nosniff");
  if (!in.body.empty()) out.set(http::field::content_type, in.content_type);
  for (const auto& [name, value] : in.headers) out.set(name, value);
  out.keep_alive(keep_alive);
  out.body() = std::move(in.body);
  out.prepare_payload();
  return out;
}

HttpResponse answer_to_bad_request(const error_code& error, std::size_t body_bytes_max) {
  if (error == http::error::body_limit) {
    return arm_error(ArmError{.status = 413,
                              .code = "RequestTooLarge",
                              .message = fmt::format("The body exceeds {} bytes.", body_bytes_max),
                              .advice = "send less at once"});
  }
  if (error == http::error::header_limit) {
    return arm_error(
        ArmError{.status = 431,
                 .code = "RequestHeaderFieldsTooLarge",
                 .message = fmt::format("The headers exceed {} bytes.", kHeaderBytesMax)});
  }
  return arm_error(ArmError{
      .status = 400, .code = "BadRequest", .message = "Not an HTTP request: " + error.message()});
}

// Errors that mean: there is a client and it sent something that HTTP does not allow.
bool is_about_the_request(const error_code& error) {
  return error.category() == http::make_error_code(http::error::bad_method).category() &&
         error != http::error::end_of_stream && error != http::error::partial_message;
}

}  // namespace

struct Server::Impl {
  Impl(ServerOptions options_in, const Clock& clock_in, RequestHandler handler_in)
      : options(std::move(options_in)), clock(clock_in), handler(std::move(handler_in)) {}
  ~Impl();

  Status listen();
  Status load_certificate();
  asio::awaitable<void> accept_all();
  asio::awaitable<void> watch_certificate();
  asio::awaitable<void> serve(Stream stream);
  asio::awaitable<void> converse(Stream& stream);
  asio::awaitable<bool> read_request(Stream& stream, beast::flat_buffer& buffer, Request& request);
  asio::awaitable<bool> write_response(Stream& stream, HttpResponse response,
                                       std::string client_request_id, bool keep_alive);
  asio::awaitable<HttpResponse> ask(HttpRequest request);
  asio::awaitable<void> hang_up(Stream& stream);

  // A request that waits for its answer; known to the server so that it can end all of them.
  struct Waiting {
    Waiting(Impl& server_in, std::shared_ptr<Responder::Slot> slot_in)
        : server(server_in), slot(std::move(slot_in)) {
      const std::lock_guard lock(server.mutex);
      server.slots.insert(slot.get());
    }
    ~Waiting() {
      slot->close();
      const std::lock_guard lock(server.mutex);
      server.slots.erase(slot.get());
    }
    Waiting(const Waiting&) = delete;
    Waiting& operator=(const Waiting&) = delete;
    Impl& server;
    const std::shared_ptr<Responder::Slot> slot;
  };

  const ServerOptions options;
  const Clock& clock;
  const RequestHandler handler;
  ServerCertificate certificate;
  std::unique_ptr<TlsContext> tls;  // Replaced on the acceptor's strand, where streams are made.

  std::atomic<std::uint64_t> connections = 0;
  std::atomic<std::uint64_t> accepted = 0;
  std::atomic<std::uint64_t> refused = 0;
  std::atomic<std::uint64_t> requests = 0;
  std::atomic<std::uint64_t> failed_handshakes = 0;
  std::atomic<std::uint64_t> unanswered = 0;

  std::mutex mutex;  // Guards `slots`.
  std::set<Responder::Slot*> slots;

  asio::io_context io;  // Connections live in it, so it ends before what they refer to.
  asio::strand<asio::io_context::executor_type> acceptor_strand{asio::make_strand(io)};
  tcp::acceptor acceptor{acceptor_strand};
  std::uint16_t port = 0;
  std::vector<std::jthread> threads;
};

Server::Impl::~Impl() {
  io.stop();
  threads.clear();
  // Whoever still holds a responder must not wake a connection while `io` is being torn down.
  const std::lock_guard lock(mutex);
  for (Responder::Slot* slot : slots) slot->close();
}

Status Server::Impl::load_certificate() {
  FARSIDE_ASSIGN(certificate,
                 prepare_certificate(options.certificate_folder, options.names, clock));
  FARSIDE_ASSIGN(tls, tls_context(certificate));
  return {};
}

Status Server::Impl::listen() {
  error_code error;
  const asio::ip::address address = asio::ip::make_address(options.address, error);
  if (error) {
    return fail(ErrorCode::kInvalidArgument,
                fmt::format("listen on '{}': not an IP address", options.address),
                "use an address of this host, or 0.0.0.0 for all");
  }
  const tcp::endpoint endpoint(address, options.port);
  acceptor.open(endpoint.protocol(), error);
  if (!error) acceptor.set_option(tcp::acceptor::reuse_address(true), error);
  if (!error) acceptor.bind(endpoint, error);
  if (!error) acceptor.listen(asio::socket_base::max_listen_connections, error);
  if (error) {
    return fail(ErrorCode::kUnavailable,
                fmt::format("listen on {}:{}: {}", options.address, options.port, error.message()),
                "see who has the port with `ss -ltnp`, stop that or set another http.port");
  }
  port = acceptor.local_endpoint(error).port();
  return {};
}

asio::awaitable<void> Server::Impl::accept_all() {
  asio::steady_timer pause(acceptor_strand);
  while (true) {
    error_code error;
    tcp::socket socket = co_await acceptor.async_accept(asio::make_strand(io), redirect(error));
    if (error) {
      // Out of file descriptors, most likely: going on at once would spin.
      log::warn("https_accept_failed", {{"error", error.message()}});
      pause.expires_after(std::chrono::milliseconds(100));
      co_await pause.async_wait(redirect(error));
      continue;
    }
    if (connections.load() >= static_cast<std::uint64_t>(options.connections_max)) {
      ++refused;
      continue;
    }
    ++accepted;
    ++connections;
    socket.set_option(tcp::no_delay(true), error);
    const auto executor = socket.get_executor();
    asio::co_spawn(executor, serve(Stream(beast::tcp_stream(std::move(socket)), *tls)),
                   asio::detached);
  }
}

asio::awaitable<void> Server::Impl::watch_certificate() {
  asio::steady_timer timer(acceptor_strand);
  while (true) {
    timer.expires_after(kCertificateCheck);
    error_code error;
    co_await timer.async_wait(redirect(error));
    if (const Status loaded = load_certificate(); !loaded) {
      log::error("certificate_not_renewed", {{"error", loaded.error()}});
    } else if (certificate.renewed) {
      log::info("certificate_renewed", {{"expires", to_iso(certificate.expires)}});
    }
  }
}

asio::awaitable<void> Server::Impl::serve(Stream stream) {
  struct Leaving {
    std::atomic<std::uint64_t>& connections;
    ~Leaving() { --connections; }
  } const leaving{connections};
  try {
    beast::get_lowest_layer(stream).expires_after(
        std::chrono::milliseconds(options.handshake_within_ms));
    error_code error;
    co_await stream.async_handshake(asio::ssl::stream_base::server, redirect(error));
    if (error) {
      ++failed_handshakes;
      co_return;
    }
    co_await converse(stream);
    co_await hang_up(stream);
  } catch (const std::exception& error) {
    log::warn("https_connection_failed", {{"error", error.what()}});
  }
}

asio::awaitable<void> Server::Impl::converse(Stream& stream) {
  beast::flat_buffer buffer(kHeaderBytesMax + 64 * 1024);
  error_code error;
  const tcp::endpoint remote = beast::get_lowest_layer(stream).socket().remote_endpoint(error);
  while (true) {
    Request request;
    if (!co_await read_request(stream, buffer, request)) co_return;
    ++requests;
    const bool keep_alive = request.keep_alive();
    HttpRequest question = to_request(std::move(request), remote);
    std::string client_request_id = question.client_request_id;
    HttpResponse answer = co_await ask(std::move(question));
    const bool written = co_await write_response(stream, std::move(answer),
                                                 std::move(client_request_id), keep_alive);
    if (!written || !keep_alive) co_return;
  }
}

// False if the conversation is over; a request that cannot be understood has been answered then.
asio::awaitable<bool> Server::Impl::read_request(Stream& stream, beast::flat_buffer& buffer,
                                                 Request& request) {
  http::request_parser<http::string_body> parser;
  parser.header_limit(kHeaderBytesMax);
  parser.body_limit(options.body_bytes_max);
  error_code error;
  auto& transport = beast::get_lowest_layer(stream);
  transport.expires_after(std::chrono::milliseconds(options.idle_max_ms));
  co_await http::async_read_header(stream, buffer, parser, redirect(error));
  if (!error) {
    transport.expires_after(std::chrono::milliseconds(options.transfer_within_ms));
    if (beast::iequals(parser.get()[http::field::expect], "100-continue")) {
      http::response<http::empty_body> go_on(http::status::continue_, 11);
      co_await http::async_write(stream, go_on, redirect(error));
    }
  }
  if (!error) co_await http::async_read(stream, buffer, parser, redirect(error));
  if (!error) {
    request = parser.release();
    co_return true;
  }
  if (is_about_the_request(error)) {
    co_await write_response(stream, answer_to_bad_request(error, options.body_bytes_max), "",
                            false);
    // Closing with unread bytes would make the client's system drop our answer.
    transport.expires_after(std::chrono::seconds(2));
    std::size_t discarded = 0;
    buffer.clear();
    for (error.clear(); !error && discarded < kDiscardBytesMax;) {
      discarded += co_await stream.async_read_some(buffer.prepare(kReadBytes), redirect(error));
    }
  }
  co_return false;
}

asio::awaitable<bool> Server::Impl::write_response(Stream& stream, HttpResponse response,
                                                   std::string client_request_id, bool keep_alive) {
  auto message = to_message(std::move(response), client_request_id, keep_alive);
  beast::get_lowest_layer(stream).expires_after(
      std::chrono::milliseconds(options.transfer_within_ms));
  error_code error;
  co_await http::async_write(stream, message, redirect(error));
  co_return !error;
}

asio::awaitable<HttpResponse> Server::Impl::ask(HttpRequest request) {
  const auto executor = co_await asio::this_coro::executor;
  // The wake-up may be queued on our strand when the deadline ends the wait, so it shares the
  // timer.
  const auto timer = std::make_shared<asio::steady_timer>(executor);
  timer->expires_after(std::chrono::milliseconds(options.answer_within_ms));
  const auto slot = std::make_shared<Responder::Slot>();
  slot->ready = [timer, executor] { asio::post(executor, [timer] { timer->cancel(); }); };
  const Waiting waiting(*this, slot);
  handler(std::move(request), Responder(slot));

  error_code ignored;
  co_await timer->async_wait(redirect(ignored));
  {
    const std::lock_guard lock(slot->mutex);
    if (slot->response) co_return std::move(*slot->response);
    slot->open = false;
  }
  ++unanswered;
  co_return arm_error(ArmError{
      .status = 504,
      .code = "GatewayTimeout",
      .message = fmt::format("The vault did not answer within {} ms.", options.answer_within_ms),
      .advice = "try again; if it lasts, look at the vault's /healthz and its log"});
}

asio::awaitable<void> Server::Impl::hang_up(Stream& stream) {
  error_code ignored;
  beast::get_lowest_layer(stream).expires_after(std::chrono::seconds(2));
  co_await stream.async_shutdown(redirect(ignored));
}

Server::Server(std::unique_ptr<Impl> impl) : impl_(std::move(impl)) {}
Server::~Server() = default;

Result<std::unique_ptr<Server>> Server::start(const ServerOptions& options, const Clock& clock,
                                              RequestHandler handler) {
  auto impl = std::make_unique<Impl>(options, clock, std::move(handler));
  FARSIDE_TRY(impl->load_certificate());
  FARSIDE_TRY(impl->listen());
  asio::co_spawn(impl->acceptor_strand, impl->accept_all(), asio::detached);
  asio::co_spawn(impl->acceptor_strand, impl->watch_certificate(), asio::detached);
  for (int i = 0; i < options.threads; ++i) {
    impl->threads.emplace_back([&io = impl->io] { io.run(); });
  }
  return std::unique_ptr<Server>(new Server(std::move(impl)));
}

std::uint16_t Server::port() const {
  return impl_->port;
}
const std::string& Server::ca_file() const {
  return impl_->certificate.ca_file;
}

ServerStats Server::stats() const {
  return {.connections = impl_->connections,
          .accepted = impl_->accepted,
          .refused = impl_->refused,
          .requests = impl_->requests,
          .failed_handshakes = impl_->failed_handshakes,
          .unanswered = impl_->unanswered};
}

}  // namespace farside::front_door
