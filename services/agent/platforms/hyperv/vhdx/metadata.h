// What a VHDX file says of its disk: size, sectors, blocks, identity and parent.
//
// Source: [MS-VHDX] 2.6.
#pragma once

#include <cstdint>
#include <functional>
#include <optional>
#include <string>

#include "common/base/result.h"
#include "services/agent/platforms/hyperv/vhdx/guid.h"
#include "services/agent/platforms/hyperv/vhdx/parent_locator.h"

namespace farside::agent::vhdx {

// Once parsed: block_bytes is a power of 2 from 1 to 256 MiB, disk_bytes a multiple of
// logical_sector_bytes from one to 64 TiB, sectors are of 512 or 4,096 bytes.
struct Metadata {
  std::uint32_t block_bytes = 0;
  bool leave_allocated = false;  // A fixed disk.
  std::uint64_t disk_bytes = 0;
  std::uint32_t logical_sector_bytes = 0;
  std::uint32_t physical_sector_bytes = 0;
  Guid disk_id;                         // What page 83 of the disk tells the guest.
  std::optional<ParentLocator> parent;  // A differencing disk.

  bool operator==(const Metadata&) const = default;
};

// Reads `bytes` bytes at `at` of the metadata region; asked only for what lies in it.
using ReadRegion = std::function<Result<std::string>(std::uint64_t at, std::uint64_t bytes)>;

// Errors: kCorrupt, kUnsupported (an item that we must know and do not), and those of `read`.
Result<Metadata> read_metadata(const ReadRegion& read, std::uint64_t region_bytes);

// The first bytes of the region, the rest of which is zeros.
// Errors: kInvalidArgument (a parent without a path, or sizes that the format does not have).
Result<std::string> write_metadata(const Metadata& metadata);

}  // namespace farside::agent::vhdx
