// Codes of errors as they come over a wire.
#pragma once

#include <cstdint>

#include "common/base/error.h"

namespace farside {

// One that this release does not know is a fault of ours: kInternal.
inline ErrorCode error_code_from(std::uint16_t number) {
  constexpr auto kFirst = static_cast<std::uint16_t>(ErrorCode::kInternal);
  constexpr auto kLast = static_cast<std::uint16_t>(ErrorCode::kBusy);
  const bool is_known = number >= kFirst && number <= kLast;
  return is_known ? static_cast<ErrorCode>(number) : ErrorCode::kInternal;
}

}  // namespace farside
