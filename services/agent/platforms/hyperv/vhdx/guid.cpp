#include "services/agent/platforms/hyperv/vhdx/guid.h"

#include <cstring>

#include "common/base/assert.h"

namespace farside::agent::vhdx {
namespace {

// Where the bytes of the text, two digits each, lie in memory.
constexpr std::array<std::size_t, 16> kPlace{3, 2, 1, 0, 5, 4, 7, 6, 8, 9, 10, 11, 12, 13, 14, 15};

bool has_dash_before(std::size_t byte) {
  return byte == 4 || byte == 6 || byte == 8 || byte == 10;
}

std::optional<unsigned> digit(char c) {
  if (c >= '0' && c <= '9') return static_cast<unsigned>(c - '0');
  if (c >= 'a' && c <= 'f') return static_cast<unsigned>(c - 'a') + 10;
  if (c >= 'A' && c <= 'F') return static_cast<unsigned>(c - 'A') + 10;
  return std::nullopt;
}

}  // namespace

Guid Guid::random(Random& random) {
  const auto guid = parse(random.uuid());
  FARSIDE_ASSERT(guid.has_value());
  return *guid;
}

std::optional<Guid> Guid::parse(std::string_view text) {
  if (text.starts_with('{') && text.ends_with('}')) text = text.substr(1, text.size() - 2);
  if (text.size() != 36) return std::nullopt;
  Guid guid;
  std::size_t at = 0;
  for (std::size_t i = 0; i < 16; ++i) {
    if (has_dash_before(i) && text[at++] != '-') return std::nullopt;
    const auto high = digit(text[at]);
    const auto low = digit(text[at + 1]);
    if (!high || !low) return std::nullopt;
    guid.bytes[kPlace[i]] = static_cast<char>(*high * 16 + *low);
    at += 2;
  }
  return guid;
}

Guid Guid::load(std::string_view bytes, std::size_t at) {
  Guid guid;
  std::memcpy(guid.bytes.data(), bytes.data() + at, guid.bytes.size());
  return guid;
}

void Guid::store(std::string& to, std::size_t at) const {
  std::memcpy(to.data() + at, bytes.data(), bytes.size());
}

std::string Guid::text() const {
  constexpr std::string_view kDigits = "0123456789abcdef";
  std::string text;
  for (std::size_t i = 0; i < 16; ++i) {
    if (has_dash_before(i)) text += '-';
    const auto byte = static_cast<unsigned char>(bytes[kPlace[i]]);
    text += kDigits[byte >> 4U];
    text += kDigits[byte & 0xFU];
  }
  return text;
}

}  // namespace farside::agent::vhdx
