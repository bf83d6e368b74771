// The block allocation table (BAT): for each block of the disk, its state and its place in the
// file; and after each chunk's blocks, the place of the chunk's sector bitmap.
//
//   entry, 64 bits:  | place in the file, in MiB: 44 | 0: 17 | state: 3 |
//
// Source: [MS-VHDX] 2.5.
#pragma once

#include <algorithm>
#include <cstdint>

#include "services/agent/platforms/hyperv/vhdx/layout.h"
#include "services/agent/platforms/hyperv/vhdx/metadata.h"

namespace farside::agent::vhdx {

enum class BlockState : std::uint8_t {
  kNotPresent = 0,  // Look into the parent; zeros where there is none.
  kUndefined = 1,   // Any contents will do: zeros, here.
  kZero = 2,
  kUnmapped = 3,  // Zeros, here.
  kFullyPresent = 6,
  kPartiallyPresent = 7,  // The sector bitmap tells which sectors are here, which in the parent.
};
constexpr std::uint64_t kBitmapPresent = 6;  // State of a sector bitmap's entry; or 0.

class BatEntry final {
 public:
  BatEntry() = default;
  explicit BatEntry(std::uint64_t bits) : bits_(bits) {}
  BatEntry(BlockState state, std::uint64_t at) : bits_(at | static_cast<std::uint64_t>(state)) {}

  std::uint64_t bits() const { return bits_; }
  BlockState state() const { return static_cast<BlockState>(bits_ & 7U); }
  std::uint64_t at() const { return bits_ & ~(kMiB - 1); }
  // A block whose contents lie in this file.
  bool has_payload() const {
    return state() == BlockState::kFullyPresent || state() == BlockState::kPartiallyPresent;
  }

 private:
  std::uint64_t bits_ = 0;
};

// Where things are in the table.  Precondition: metadata that was parsed or written.
struct Geometry {
  std::uint64_t disk_bytes = 0;
  std::uint64_t block_bytes = 1;
  std::uint64_t sector_bytes = 1;
  std::uint64_t blocks_per_chunk = 1;
  std::uint64_t blocks = 0;
  std::uint64_t chunks = 0;
  std::uint64_t entries = 0;  // That the table needs to have.

  explicit Geometry(const Metadata& metadata);

  std::uint64_t entry_of_block(std::uint64_t block) const {
    return block + block / blocks_per_chunk;
  }
  std::uint64_t entry_of_bitmap(std::uint64_t chunk) const {
    return (chunk + 1) * (blocks_per_chunk + 1) - 1;
  }
  // In the bitmap of the block's chunk, the bit of the block's first sector.
  std::uint64_t first_bit_of(std::uint64_t block) const {
    return block % blocks_per_chunk * (block_bytes / sector_bytes);
  }
  // Of the last block, a part may lie beyond the disk's end.
  std::uint64_t bytes_of_block(std::uint64_t block) const {
    return std::min(block_bytes, disk_bytes - block * block_bytes);
  }
};

}  // namespace farside::agent::vhdx
