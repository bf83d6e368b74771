#include "common/base/crc32c.h"

#include <array>
#include <bit>
#include <cstring>

namespace farside {
namespace {

constexpr std::uint32_t kPolynomial = 0x82F63B78U;  // Bits reversed.  Source: RFC 3720, 12.1.

using Tables = std::array<std::array<std::uint32_t, 256>, 8>;

// tables[k][b]: what byte b does to the checksum when k more bytes follow it.
constexpr Tables make_tables() {
  Tables tables{};
  for (std::uint32_t byte = 0; byte < 256; ++byte) {
    std::uint32_t crc = byte;
    for (int bit = 0; bit < 8; ++bit) crc = (crc >> 1U) ^ ((crc & 1U) != 0 ? kPolynomial : 0);
    tables[0][byte] = crc;
  }
  for (std::size_t k = 1; k < tables.size(); ++k) {
    for (std::size_t byte = 0; byte < 256; ++byte) {
      const std::uint32_t before = tables[k - 1][byte];
      tables[k][byte] = (before >> 8U) ^ tables[0][before & 0xFFU];
    }
  }
  return tables;
}

constexpr Tables kTables = make_tables();

}  // namespace

Crc32c& Crc32c::add(std::string_view bytes) {
  std::size_t at = 0;
  for (; at + 8 <= bytes.size(); at += 8) {  // Eight bytes a round: a log entry may be a megabyte.
    std::uint64_t word = 0;
    std::memcpy(&word, bytes.data() + at, 8);
    if constexpr (std::endian::native == std::endian::big) word = __builtin_bswap64(word);
    word ^= state_;
    state_ = 0;
    for (std::size_t k = 0; k < 8; ++k) state_ ^= kTables[7 - k][(word >> (8 * k)) & 0xFFU];
  }
  for (; at < bytes.size(); ++at) {
    const auto byte = static_cast<unsigned char>(bytes[at]);
    state_ = (state_ >> 8U) ^ kTables[0][(state_ ^ byte) & 0xFFU];
  }
  return *this;
}

}  // namespace farside
