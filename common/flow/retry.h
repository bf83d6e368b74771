// The product's retry ladder: 1, 2, 4, 8, 10 s, then 30 min.
#pragma once

#include <array>
#include <chrono>
#include <cstdint>

namespace farside::flow {

inline std::chrono::seconds retry_delay(std::uint32_t failures_in_a_row) {
  constexpr std::array kLadder{1, 2, 4, 8, 10};
  if (failures_in_a_row == 0) return std::chrono::seconds{0};
  if (failures_in_a_row <= kLadder.size()) {
    return std::chrono::seconds{kLadder.at(failures_in_a_row - 1)};
  }
  return std::chrono::minutes{30};
}

}  // namespace farside::flow
