// What a VHDX file says of itself, as far as a host is asked for it: its metadata alone.
//
// Source: Microsoft, [MS-VHDX] sections 2.2.3 (region table) and 2.6 (metadata region).
#pragma once

#include <cstdint>
#include <string>

#include "common/base/result.h"

namespace farside::hvsim {

struct VhdxShape {
  std::uint64_t bytes = 0;  // Of the virtual disk.
  std::uint32_t block_bytes = 0;
  std::uint32_t logical_sector_bytes = 0;
  std::uint32_t physical_sector_bytes = 0;
  bool is_fixed = false;
  bool has_parent = false;
  std::string disk_id;      // Upper case, without braces.
  std::string parent_path;  // absolute_win32_path, or relative_path; empty without a parent.
};

// Errors: kNotFound, kCorrupt.
Result<VhdxShape> read_vhdx_shape(const std::string& file);

}  // namespace farside::hvsim
