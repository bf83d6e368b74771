// The bits of a sector bitmap: one a sector, the lowest of a byte first.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>

namespace farside::agent::vhdx {

inline bool has_bit(std::string_view bitmap, std::uint64_t index) {
  return ((static_cast<unsigned char>(bitmap[index / 8]) >> (index % 8)) & 1U) != 0;
}

// The first index from `begin` on whose bit is not as that of `begin`; `end` if all are.
// Precondition: begin < end.
std::uint64_t end_of_run(std::string_view bitmap, std::uint64_t begin, std::uint64_t end);

void set_bits(std::string& bitmap, std::uint64_t begin, std::uint64_t end, bool value);

}  // namespace farside::agent::vhdx
