// A channel to a host that wants to know who asks.
//
//   HTTPS  Negotiate (Kerberos or NTLM), Basic, or a client certificate
//   HTTP   Negotiate with every message sealed; nothing else
//
// A login by Negotiate is bound to its connection, over TLS also to the certificate that was seen
// there: a new one logs in anew, by itself.
// Owns: the connection.  Thread: one at a time.
#pragma once

#include <memory>
#include <string>

#include "common/wsman/channel.h"
#include "common/wsman/http_pipe.h"
#include "common/wsman/security_context.h"

namespace farside::wsman {

enum class LoginKind { kNegotiate, kBasic, kCertificate };

class LoginChannel final : public Channel {
 public:
  // Nothing is sent yet.
  // Errors: kInvalidArgument (a URL that is none, or a login that HTTP must not carry).
  static Result<std::unique_ptr<LoginChannel>> open(HttpTarget target, LoginKind kind, Login login);

  Result<SoapReply> ask(const std::string& envelope, Micros within) override;

 private:
  LoginChannel(std::unique_ptr<HttpPipe> pipe, LoginKind kind, Login login, std::string url);
  Status log_in(Micros within);
  Result<SoapReply> ask_negotiated(const std::string& envelope, Micros within);
  Result<SoapReply> read(HttpReply reply) const;
  std::unexpected<Error> refused(const HttpReply& reply) const;

  std::unique_ptr<HttpPipe> pipe_;
  LoginKind kind_;
  Login login_;
  std::string url_;
  std::string host_;
  bool seals_;
  std::unique_ptr<SecurityContext> context_;  // Of the connection; null: not logged in.
};

}  // namespace farside::wsman
