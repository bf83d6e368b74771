// Sets of bytes of a disk.
#pragma once

#include <cstdint>
#include <nlohmann/json.hpp>
#include <vector>

namespace farside::hvsim {

struct Range {
  std::uint64_t begin = 0;
  std::uint64_t end = 0;

  bool operator==(const Range&) const = default;
};

// In order, not empty, and not touching each other.
using Ranges = std::vector<Range>;

Ranges unite(const Ranges& some, const Ranges& others);
Ranges clip(const Ranges& ranges, Range to);

nlohmann::json to_json(const Ranges& ranges);
Ranges ranges_from(const nlohmann::json& json);

}  // namespace farside::hvsim
