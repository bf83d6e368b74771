#include "services/vault/front_door/server.h"

#include <fmt/format.h>

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
#include <thread>

#include "common/base/client_address.h"
#include "common/base/log.h"
#include "services/vault/front_door/certificates.h"
#include "services/vault/front_door/connection.h"
#include "services/vault/front_door/tls.h"

namespace farside::front_door {
namespace {

namespace asio = boost::asio;
using asio::ip::tcp;
using boost::system::error_code;
using TlsContext = asio::ssl::context;

constexpr std::chrono::hours kCertificateCheck{24};

auto redirect(error_code& error) {
  return asio::redirect_error(asio::use_awaitable, error);
}

}  // namespace

struct Server::Impl {
  Impl(ServerOptions options, const Clock& clock, Authorize authorize, RequestHandler handler)
      : state(std::move(options), clock, std::move(authorize), std::move(handler)) {}
  ~Impl();

  Status listen();
  Status load_certificate();
  asio::awaitable<void> accept_all();
  asio::awaitable<void> watch_certificate();
  void take_in(tcp::socket socket);

  ServerState state;
  ServerCertificate certificate;
  std::unique_ptr<TlsContext> tls;  // Replaced on the acceptor's strand, where streams are made.

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
  state.close_all_slots();
}

Status Server::Impl::load_certificate() {
  FARSIDE_ASSIGN(certificate, prepare_certificate(state.options.certificate_folder,
                                                  state.options.names, state.clock));
  auto context = std::make_unique<TlsContext>(TlsContext::tls_server);
  FARSIDE_TRY(set_up_tls(context->native_handle(), certificate));
  tls = std::move(context);
  return {};
}

Status Server::Impl::listen() {
  const ServerOptions& options = state.options;
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
    if (!error) {
      take_in(std::move(socket));
      continue;
    }
    // Out of file descriptors, most likely: going on at once would spin.
    log::warn("https_accept_failed", {{"error", error.message()}});
    pause.expires_after(std::chrono::milliseconds(100));
    co_await pause.async_wait(redirect(error));
  }
}

void Server::Impl::take_in(tcp::socket socket) {
  error_code error;
  const tcp::endpoint remote = socket.remote_endpoint(error);
  if (error) return;  // It has gone again.
  ++state.accepted;
  ++state.connections;
  socket.set_option(tcp::no_delay(true), error);
  const std::string name = remote.address().to_string();
  ClientAddress from = client_address(name);
  if (!state.options.has_local_reserve) from.is_local = false;

  const auto executor = socket.get_executor();
  auto stream = std::make_shared<Stream>(boost::beast::tcp_stream(std::move(socket)), *tls);
  // Whoever closes it for another's sake may come when it has ended by itself.
  auto pass = state.admission.enter(from, [executor, watched = std::weak_ptr<Stream>(stream)] {
    asio::post(executor, [watched] {
      if (const auto one = watched.lock()) boost::beast::get_lowest_layer(*one).close();
    });
  });
  if (pass.made_room()) state.log_refusal("too many have shown no token", name);
  asio::co_spawn(executor, serve(state, std::move(stream), std::move(pass), name), asio::detached);
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

Server::Server(std::unique_ptr<Impl> impl) : impl_(std::move(impl)) {}
Server::~Server() = default;

Result<std::unique_ptr<Server>> Server::start(const ServerOptions& options, const Clock& clock,
                                              Authorize authorize, RequestHandler handler) {
  auto impl = std::make_unique<Impl>(options, clock, std::move(authorize), std::move(handler));
  FARSIDE_TRY(impl->load_certificate());
  if (!impl->certificate.is_ca_constrained) {
    log::warn("certificate_authority_is_not_limited_to_names",
              {{"file", impl->certificate.ca_file},
               {"next",
                "whoever trusts it trusts it for every name: delete it and ca.key, restart "
                "the vault and give the new ca.pem to every client"}});
  }
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
  return impl_->state.stats();
}

}  // namespace farside::front_door
