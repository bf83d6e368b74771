// HTTP to one host over one connection that is kept: bytes there, bytes back, within a time and a
// size.  Knows nothing of what is said.
//
// Owns: the connection.  Thread: one at a time.
#pragma once

#include <cstddef>
#include <memory>
#include <string>
#include <vector>

#include "common/base/clock.h"
#include "common/base/result.h"

namespace farside::wsman {

struct HttpTarget {
  std::string url;  // "https://host:5986/wsman"
  // How to know the host, over TLS: by a certificate authority (empty: the system's), or by the
  // SHA-256 of its certificate, 64 hexadecimal digits with or without colons.
  std::string ca_file = {};
  std::string fingerprint = {};
  // Our own certificate, where the login is by that.
  std::string certificate_file = {};
  std::string key_file = {};
  std::size_t reply_bytes_max = std::size_t{16} << 20U;
  Micros connect_within{10'000'000};
};

struct HttpRequest {
  std::string content_type;
  std::string authorization = {};  // A header's value; secret.
  std::string body = {};
  // Sent only if the connection is that of the last request: logins are bound to it.
  bool same_connection = false;
};

struct HttpReply {
  long status = 0;  // 0: not sent, as it would have taken a new connection.
  std::string content_type;
  std::vector<std::string> challenges;  // WWW-Authenticate.
  std::string body;
  std::string certificate;  // The host's, in PEM, where the request made a connection over TLS.
};

class HttpPipe final {
 public:
  // Errors: kInvalidArgument (URL or fingerprint).
  static Result<std::unique_ptr<HttpPipe>> open(HttpTarget target);
  ~HttpPipe();
  HttpPipe(const HttpPipe&) = delete;
  HttpPipe& operator=(const HttpPipe&) = delete;

  // Never repeats a request, so after an error the host may have done what was asked.
  // Errors: kUnavailable, kTimeout, kTooLarge (the reply), kUnauthorized (not the host we know).
  Result<HttpReply> post(const HttpRequest& request, Micros within);
  void hang_up();  // The next request takes a new connection.

 private:
  struct Impl;
  explicit HttpPipe(std::unique_ptr<Impl> impl);
  std::unique_ptr<Impl> impl_;
};

}  // namespace farside::wsman
