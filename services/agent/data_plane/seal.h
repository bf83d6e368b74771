// Seals the frames that travel beside a session's CURVE connection: AES-256-GCM under a key that
// the target made for this session and told the source inside CURVE.  Each frame's number is its
// nonce, so that one that is repeated, left out, moved, changed or split elsewhere does not open.
//
//   part 1  | tag 16 | header, sealed |        part 2  | payload, sealed in place |
//
// Owns: the key.  Thread: one.  A key seals in one direction only.
#pragma once

#include <cstdint>
#include <memory>
#include <span>
#include <string>
#include <string_view>

#include "common/base/result.h"

struct evp_cipher_ctx_st;

namespace farside::data {

inline constexpr std::size_t kSealKeyBytes = 32;
inline constexpr std::size_t kSealTagBytes = 16;

class Seal final {
 public:
  enum class Side : bool { kSeals, kOpens };

  // Errors: kInternal (no randomness), kInvalidArgument (not a key).
  static Result<std::string> make_key();
  static Result<Seal> with_key(std::string_view key, Side side);

  // Returns part 1; `payload` becomes part 2.
  Result<std::string> seal(std::string_view header, std::span<char> payload);
  // Returns the header; `payload` becomes plain.  Errors: kForbidden; nothing of it may be used.
  Result<std::string> open(std::string_view part1, std::span<char> payload);

 private:
  struct Free {
    void operator()(evp_cipher_ctx_st* context) const;
  };
  Seal() = default;
  bool begin(std::size_t header_bytes);

  std::unique_ptr<evp_cipher_ctx_st, Free> context_;
  Side side_ = Side::kOpens;
  std::uint64_t number_ = 0;
};

}  // namespace farside::data
