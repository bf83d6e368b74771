// The parts of a request target: percent-encoding and query parameters.
#pragma once

#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "common/base/result.h"

namespace farside::front_door {

// "pol%201" -> "pol 1".  Errors: kInvalidArgument (a broken escape, a control character).
Result<std::string> percent_decoded(std::string_view text);

// Everything but letters, digits and "-._~" as %XX: fit for one segment or one value.
std::string percent_encoded(std::string_view text);

bool equal_ignoring_case(std::string_view a, std::string_view b);  // ASCII.

// The decoded parameters of a query; names are matched without regard to case.
class Query final {
 public:
  // Errors: kInvalidArgument.
  static Result<Query> parse(std::string_view query);
  std::optional<std::string> find(std::string_view name) const;
  std::string text(std::string_view name) const { return find(name).value_or(""); }

 private:
  std::vector<std::pair<std::string, std::string>> values_;
};

}  // namespace farside::front_door
