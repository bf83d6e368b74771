// The hash by which a source and a target compare the blocks of a replica.  Under a key that the
// guest does not know: whoever writes a disk cannot make two blocks that a comparison, or a
// digest, takes for one.
//
// GMAC (AES-128), a universal hash: of two blocks made without the key, however cleverly, less than
// one pair in 2^115 agrees, and XXH3 brings its 128 bits down to 64.  Source: NIST SP 800-38D; for
// the bound McGrew and Viega, "The security and performance of the Galois/Counter Mode", 2004.
// Nothing made with the key ever reaches a guest, so that one nonce does for all blocks.
//
// Without a key (replicas that have none) it is XXH3.  Zeros have the hash of zeros under any key.
//
// Thread: any.
#pragma once

#include <array>
#include <cstdint>
#include <string>
#include <string_view>

#include "common/base/result.h"

namespace farside::replica {

inline constexpr std::size_t kHashKeyBytes = 16;

class BlockHash final {
 public:
  BlockHash() = default;

  // Errors: kCorrupt (neither empty nor of kHashKeyBytes).
  static Result<BlockHash> with_key(std::string_view key);
  static std::string make_key();

  std::uint64_t operator()(std::string_view plain) const;

 private:
  bool has_key_ = false;
  std::array<unsigned char, kHashKeyBytes> key_{};
};

}  // namespace farside::replica
