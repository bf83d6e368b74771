// A GSSAPI security context: who is at the other end of one connection, and the keys to seal what
// is said over it.  SPNEGO with Kerberos or NTLM inside; NTLM is gss-ntlmssp's.
//
// Owns: the context and its credentials.  Thread: one at a time.
#pragma once

#include <memory>
#include <string>
#include <string_view>

#include "common/base/result.h"
#include "common/wsman/sealed_body.h"

namespace farside::wsman {

// Whoever is between us and a host may pass a login by NTLM on to another one: Kerberos names the
// host that it is for.
enum class Mechanism { kKerberos, kNtlm, kKerberosOrNtlm };
Mechanism mechanism_from(std::string_view setting);  // "kerberos", "ntlm"; else both, "any".

struct Login {
  std::string user;      // "DOMAIN\user", "user" of the host, or "user@REALM".
  std::string password;  // Secret: never logged.
  Mechanism mechanism = Mechanism::kKerberos;
};

class SecurityContext final {
 public:
  // To log in to service HTTP of `host`, over the TLS connection that `binding` is of (see
  // channel_binding.h; empty: not over TLS).
  // Errors: kUnauthorized, kUnsupported (no such mechanism).
  static Result<std::unique_ptr<SecurityContext>> initiate(const std::string& host,
                                                           const Login& login, std::string binding);
  // To let clients log in that this process' keytab or NTLM user file knows; whose logins are
  // bound to `binding`, unless that is empty.
  // Errors: kUnsupported.
  static Result<std::unique_ptr<SecurityContext>> accept(std::string binding);
  ~SecurityContext();
  SecurityContext(const SecurityContext&) = delete;
  SecurityContext& operator=(const SecurityContext&) = delete;

  // Takes the other side's token (at first, for an initiator, none), returns ours; it may be empty
  // once the context is established.  Errors: kUnauthorized; the context is of no use then.
  Result<std::string> step(std::string_view token);
  bool is_established() const;
  std::string mechanism() const;  // "kerberos", "ntlm".  Established only.
  std::string peer() const;       // The user at the other end.  Established acceptors only.

  // Established only; each message is opened once, in the order of sealing.
  // Errors: kCorrupt (was changed or is out of order), kInternal.
  Result<Sealed> seal(const std::string& text);
  Result<std::string> open(const SealedView& sealed);

 private:
  struct Impl;
  explicit SecurityContext(std::unique_ptr<Impl> impl);
  std::unique_ptr<Impl> impl_;
};

std::string to_base64(std::string_view bytes);
// Errors: kCorrupt.
Result<std::string> from_base64(std::string_view text);

}  // namespace farside::wsman
