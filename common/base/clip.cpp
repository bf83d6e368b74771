#include "common/base/clip.h"

namespace farside {

std::string clipped(std::string text, std::size_t bytes) {
  constexpr std::string_view kMore = "...";
  if (text.size() <= bytes || bytes < kMore.size()) return text;
  std::size_t end = bytes - kMore.size();
  while (end > 0 && (static_cast<unsigned char>(text[end]) & 0xc0U) == 0x80U) --end;
  text.resize(end);
  return text += kMore;
}

}  // namespace farside
