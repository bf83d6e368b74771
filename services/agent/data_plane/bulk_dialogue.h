// The target's side of a connection that brings bulk beside CURVE.
//
//   | "FSB1" | session 8 |, then for each frame | bytes of head 4 | bytes of payload 4 | head |
//   payload |
//
// Numbers are big-endian.  Whoever names no session that is open here is a stranger, of whom no
// more than these twelve bytes are held; a session has one connection.  What the frames are worth
// is told by their seals alone, which the session opens.
//
// Owns: nothing.  Thread: one.
#pragma once

#include <cstdint>
#include <functional>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "common/bus/dialogue.h"

namespace farside::data {

inline constexpr std::string_view kBulkMagic = "FSB1";
inline constexpr std::size_t kBulkHeadBytesMax = std::size_t{128} << 10U;
inline constexpr std::size_t kBulkPayloadBytesMax = std::size_t{1} << 20U;

std::string bulk_hello(std::uint64_t session);
std::string bulk_lengths(std::size_t head, std::size_t payload);

class BulkDialogue final : public bus::Dialogue {
 public:
  // Takes the only place of the session, and tells the key of its source; empty: there is none.
  using Claim = std::function<std::optional<std::string>(std::uint64_t session)>;
  explicit BulkDialogue(const Claim& claim) : claim_(claim) {}

  std::size_t needs() const override { return needs_; }
  // Messages have three parts: the session's number, 8 bytes; head; payload, maybe empty.
  // Errors: kCorrupt, kUnauthorized (no such session), kTooLarge.
  Result<Taken> take(bus::Bytes bytes) override;
  const std::string& key() const override { return key_; }
  // Nothing is ever answered here.
  std::string seal(std::string_view, bool) override { return {}; }

 private:
  enum class Reads : std::uint8_t { kHello, kLengths, kHead, kPayload };
  Result<Taken> on_hello(std::string_view bytes);
  Result<Taken> on_lengths(std::string_view bytes);
  Taken whole(bus::Bytes head, bus::Bytes payload);

  const Claim& claim_;
  Reads reads_ = Reads::kHello;
  std::size_t needs_ = 12;
  std::size_t payload_bytes_ = 0;
  std::string session_;
  std::string key_;
  bus::Bytes head_;
};

}  // namespace farside::data
