// "Did you mean": the known name that is nearest to one that is not.
#pragma once

#include <cstddef>
#include <string>
#include <string_view>
#include <vector>

namespace farside {

// Letters to put in, take out or replace (Levenshtein).
std::size_t edit_distance(std::string_view a, std::string_view b);

// Empty if none is near enough to be meant.
std::string nearest_of(const std::vector<std::string>& known, std::string_view word);

}  // namespace farside
