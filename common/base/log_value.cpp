#include "common/base/log_value.h"

#include <fmt/format.h>

#include <cstddef>
#include <cstdint>
#include <iterator>

namespace farside::log {
namespace {

struct Character {
  std::uint32_t code = 0;
  std::size_t bytes = 1;
  bool is_utf8 = false;
};

std::uint8_t byte_at(std::string_view text, std::size_t at) {
  return static_cast<std::uint8_t>(text[at]);
}

// Of at least one byte.  Source: RFC 3629, section 4.
Character first_of(std::string_view text) {
  const std::uint8_t lead = byte_at(text, 0);
  if (lead < 0x80) return {.code = lead, .bytes = 1, .is_utf8 = true};
  const std::size_t bytes = lead >= 0xf0 ? 4 : lead >= 0xe0 ? 3 : 2;
  if (lead < 0xc2 || lead > 0xf4 || text.size() < bytes) return {};
  std::uint32_t code = lead & (0x7fU >> bytes);
  for (std::size_t i = 1; i < bytes; ++i) {
    if ((byte_at(text, i) & 0xc0U) != 0x80U) return {};
    code = (code << 6U) | (byte_at(text, i) & 0x3fU);
  }
  const bool is_short_enough = bytes == 2 || code >= (bytes == 3 ? 0x800U : 0x10000U);
  const bool is_surrogate = code >= 0xd800 && code <= 0xdfff;
  if (!is_short_enough || is_surrogate || code > 0x10ffff) return {};
  return {.code = code, .bytes = bytes, .is_utf8 = true};
}

bool is_control(std::uint32_t code) {
  return code < 0x20 || code == 0x7f;
}

// C1 controls, marks and overrides of direction, ends of lines, and the mark of byte order.
bool is_unseen(std::uint32_t code) {
  return (code >= 0x80 && code <= 0x9f) || code == 0x061c || (code >= 0x200b && code <= 0x200f) ||
         (code >= 0x2028 && code <= 0x202e) || (code >= 0x2060 && code <= 0x206f) || code == 0xfeff;
}

bool needs_quotes(std::string_view value) {
  if (value.empty()) return true;
  while (!value.empty()) {
    const Character one = first_of(value);
    if (!one.is_utf8 || is_control(one.code) || is_unseen(one.code)) return true;
    if (one.code == ' ' || one.code == '"' || one.code == '=') return true;
    value.remove_prefix(one.bytes);
  }
  return false;
}

// The first character of `value`, which goes.
void append_seen(std::string& line, std::string_view& value, std::string_view escaped) {
  const Character one = first_of(value);
  if (!one.is_utf8) {
    fmt::format_to(std::back_inserter(line), "\\x{:02x}", byte_at(value, 0));
  } else if (one.code == '\n') {
    line += ' ';
  } else if (is_control(one.code)) {
    fmt::format_to(std::back_inserter(line), "\\x{:02x}", one.code);
  } else if (is_unseen(one.code)) {
    fmt::format_to(std::back_inserter(line), "\\u{{{:04x}}}", one.code);
  } else {
    if (escaped.contains(value.front())) line += '\\';
    line += value.substr(0, one.bytes);
  }
  value.remove_prefix(one.bytes);
}

void append_quoted(std::string& line, std::string_view value) {
  line += '"';
  while (!value.empty()) append_seen(line, value, "\"\\");
  line += '"';
}

}  // namespace

void append_value(std::string& line, std::string_view value) {
  if (needs_quotes(value)) {
    append_quoted(line, value);
  } else {
    line += value;
  }
}

std::string printable(std::string_view text) {
  std::string line;
  while (!text.empty()) {
    if (text.front() == '\n') {
      line += '\n';
      text.remove_prefix(1);
    } else {
      append_seen(line, text, "");
    }
  }
  return line;
}

std::string quoted(std::string_view value) {
  constexpr std::size_t kBytesMax = 64;
  std::string out;
  append_quoted(out, value.substr(0, kBytesMax));
  if (value.size() > kBytesMax) out += "...";
  return out;
}

}  // namespace farside::log
