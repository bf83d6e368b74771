#include "common/base/file_name.h"

#include <fmt/format.h>

#include <algorithm>
#include <cstddef>

#include "common/base/log_value.h"

namespace farside {

bool is_file_name(std::string_view name) {
  constexpr std::size_t kBytesMax = 255;
  return !name.empty() && name.size() <= kBytesMax && !name.starts_with('.') &&
         std::ranges::none_of(name, [](char c) {
           const auto byte = static_cast<unsigned char>(c);
           return c == '/' || byte < 0x20 || byte == 0x7f;
         });
}

Status check_file_name(std::string_view what, std::string_view name) {
  if (is_file_name(name)) return {};
  return fail(ErrorCode::kForbidden,
              fmt::format("{} {} cannot name a file", what, log::quoted(name)),
              "no file outside of its folder is touched; look at who sent that name");
}

}  // namespace farside
