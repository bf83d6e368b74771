#include "tests/support/hvsim/http_server.h"

#include <fmt/format.h>
#include <openssl/ssl.h>

#include <atomic>
#include <boost/asio/io_context.hpp>
#include <boost/asio/ip/tcp.hpp>
#include <boost/asio/ssl/context.hpp>
#include <boost/asio/ssl/stream.hpp>
#include <boost/asio/write.hpp>
#include <boost/beast/core/flat_buffer.hpp>
#include <boost/beast/http.hpp>
#include <list>
#include <mutex>
#include <thread>

namespace farside::hvsim {
namespace {

namespace asio = boost::asio;
namespace http = boost::beast::http;
using asio::ip::tcp;
using boost::system::error_code;
using TlsStream = asio::ssl::stream<tcp::socket&>;

constexpr std::size_t kBodyBytesMax = std::size_t{4} << 20U;

std::string text_of(boost::beast::string_view text) {
  return {text.data(), text.size()};
}

std::string to_text(const HttpAnswer& answer) {
  std::string text = fmt::format(
      "HTTP/1.1 {} {}\r\nServer: Microsoft-HTTPAPI/2.0\r\n", answer.status,
      text_of(http::obsolete_reason(http::int_to_status(static_cast<unsigned>(answer.status)))));
  for (const std::string& challenge : answer.challenges) {
    text += "WWW-Authenticate: " + challenge + "\r\n";
  }
  if (!answer.content_type.empty()) text += "Content-Type: " + answer.content_type + "\r\n";
  return text + fmt::format("Content-Length: {}\r\n\r\n", answer.body.size()) + answer.body;
}

std::string subject_of(SSL* tls) {
  X509* certificate = SSL_get1_peer_certificate(tls);
  if (certificate == nullptr || SSL_get_verify_result(tls) != X509_V_OK) return {};
  char* name = X509_NAME_oneline(X509_get_subject_name(certificate), nullptr, 0);
  std::string text = name;
  OPENSSL_free(name);
  X509_free(certificate);
  return text;
}

}  // namespace

struct HttpServer::Impl {
  struct Connection {
    explicit Connection(asio::io_context& io) : socket(io) {}
    tcp::socket socket;
    std::atomic<bool> has_ended = false;
    std::jthread thread;
  };

  asio::io_context io;
  tcp::acceptor acceptor{io};
  std::unique_ptr<asio::ssl::context> tls;
  Talk talk;
  std::atomic<bool> is_stopping = false;
  std::mutex mutex;  // Guards `connections`.
  std::list<Connection> connections;
  std::jthread thread;

  Status listen(const ServerOptions& options);
  void accept_all();
  void serve(Connection& connection);
  template <class Stream>
  void converse(Stream& stream, tcp::socket& socket, Conversation& conversation);
};

Status HttpServer::Impl::listen(const ServerOptions& options) {
  error_code error;
  if (!options.certificate.empty()) {
    tls = std::make_unique<asio::ssl::context>(asio::ssl::context::tls_server);
    tls->use_certificate_chain_file(options.certificate, error);
    if (!error) tls->use_private_key_file(options.key, asio::ssl::context::pem, error);
    if (!error && !options.client_ca.empty()) {
      tls->load_verify_file(options.client_ca, error);
      tls->set_verify_mode(asio::ssl::verify_peer);
    }
    if (error) return fail(ErrorCode::kInvalidArgument, "certificate: " + error.message());
  }
  const tcp::endpoint endpoint(asio::ip::address_v4::loopback(), options.port);
  acceptor.open(endpoint.protocol(), error);
  if (!error) acceptor.set_option(tcp::acceptor::reuse_address(true), error);
  if (!error) acceptor.bind(endpoint, error);
  if (!error) acceptor.listen(asio::socket_base::max_listen_connections, error);
  if (error) return fail(ErrorCode::kUnavailable, "listen: " + error.message());
  return {};
}

void HttpServer::Impl::accept_all() {
  while (!is_stopping) {
    Connection* connection = nullptr;
    {
      const std::lock_guard lock(mutex);
      connections.remove_if([](const Connection& one) { return one.has_ended.load(); });
      connection = &connections.emplace_back(io);
    }
    error_code error;
    acceptor.accept(connection->socket, error);
    if (error || is_stopping) {
      connection->has_ended = true;
      continue;
    }
    connection->socket.set_option(tcp::no_delay(true), error);
    connection->thread = std::jthread([this, connection] {
      serve(*connection);
      error_code ignored;
      connection->socket.shutdown(tcp::socket::shutdown_both, ignored);
      connection->has_ended = true;
    });
  }
}

void HttpServer::Impl::serve(Connection& connection) {
  error_code error;
  if (tls == nullptr) {
    const auto conversation = talk(false, "");
    converse(connection.socket, connection.socket, *conversation);
    return;
  }
  TlsStream stream(connection.socket, *tls);
  stream.handshake(asio::ssl::stream_base::server, error);
  if (error) return;
  const auto conversation = talk(true, subject_of(stream.native_handle()));
  converse(stream, connection.socket, *conversation);
}

template <class Stream>
void HttpServer::Impl::converse(Stream& stream, tcp::socket& socket, Conversation& conversation) {
  boost::beast::flat_buffer buffer;
  while (true) {
    error_code error;
    http::request_parser<http::string_body> parser;
    parser.body_limit(kBodyBytesMax);
    http::read(stream, buffer, parser, error);
    if (error) return;
    http::request<http::string_body> request = parser.release();
    HttpAnswer answer{.status = 404};
    if (request.method() == http::verb::post && request.target().starts_with("/wsman")) {
      answer = conversation.answer({.authorization = text_of(request[http::field::authorization]),
                                    .content_type = text_of(request[http::field::content_type]),
                                    .body = std::move(request.body())});
    }
    if (answer.resets) {
      socket.set_option(asio::socket_base::linger(true, 0), error);
      socket.close(error);
      return;
    }
    asio::write(stream, asio::buffer(to_text(answer)), error);
    if (error || !request.keep_alive()) return;
  }
}

HttpServer::HttpServer(std::unique_ptr<Impl> impl) : impl_(std::move(impl)) {}

HttpServer::~HttpServer() {
  impl_->is_stopping = true;
  // Wakes accept() and every read.
  ::shutdown(impl_->acceptor.native_handle(), SHUT_RDWR);
  impl_->thread.join();
  const std::lock_guard lock(impl_->mutex);
  for (auto& connection : impl_->connections) {
    if (connection.socket.is_open()) ::shutdown(connection.socket.native_handle(), SHUT_RDWR);
  }
  for (auto& connection : impl_->connections) {
    if (connection.thread.joinable()) connection.thread.join();
  }
}

std::uint16_t HttpServer::port() const {
  return impl_->acceptor.local_endpoint().port();
}

Result<std::unique_ptr<HttpServer>> HttpServer::start(const ServerOptions& options, Talk talk) {
  auto impl = std::make_unique<Impl>();
  impl->talk = std::move(talk);
  FARSIDE_TRY(impl->listen(options));
  impl->thread = std::jthread([raw = impl.get()] { raw->accept_all(); });
  return std::unique_ptr<HttpServer>(new HttpServer(std::move(impl)));
}

}  // namespace farside::hvsim
