#include "tests/support/hvsim/change_tracking.h"

#include <algorithm>

namespace farside::hvsim {

void ChangeTracking::wrote(const Ranges& ranges) {
  if (segments_.empty()) return;
  segments_.back().ranges = unite(segments_.back().ranges, ranges);
}

void ChangeTracking::mark(const std::string& id) {
  if (!has(id)) segments_.push_back({.since = id, .ranges = {}});
}

void ChangeTracking::drop(const std::string& id) {
  const auto at = std::ranges::find(segments_, id, &Segment::since);
  if (at == segments_.end()) return;
  if (at != segments_.begin()) {
    Segment& before = *std::prev(at);
    before.ranges = unite(before.ranges, at->ranges);
  }
  segments_.erase(at);
}

bool ChangeTracking::has(const std::string& id) const {
  return std::ranges::find(segments_, id, &Segment::since) != segments_.end();
}

Result<Ranges> ChangeTracking::between(const std::string& since, const std::string& until) const {
  if (!has(since) || (!until.empty() && !has(until))) {
    return fail(ErrorCode::kTrackingLost, "no changes are known since " + since);
  }
  Ranges all;
  auto at = std::ranges::find(segments_, since, &Segment::since);
  for (; at != segments_.end() && at->since != until; ++at) all = unite(all, at->ranges);
  return all;
}

nlohmann::json ChangeTracking::to_json() const {
  nlohmann::json json = nlohmann::json::array();
  for (const Segment& one : segments_) {
    json.push_back({{"since", one.since}, {"ranges", hvsim::to_json(one.ranges)}});
  }
  return json;
}

ChangeTracking ChangeTracking::from_json(const nlohmann::json& json) {
  ChangeTracking tracking;
  for (const auto& one : json) {
    tracking.segments_.push_back(
        {.since = one.at("since").get<std::string>(), .ranges = ranges_from(one.at("ranges"))});
  }
  return tracking;
}

}  // namespace farside::hvsim
