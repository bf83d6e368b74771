// A process's identity: its CURVE key pair, kept in a file that only its owner can read.
//
// Whoever has the file can speak as this process, so a file that others can read is refused
// rather than used.  Thread: any.
#pragma once

#include <array>
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>

#include "common/base/result.h"

namespace farside::bus {

inline constexpr std::size_t kKeyTextBytes = 40;  // Z85 of 32 bytes.

struct CurveKeys {
  std::string public_key;  // Z85.
  std::string secret_key;  // Z85; never logged, never sent.
};

// A fresh random pair.  Errors: kInternal (libzmq was built without CURVE).
Result<CurveKeys> generate_keys();

// Nothing: `text` is not 40 characters of Z85.
using KeyBytes = std::array<std::uint8_t, 32>;
std::optional<KeyBytes> key_bytes(std::string_view text);

// Whether `text` can be a public key at all.
inline bool is_key(std::string_view text) {
  return key_bytes(text).has_value();
}

// Errors: kNotFound; kForbidden (group or others may read it); kCorrupt (cut, edited, or the two
// keys do not belong together); kIo.
Result<CurveKeys> load_keys(const std::string& path);

// Durable before it returns, mode 0600.  Errors: kAlreadyExists (never replaces an identity), kIo.
Status save_keys(const std::string& path, const CurveKeys& keys);

// What a service does at start: its keys of last time, or new ones the first time.
Result<CurveKeys> load_or_create_keys(const std::string& path);

}  // namespace farside::bus
