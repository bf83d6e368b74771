// The vault's HTTPS port: TLS, limits and time-outs; what a request means is the handler's matter.
//
// Owns: the listening port, its threads and every connection, until destruction.
// Limits: a connection beyond `connections_max` is closed at once, a body beyond `body_bytes_max`
// is answered 413, headers beyond 32 KiB 431, a request that nobody answers within
// `answer_within_ms` 504, bytes that are not HTTP 400; slow clients lose their connection.
// The certificate is checked once a day and renewed without a restart.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "common/base/clock.h"
#include "common/base/result.h"
#include "services/vault/front_door/http.h"

namespace farside::front_door {

struct ServerOptions {
  std::string address = "0.0.0.0";
  std::uint16_t port = 8443;            // 0 takes a free one.
  std::string certificate_folder;       // See certificates.h.
  std::vector<std::string> names = {};  // Under which clients reach us, beyond this host's own.
  int threads = 2;
  int connections_max = 512;
  std::size_t body_bytes_max = std::size_t{4} << 20U;
  int handshake_within_ms = 10'000;
  int idle_max_ms = 75'000;         // Between requests, and for the headers of the next.
  int transfer_within_ms = 30'000;  // For one body in or out.
  int answer_within_ms = 60'000;
};

struct ServerStats {
  std::uint64_t connections = 0;  // Open now.
  std::uint64_t accepted = 0;
  std::uint64_t refused = 0;  // Closed at once: too many.
  std::uint64_t requests = 0;
  std::uint64_t failed_handshakes = 0;
  std::uint64_t unanswered = 0;  // 504
};

class Server final {
 public:
  // `clock` outlives the server.
  // Errors: kUnavailable (the port is taken), kInvalidArgument, and those of certificates.h.
  static Result<std::unique_ptr<Server>> start(const ServerOptions& options, const Clock& clock,
                                               RequestHandler handler);
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
