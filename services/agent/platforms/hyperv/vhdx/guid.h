// A GUID as Windows stores it: the first three groups of its text little-endian, the rest as it
// reads.
#pragma once

#include <array>
#include <optional>
#include <string>
#include <string_view>

#include "common/base/random.h"

namespace farside::agent::vhdx {

struct Guid {
  std::array<char, 16> bytes{};

  static Guid random(Random& random);
  // "2dc27766-f623-4200-9d64-115e9bfd4a08", in braces or without, in any case.
  static std::optional<Guid> parse(std::string_view text);
  // Precondition: 16 bytes from `at`.
  static Guid load(std::string_view bytes, std::size_t at);

  void store(std::string& bytes, std::size_t at) const;
  bool is_zero() const { return *this == Guid{}; }
  std::string text() const;  // Lower case, without braces.

  bool operator==(const Guid&) const = default;
};

}  // namespace farside::agent::vhdx
