// Whether who registered us still lets us in: what a health check says of it.
//
// A bus dials a peer that refuses our key again and again, and looks like one whose peer is away.
// After a while of silence this knocks, and tells the two apart.
// Owns: the last answer.  Thread: any; problem() blocks for up to two seconds when it knocks.
#pragma once

#include <mutex>
#include <string>

#include "common/base/clock.h"
#include "common/bus/curve_keys.h"
#include "common/schema/types.plain.h"

namespace farside::shell {

class Reception final {
 public:
  explicit Reception(const Clock& clock) : clock_(clock) {}

  // From now on `issuer` is expected to be there.
  void expect(const msg::Peer& issuer, const bus::CurveKeys& own);
  void heard(const std::string& principal, bool is_there);

  // Empty while it is there, or away.
  std::string problem();

 private:
  const Clock& clock_;
  std::mutex mutex_;  // Guards what follows.
  msg::Peer issuer_;
  bus::CurveKeys own_;
  bool is_there_ = false;
  Micros silent_since_{0};
  Micros knocked_at_{0};
  std::string said_;
};

}  // namespace farside::shell
