#include "cli/json.h"

#include "common/base/log_value.h"

namespace farside::cli {

const Json& at(const Json& object, std::string_view path) {
  static const Json kNothing;
  const Json* here = &object;
  while (!path.empty()) {
    const std::size_t dot = std::min(path.find('.'), path.size());
    if (!here->is_object()) return kNothing;
    const auto found = here->find(std::string(path.substr(0, dot)));
    if (found == here->end()) return kNothing;
    here = &*found;
    path.remove_prefix(std::min(dot + 1, path.size()));
  }
  return *here;
}

std::string text(const Json& object, std::string_view path) {
  const Json& value = at(object, path);
  if (value.is_string()) return log::printable(value.get<std::string>());
  return value.is_primitive() && !value.is_null() ? value.dump() : std::string();
}

double number(const Json& object, std::string_view path) {
  const Json& value = at(object, path);
  return value.is_number() ? value.get<double>() : 0;
}

bool flag(const Json& object, std::string_view path) {
  const Json& value = at(object, path);
  return value.is_boolean() && value.get<bool>();
}

const Json& items(const Json& object, std::string_view path) {
  static const Json kNone = Json::array();
  const Json& value = at(object, path);
  return value.is_array() ? value : kNone;
}

}  // namespace farside::cli
