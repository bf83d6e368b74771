// CRC-32C (Castagnoli).  Source: RFC 3720, 12.1.
#pragma once

#include <cstdint>
#include <string_view>

namespace farside {

class Crc32c final {
 public:
  Crc32c& add(std::string_view bytes);
  std::uint32_t value() const { return ~state_; }

 private:
  std::uint32_t state_ = 0xFFFFFFFFU;
};

}  // namespace farside
