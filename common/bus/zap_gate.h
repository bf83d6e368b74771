// Who may connect: answers libzmq's question, at each CURVE handshake of its context, whether the
// key belongs to somebody we know (ZAP, RFC 27), and names that somebody on every frame.
//
// Owns: one thread and the context's "inproc://zeromq.zap.01" endpoint.
// Invariant: it is started before any socket of the context listens and outlives them all.  In a
// context without a gate libzmq 4.3 admits every key, so a receiver also refuses frames that carry
// no "User-Id": `zmq_msg_gets(message, "User-Id")`.
// Thread: any.
#pragma once

#include <cstdint>
#include <memory>
#include <string>

#include "common/base/clock.h"
#include "common/base/result.h"

namespace zmq {
class context_t;
}

namespace farside::bus {

inline constexpr const char* kZapDomain = "farside";

class ZapGate final {
 public:
  // `context` and `clock` outlive the gate.
  // Errors: kAlreadyExists (the context has a gate), kInternal.
  static Result<std::unique_ptr<ZapGate>> start(zmq::context_t& context, const Clock& clock);
  ~ZapGate();
  ZapGate(const ZapGate&) = delete;
  ZapGate& operator=(const ZapGate&) = delete;

  // Admits `public_key` (Z85) from now on; frames of its connections carry `user_id` as their
  // "User-Id" property.  Errors: kInvalidArgument (not a key).
  Status allow(const std::string& public_key, const std::string& user_id);

  // Refuses it from now on.  Connections that exist stay: whoever receives their frames drops them.
  void forbid(const std::string& public_key);

  std::uint64_t admitted() const;
  std::uint64_t refused() const;  // Handshakes with unknown or revoked keys.

 private:
  struct Impl;
  explicit ZapGate(std::unique_ptr<Impl> impl);
  std::unique_ptr<Impl> impl_;
};

}  // namespace farside::bus
