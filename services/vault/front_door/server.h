// The vault's HTTPS port: TLS, limits and time-outs; what a request means is the handler's matter.
//
// Owns: the listening port, its threads and every connection, until destruction.
// A request without a valid token is answered 401 before any of its body is read, and its
// connection closed.  Limits: connections by `admission`, of which the oldest that has shown no
// token is closed where there are too many; headers of the first request within
// `first_headers_within_ms` of the handshake.  With a token: a body beyond `body_bytes_max` is
// answered 413, one that does not fit beside the others 503, headers beyond 32 KiB 431, a request
// that nobody answers within `answer_within_ms` 504, bytes that are not HTTP 400, transfer codings
// but `chunked` 501; slow clients lose their connection.
// The certificate is checked once a day and renewed without a restart.
#pragma once

#include <cstddef>
#include <cstdint>
#include <functional>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "common/base/clock.h"
#include "common/base/result.h"
#include "services/vault/front_door/admission.h"
#include "services/vault/front_door/http.h"

namespace farside::front_door {

struct ServerOptions {
  std::string address = "0.0.0.0";
  std::uint16_t port = 8443;            // 0 takes a free one.
  std::string certificate_folder;       // See certificates.h.
  std::vector<std::string> names = {};  // Under which clients reach us, beyond this host's own.
  int threads = 2;
  AdmissionLimits admission = {};
  bool has_local_reserve = true;  // False: this host's clients count like any others.
  std::size_t body_bytes_max = std::size_t{4} << 20U;
  std::size_t bodies_bytes_max = std::size_t{64} << 20U;  // Of all connections together.
  int handshake_within_ms = 10'000;
  int first_headers_within_ms = 10'000;
  int idle_max_ms = 75'000;         // Between requests, and for the headers of the next.
  int transfer_within_ms = 30'000;  // For one body in or out.
  int answer_within_ms = 60'000;
};

struct ServerStats {
  std::uint64_t connections = 0;  // Open now.
  std::uint64_t strangers = 0;    // Those of them that have shown no token yet.
  std::uint64_t accepted = 0;
  std::uint64_t closed_for_room = 0;  // Of strangers, as there were too many.
  std::uint64_t refused = 0;          // 503: too many clients, or bodies.
  std::uint64_t unauthorized = 0;     // 401
  std::uint64_t requests = 0;
  std::uint64_t failed_handshakes = 0;
  std::uint64_t unanswered = 0;  // 504
};

// Whether the value of an Authorization header admits its sender ("" if there is none, or several).
// Called on the server's threads, several at a time; must not block.
using Authorize = std::function<bool(std::string_view authorization)>;

class Server final {
 public:
  // `clock` outlives the server.
  // Errors: kUnavailable (the port is taken), kInvalidArgument, and those of certificates.h.
  static Result<std::unique_ptr<Server>> start(const ServerOptions& options, const Clock& clock,
                                               Authorize authorize, RequestHandler handler);
  ~Server();
  Server(const Server&) = delete;
  Server& operator=(const Server&) = delete;

  std::uint16_t port() const;
  const std::string& ca_file() const;
  ServerStats stats() const;

 private:
  struct Impl;
  explicit Server(std::unique_ptr<Impl> impl);
  std::unique_ptr<Impl> impl_;
};

}  // namespace farside::front_door
