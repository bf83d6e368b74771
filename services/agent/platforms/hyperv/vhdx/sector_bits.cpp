#include "services/agent/platforms/hyperv/vhdx/sector_bits.h"

#include <algorithm>

namespace farside::agent::vhdx {

std::uint64_t end_of_run(std::string_view bitmap, std::uint64_t begin, std::uint64_t end) {
  const bool value = has_bit(bitmap, begin);
  const char whole = value ? '\xFF' : '\0';
  std::uint64_t at = begin + 1;
  while (at < end) {
    if (at % 8 == 0 && bitmap[at / 8] == whole) {
      at += 8;
    } else if (has_bit(bitmap, at) == value) {
      ++at;
    } else {
      break;
    }
  }
  return std::min(at, end);
}

void set_bits(std::string& bitmap, std::uint64_t begin, std::uint64_t end, bool value) {
  while (begin < end) {
    if (begin % 8 == 0 && end - begin >= 8) {
      bitmap[begin / 8] = value ? '\xFF' : '\0';
      begin += 8;
      continue;
    }
    const auto byte = static_cast<unsigned char>(bitmap[begin / 8]);
    const unsigned mask = 1U << (begin % 8);
    bitmap[begin / 8] = static_cast<char>(value ? byte | mask : byte & ~mask);
    ++begin;
  }
}

}  // namespace farside::agent::vhdx
