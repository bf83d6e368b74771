// The text of Windows' paths: UTF-16LE there, UTF-8 here.
#pragma once

#include <optional>
#include <string>
#include <string_view>

namespace farside::agent::vhdx {

// None: an odd number of bytes, half of a pair, or a NUL.
std::optional<std::string> utf8_of(std::string_view utf16le);
// None: not UTF-8, or a NUL.
std::optional<std::string> utf16le_of(std::string_view utf8);

}  // namespace farside::agent::vhdx
