// What was written on one disk between marks, as resilient change tracking tells it: a mark is an
// identifier for an instant, and lives in a checkpoint or in a reference point.
//
// Invariant: what was written before the first mark is of no interest, and not kept.
#pragma once

#include <string>
#include <vector>

#include "common/base/result.h"
#include "tests/support/hvsim/ranges.h"

namespace farside::hvsim {

class ChangeTracking final {
 public:
  void wrote(const Ranges& ranges);  // Since the newest mark.
  void mark(const std::string& id);  // Now.
  void drop(const std::string& id);  // Nobody will ask since it any more.
  void lose() { segments_.clear(); }
  bool has(const std::string& id) const;

  // All written from one mark to another; `until` may be empty: to now.
  // Errors: kTrackingLost (no such mark).
  Result<Ranges> between(const std::string& since, const std::string& until) const;

  nlohmann::json to_json() const;
  static ChangeTracking from_json(const nlohmann::json& json);

 private:
  struct Segment {
    std::string since;
    Ranges ranges;
  };
  std::vector<Segment> segments_;  // The last one is still being written.
};

}  // namespace farside::hvsim
