#include "common/wsman/wmi_path.h"

#include <algorithm>
#include <cctype>
#include <optional>

namespace farside::wsman {
namespace {

constexpr std::size_t kPathBytesMax = std::size_t{16} << 10U;

bool is_name(std::string_view text) {
  return !text.empty() && std::ranges::all_of(text, [](unsigned char c) {
    return std::isalnum(c) != 0 || c == '_';
  });
}

std::unexpected<Error> no_path(std::string_view path, const char* why) {
  return fail(ErrorCode::kCorrupt,
              "not a WMI path (" + std::string(why) + "): " + std::string(path.substr(0, 200)));
}

// Takes the quoted or bare value that `rest` begins with.
std::optional<std::string> take_value(std::string_view& rest) {
  std::string value;
  if (!rest.starts_with('"')) {
    const std::size_t end = std::min(rest.find(','), rest.size());
    value = rest.substr(0, end);
    rest.remove_prefix(end);
    return value.empty() ? std::nullopt : std::optional(value);
  }
  for (std::size_t at = 1; at < rest.size(); ++at) {
    if (rest[at] == '"') {
      rest.remove_prefix(at + 1);
      return value;
    }
    if (rest[at] == '\\') ++at;
    if (at < rest.size()) value += rest[at];
  }
  return std::nullopt;
}

}  // namespace

Result<Reference> parse_wmi_path(std::string_view path) {
  if (path.size() > kPathBytesMax) return no_path(path, "too long");
  Reference reference;
  std::string_view rest = path;
  if (rest.starts_with("\\\\") || rest.starts_with("//")) {
    rest.remove_prefix(2);
    const std::size_t end = rest.find_first_of("\\/");
    if (end == std::string_view::npos || end == 0) return no_path(path, "no host");
    reference.host = rest.substr(0, end);
    rest.remove_prefix(end + 1);
  }
  const std::size_t colon = rest.find(':');
  const std::size_t quote = std::min(rest.find('"'), rest.size());
  if (colon < quote) {
    reference.name_space = rest.substr(0, colon);
    for (char& c : reference.name_space) {
      c = c == '\\' ? '/' : static_cast<char>(std::tolower(static_cast<unsigned char>(c)));
    }
    rest.remove_prefix(colon + 1);
  } else if (!reference.host.empty()) {
    return no_path(path, "no namespace");
  }
  const std::size_t dot = std::min(rest.find_first_of(".="), rest.size());
  reference.class_name = rest.substr(0, dot);
  if (!is_name(reference.class_name)) return no_path(path, "no class");
  rest.remove_prefix(dot);
  if (rest == "=@") return reference;  // The only object of its class.
  while (!rest.empty()) {
    rest.remove_prefix(1);  // The dot or comma.
    const std::size_t equals = rest.find('=');
    if (equals == std::string_view::npos || !is_name(rest.substr(0, equals))) {
      return no_path(path, "no key");
    }
    const std::string name(rest.substr(0, equals));
    rest.remove_prefix(equals + 1);
    auto value = take_value(rest);
    if (!value) return no_path(path, "no value");
    if (!rest.empty() && rest[0] != ',') return no_path(path, "no comma");
    if (!reference.keys.emplace(name, std::move(*value)).second) return no_path(path, "key twice");
  }
  return reference;
}

std::string to_wmi_path(const Reference& reference) {
  std::string path;
  if (!reference.host.empty()) {
    path = "\\\\" + reference.host + "\\" + reference.name_space + ":";
    std::ranges::replace(path, '/', '\\');
  }
  path += reference.class_name;
  if (reference.keys.empty()) return path + "=@";
  char before = '.';
  for (const auto& [name, value] : reference.keys) {
    path += before + name + "=\"" + wmi_escape(value) + "\"";
    before = ',';
  }
  return path;
}

std::string wmi_escape(std::string_view text) {
  std::string escaped;
  for (const char c : text) {
    if (c == '\\' || c == '"' || c == '\'') escaped += '\\';
    escaped += c;
  }
  return escaped;
}

std::string associators_query(const Reference& of, std::string_view association,
                              std::string_view result) {
  std::string query = "ASSOCIATORS OF {" + of.class_name;
  char before = '.';
  for (const auto& [name, value] : of.keys) {
    query += before + name + "='" + wmi_escape(value) + "'";
    before = ',';
  }
  query += '}';
  if (!association.empty() || !result.empty()) query += " WHERE";
  if (!association.empty()) query += " AssocClass=" + std::string(association);
  if (!result.empty()) query += " ResultClass=" + std::string(result);
  return query;
}

}  // namespace farside::wsman
