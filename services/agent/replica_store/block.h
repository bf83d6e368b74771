// A block: 64 KiB of a guest disk, its hash and how its bytes are packed.  What the last one of a
// disk has beyond the disk's end are zeros, so that a disk may grow from any size.
//
// Thread: any.
#pragma once

#include <cstdint>
#include <span>
#include <string>
#include <string_view>

#include "common/base/result.h"

namespace farside::replica {

inline constexpr std::uint32_t kBlockBytes = 64 * 1024;

enum class Codec : std::uint8_t {
  kRaw = 1,
  kZstd = 2,
  kZero = 3,  // All zeros; nothing is sent or stored.
  kBase = 4,  // In the index only: folded into the base disk.
};

constexpr std::uint64_t blocks_of(std::uint64_t disk_bytes) {
  return (disk_bytes + kBlockBytes - 1) / kBlockBytes;
}
// How much of a block lies on the disk.
constexpr std::uint32_t length_of(std::uint64_t disk_bytes, std::uint64_t block) {
  const std::uint64_t rest = disk_bytes - block * kBlockBytes;
  return rest < kBlockBytes ? static_cast<std::uint32_t>(rest) : kBlockBytes;
}

// XXH3, 64 bits: tells damage, not malice.  What compares blocks is in block_hash.h.
std::uint64_t hash_of(std::string_view bytes);
std::uint64_t zero_hash();  // Of a block of zeros, under any key.
bool is_zero(std::string_view bytes);

// Packs as zstd if that saves at least an eighth; otherwise `packed` is left empty and the block
// is best kept raw.  Level 0 means no compression at all.
Codec pack(std::string_view plain, int level, std::string& packed);

// Fills all of `plain`.  Errors: kCorrupt.
Status unpack(Codec codec, std::string_view packed, std::span<char> plain);

}  // namespace farside::replica
