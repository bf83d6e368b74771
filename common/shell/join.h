// Registers a process with whoever issued its key, over a connection of its own.
//
// Thread: main, before the reactor runs.
#pragma once

#include <string>

#include "common/base/clock.h"
#include "common/base/random.h"
#include "common/base/result.h"
#include "common/bus/curve_keys.h"
#include "common/schema/control.plain.h"

namespace farside::shell {

struct JoinRequest {
  msg::RegistrationKey key;
  bus::CurveKeys keys;  // Our permanent ones.
  std::string name;
  std::string endpoint;  // Where we listen; empty: we only dial out.
  std::string version;
};

// Repeats itself every second until the issuer answers or `deadline` has passed, and says so in
// the log.  Errors: kTimeout (not reachable), kUnauthorized (reachable, but the key is not let
// in), or the issuer's refusal.
Result<msg::Registered> join(const JoinRequest& request, std::chrono::seconds deadline,
                             const Clock& clock, Random& random);

}  // namespace farside::shell
