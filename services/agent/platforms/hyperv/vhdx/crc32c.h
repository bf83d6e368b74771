// The checksum of every structure of a VHDX file: CRC-32C.
#pragma once

#include <cstdint>
#include <string_view>

#include "common/base/crc32c.h"

namespace farside::agent::vhdx {

// Of a structure whose checksum field, four bytes at `field`, counts as zeros.
// Precondition: field + 4 <= bytes.size().
std::uint32_t checksum_without(std::string_view bytes, std::size_t field);

}  // namespace farside::agent::vhdx
