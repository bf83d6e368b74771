#include "common/base/file_name.h"

#include <fmt/format.h>

#include <algorithm>
#include <cstddef>

#include "common/base/log_value.h"

namespace farside {
namespace {

bool is_control(char c) {
  const auto byte = static_cast<unsigned char>(c);
  return byte < 0x20 || byte == 0x7f;
}

}  // namespace

bool is_file_name(std::string_view name) {
  constexpr std::size_t kBytesMax = 255;
  return !name.empty() && name.size() <= kBytesMax && !name.starts_with('.') &&
         std::ranges::none_of(name, [](char c) { return c == '/' || is_control(c); });
}

Status check_file_name(std::string_view what, std::string_view name) {
  if (is_file_name(name)) return {};
  return fail(ErrorCode::kForbidden,
              fmt::format("{} {} cannot name a file", what, log::quoted(name)),
              "no file outside of its folder is touched; look at who sent that name");
}

bool is_id(std::string_view text) {
  constexpr std::size_t kIdBytesMax = 128;
  return !text.empty() && text.size() <= kIdBytesMax && !text.starts_with('.') &&
         std::ranges::all_of(text, [](char c) {
           return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') ||
                  c == '-' || c == '_' || c == '.';
         });
}

bool is_folder_path(std::string_view path) {
  constexpr std::size_t kPathBytesMax = 1'024;
  if (path.size() > kPathBytesMax || !path.starts_with('/')) return false;
  if (std::ranges::any_of(path, is_control)) return false;
  path.remove_prefix(1);
  if (path.ends_with('/')) path.remove_suffix(1);
  while (true) {
    const auto part = path.substr(0, path.find('/'));
    if (part.empty() || part == "." || part == "..") return false;
    if (part.size() == path.size()) return true;
    path.remove_prefix(part.size() + 1);
  }
}

}  // namespace farside
