// The server's side of one connection that speaks ZMTP 3 with CURVE, for clients that use libzmq.
//
// Before the client has proven that it has an admitted key it can make us hold one command of at
// most 1 KiB; after that, `parts_max` parts of at most `part_bytes_max` bytes.
//
// Owns: the secrets of this connection.  Thread: one.
// Source: https://rfc.zeromq.org/spec/23/ (frames, greeting), https://rfc.zeromq.org/spec/26/
// (commands, boxes, nonces); what libzmq 4.3 does where they leave it open is noted at each place.
#pragma once

#include <array>
#include <cstdint>
#include <functional>
#include <string>
#include <string_view>
#include <vector>

#include "common/bus/curve_keys.h"
#include "common/bus/dialogue.h"

namespace farside::bus {

struct CurveServerOptions {
  KeyBytes public_key{};  // Ours.
  KeyBytes secret_key{};
  std::size_t part_bytes_max = 0;
  std::size_t parts_max = 1;
  std::function<bool(const std::string& key)> admits;  // The listener's thread.
};

class CurveServer final : public Dialogue {
 public:
  // `options` outlive it.
  explicit CurveServer(const CurveServerOptions& options);
  ~CurveServer() override;
  CurveServer(const CurveServer&) = delete;
  CurveServer& operator=(const CurveServer&) = delete;

  std::string greeting() override;
  std::size_t needs() const override;
  // Errors: kCorrupt (not ZMTP or not CURVE), kUnauthorized (the key is not admitted), kTooLarge.
  Result<Taken> take(Bytes bytes) override;
  std::string farewell() const override { return farewell_; }
  const std::string& key() const override { return key_; }
  std::string seal(std::string_view part, bool more) override;

 private:
  enum class Reads : std::uint8_t { kGreeting, kFrameStart, kLongSize, kBody };
  enum class Awaits : std::uint8_t { kHello, kInitiate, kMessages };
  using Key = KeyBytes;

  Status begin_body(std::uint64_t size);
  Result<Taken> on_body(Bytes bytes);
  Result<std::string> on_hello(std::string_view body);
  Result<std::string> on_initiate(std::string_view body);
  Result<Taken> on_message(Bytes bytes);
  std::string frame(std::uint8_t flags, std::string_view body) const;

  const CurveServerOptions& options_;
  Reads reads_ = Reads::kGreeting;
  Awaits awaits_ = Awaits::kHello;
  std::uint8_t flags_ = 0;
  std::size_t body_bytes_ = 0;
  Key short_public_{};  // Ours, of this connection only.
  Key short_secret_{};
  Key client_short_{};
  Key shared_{};  // Of the two short-term keys.
  std::string cookie_;
  std::uint64_t sent_ = 0;   // Nonce of the last box that we sent ...
  std::uint64_t heard_ = 0;  // ... and of the last that we opened.
  std::vector<Part> parts_;
  std::string key_;
  std::string farewell_;
};

}  // namespace farside::bus
