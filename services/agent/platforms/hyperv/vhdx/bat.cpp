#include "services/agent/platforms/hyperv/vhdx/bat.h"

namespace farside::agent::vhdx {

Geometry::Geometry(const Metadata& metadata)
    : disk_bytes(metadata.disk_bytes),
      block_bytes(metadata.block_bytes),
      sector_bytes(metadata.logical_sector_bytes),
      blocks_per_chunk(kSectorsPerBitmap * sector_bytes / block_bytes),
      blocks((disk_bytes + block_bytes - 1) / block_bytes),
      chunks((blocks + blocks_per_chunk - 1) / blocks_per_chunk),
      // With a parent the last chunk's bitmap must have its entry, without one the last block.
      entries(metadata.parent ? chunks * (blocks_per_chunk + 1)
                              : blocks + (blocks - 1) / blocks_per_chunk) {}

}  // namespace farside::agent::vhdx
