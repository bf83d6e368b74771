#include "services/agent/platforms/hyperv/vhdx/utf16.h"

#include "services/agent/platforms/hyperv/vhdx/layout.h"

namespace farside::agent::vhdx {
namespace {

bool is_high_half(char32_t c) {
  return c >= 0xD800 && c < 0xDC00;
}
bool is_low_half(char32_t c) {
  return c >= 0xDC00 && c < 0xE000;
}

void add_utf8(std::string& out, char32_t c) {
  const auto add = [&](char32_t byte) { out += static_cast<char>(byte); };
  if (c < 0x80) {
    add(c);
  } else if (c < 0x800) {
    add(0xC0U | (c >> 6U));
    add(0x80U | (c & 0x3FU));
  } else if (c < 0x10000) {
    add(0xE0U | (c >> 12U));
    add(0x80U | ((c >> 6U) & 0x3FU));
    add(0x80U | (c & 0x3FU));
  } else {
    add(0xF0U | (c >> 18U));
    add(0x80U | ((c >> 12U) & 0x3FU));
    add(0x80U | ((c >> 6U) & 0x3FU));
    add(0x80U | (c & 0x3FU));
  }
}

void add_utf16(std::string& out, char32_t c) {
  out += static_cast<char>(c & 0xFFU);
  out += static_cast<char>((c >> 8U) & 0xFFU);
}

// The character that `rest` begins with, which is taken off.
std::optional<char32_t> take_utf8(std::string_view& rest) {
  const auto first = static_cast<unsigned char>(rest.front());
  std::size_t more = 0;
  char32_t c = first;
  char32_t smallest = 0;
  if (first >= 0xF0 && first < 0xF8) {
    more = 3;
    c = first & 0x07U;
    smallest = 0x10000;
  } else if (first >= 0xE0 && first < 0xF0) {
    more = 2;
    c = first & 0x0FU;
    smallest = 0x800;
  } else if (first >= 0xC0 && first < 0xE0) {
    more = 1;
    c = first & 0x1FU;
    smallest = 0x80;
  } else if (first >= 0x80) {
    return std::nullopt;
  }
  if (rest.size() <= more) return std::nullopt;
  for (std::size_t i = 1; i <= more; ++i) {
    const auto byte = static_cast<unsigned char>(rest[i]);
    if ((byte & 0xC0U) != 0x80) return std::nullopt;
    c = (c << 6U) | (byte & 0x3FU);
  }
  rest.remove_prefix(more + 1);
  const bool is_half = is_high_half(c) || is_low_half(c);
  if (c < smallest || c > 0x10FFFF || is_half) return std::nullopt;
  return c;
}

}  // namespace

std::optional<std::string> utf8_of(std::string_view utf16le) {
  if (utf16le.size() % 2 != 0) return std::nullopt;
  std::string out;
  for (std::size_t at = 0; at < utf16le.size(); at += 2) {
    char32_t c = load<std::uint16_t>(utf16le, at);
    if (is_high_half(c)) {
      at += 2;
      if (at >= utf16le.size()) return std::nullopt;
      const char32_t low = load<std::uint16_t>(utf16le, at);
      if (!is_low_half(low)) return std::nullopt;
      c = 0x10000 + ((c - 0xD800) << 10U) + (low - 0xDC00);
    } else if (c == 0 || is_low_half(c)) {
      return std::nullopt;
    }
    add_utf8(out, c);
  }
  return out;
}

std::optional<std::string> utf16le_of(std::string_view utf8) {
  std::string out;
  while (!utf8.empty()) {
    const auto c = take_utf8(utf8);
    if (!c || *c == 0) return std::nullopt;
    if (*c < 0x10000) {
      add_utf16(out, *c);
    } else {
      add_utf16(out, 0xD800 + ((*c - 0x10000) >> 10U));
      add_utf16(out, 0xDC00 + ((*c - 0x10000) & 0x3FFU));
    }
  }
  return out;
}

}  // namespace farside::agent::vhdx
