#include "common/base/random.h"

#include <fmt/format.h>
#include <sys/random.h>

#include "common/base/assert.h"

namespace farside {

std::string Random::uuid() {
  const std::uint64_t a = (next() & 0xffffffffffff0fffULL) | 0x4000ULL;
  const std::uint64_t b = (next() & 0x3fffffffffffffffULL) | 0x8000000000000000ULL;
  return fmt::format("{:08x}-{:04x}-{:04x}-{:04x}-{:012x}", a >> 32U, (a >> 16U) & 0xffffU,
                     a & 0xffffU, b >> 48U, b & 0xffffffffffffULL);
}

std::string Random::hex(std::size_t bytes) {
  std::string out;
  while (out.size() < 2 * bytes) out += fmt::format("{:016x}", next());
  out.resize(2 * bytes);
  return out;
}

std::uint64_t SystemRandom::next() {
  std::uint64_t value = 0;
  FARSIDE_ASSERT(getrandom(&value, sizeof value, 0) == sizeof value);
  return value;
}

// Source: Sebastiano Vigna, "splitmix64.c" (public domain): the constants of the mixer.
std::uint64_t SeededRandom::next() {
  std::uint64_t z = (state_ += 0x9e3779b97f4a7c15ULL);
  z = (z ^ (z >> 30U)) * 0xbf58476d1ce4e5b9ULL;
  z = (z ^ (z >> 27U)) * 0x94d049bb133111ebULL;
  return z ^ (z >> 31U);
}

}  // namespace farside
