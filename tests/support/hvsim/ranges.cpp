#include "tests/support/hvsim/ranges.h"

#include <algorithm>

namespace farside::hvsim {

Ranges unite(const Ranges& some, const Ranges& others) {
  Ranges all = some;
  all.insert(all.end(), others.begin(), others.end());
  std::ranges::sort(all, {}, &Range::begin);
  Ranges united;
  for (const Range& one : all) {
    if (one.begin >= one.end) continue;
    if (!united.empty() && one.begin <= united.back().end) {
      united.back().end = std::max(united.back().end, one.end);
    } else {
      united.push_back(one);
    }
  }
  return united;
}

Ranges clip(const Ranges& ranges, Range to) {
  Ranges clipped;
  for (const Range& one : ranges) {
    const Range part{std::max(one.begin, to.begin), std::min(one.end, to.end)};
    if (part.begin < part.end) clipped.push_back(part);
  }
  return clipped;
}

nlohmann::json to_json(const Ranges& ranges) {
  nlohmann::json json = nlohmann::json::array();
  for (const Range& one : ranges) json.push_back(nlohmann::json::array({one.begin, one.end}));
  return json;
}

Ranges ranges_from(const nlohmann::json& json) {
  Ranges ranges;
  for (const auto& one : json) {
    ranges.push_back({one.at(0).get<std::uint64_t>(), one.at(1).get<std::uint64_t>()});
  }
  return ranges;
}

}  // namespace farside::hvsim
