// The table of regions of a VHDX file: where its metadata and its block allocation table (BAT) are.
//
// Source: [MS-VHDX] 2.2.3.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "common/base/result.h"

namespace farside::agent::vhdx {

struct Region {
  std::uint64_t at = 0;
  std::uint32_t bytes = 0;

  bool operator==(const Region&) const = default;
};

struct RegionTable {
  Region bat;
  Region metadata;
  std::vector<Region> others = {};  // Not for us, but not free either.
};

// Errors: kCorrupt (mark, checksum, a region twice, misplaced or missing), kUnsupported (a region
// that we must know and do not).
Result<RegionTable> parse_region_table(std::string_view bytes);
std::string write_region_table(const RegionTable& table);  // kRegionTableBytes.

}  // namespace farside::agent::vhdx
