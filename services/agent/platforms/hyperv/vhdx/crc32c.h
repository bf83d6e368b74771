// CRC-32C (Castagnoli), the checksum of every structure of a VHDX file.
#pragma once

#include <cstdint>
#include <string_view>

namespace farside::agent::vhdx {

class Crc32c final {
 public:
  Crc32c& add(std::string_view bytes);
  std::uint32_t value() const { return ~state_; }

 private:
  std::uint32_t state_ = 0xFFFFFFFFU;
};

// Of a structure whose checksum field, four bytes at `field`, counts as zeros.
// Precondition: field + 4 <= bytes.size().
std::uint32_t checksum_without(std::string_view bytes, std::size_t field);

}  // namespace farside::agent::vhdx
