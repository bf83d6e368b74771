// Reading what the vault says without trusting its shape: anything absent reads as nothing.
#pragma once

#include <cstdint>
#include <nlohmann/json.hpp>
#include <string>
#include <string_view>
#include <vector>

namespace farside::cli {

using Json = nlohmann::ordered_json;

// The member at "properties.farside.phase"; null if there is none.
const Json& at(const Json& object, std::string_view path);

// As a terminal may show it: controls are escaped, ends of lines stay.  Numbers as their digits.
std::string text(const Json& object, std::string_view path);
double number(const Json& object, std::string_view path);  // 0 if it is none.
bool flag(const Json& object, std::string_view path);
const Json& items(const Json& object, std::string_view path);  // An empty array if it is none.

}  // namespace farside::cli
