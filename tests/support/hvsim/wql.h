// The part of WQL that is needed:
//
//   SELECT * FROM Class [WHERE Property = value [AND Property = value …]]
//   ASSOCIATORS OF {Class.Key='value',…} [WHERE [AssocClass = Class] [ResultClass = Class]]
//
// Keywords in any case; texts in single or double quotes, with a backslash before a backslash or
// quote.  Everything else is refused, as a host refuses a query that is wrong.
// Source: Microsoft, "WQL (SQL for WMI)", "ASSOCIATORS OF Statement".
#pragma once

#include <string>
#include <string_view>
#include <vector>

#include "tests/support/hvsim/objects.h"

namespace farside::hvsim {

struct Query {
  std::string class_name;  // Empty: associators.
  std::vector<std::pair<std::string, std::string>> equals;
  Reference of;
  std::string association;
  std::string result;
};

// Errors: kInvalidArgument.
Result<Query> parse_wql(std::string_view text);

// Errors: kNotFound (no such class, or object to start from).
Result<std::vector<const Instance*>> run_query(Objects& objects, const Query& query);

}  // namespace farside::hvsim
