// How identifiers of VMs, disks and others are written: RFC 4122, in any case, without braces.
#pragma once

#include <cctype>
#include <cstddef>
#include <string_view>

namespace farside {

inline constexpr std::size_t kUuidLength = 36;

inline bool is_uuid(std::string_view text) {
  if (text.size() != kUuidLength) return false;
  for (std::size_t i = 0; i < text.size(); ++i) {
    const bool is_dash = i == 8 || i == 13 || i == 18 || i == 23;
    if (is_dash ? text[i] != '-' : std::isxdigit(static_cast<unsigned char>(text[i])) == 0) {
      return false;
    }
  }
  return true;
}

}  // namespace farside
