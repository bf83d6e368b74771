// HTTP/1.1 over TCP and TLS on loopback, a thread for each connection; head and body of an answer
// leave in one write.
//
// Owns: its sockets and threads.
#pragma once

#include <functional>
#include <memory>
#include <string>

#include "tests/support/hvsim/conversation.h"

namespace farside::hvsim {

struct ServerOptions {
  std::uint16_t port = 0;        // 0: a free one.
  std::string certificate = {};  // Of the server, with its key; empty: plain HTTP.
  std::string key = {};
  std::string client_ca = {};  // Who signs clients' certificates; empty: none are asked for.
};

class HttpServer final {
 public:
  using Talk = std::function<std::unique_ptr<Conversation>(bool is_tls, std::string certificate)>;

  // Errors: kUnavailable (the port), kInvalidArgument (certificate or key).
  static Result<std::unique_ptr<HttpServer>> start(const ServerOptions& options, Talk talk);
  ~HttpServer();
  HttpServer(const HttpServer&) = delete;
  HttpServer& operator=(const HttpServer&) = delete;

  std::uint16_t port() const;

 private:
  struct Impl;
  explicit HttpServer(std::unique_ptr<Impl> impl);
  std::unique_ptr<Impl> impl_;
};

}  // namespace farside::hvsim
