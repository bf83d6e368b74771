// One request to whoever lets us in, over a connection of its own.
//
// Thread: main, before the reactor runs.
#pragma once

#include <optional>
#include <string>

#include "common/base/clock.h"
#include "common/base/random.h"
#include "common/base/result.h"
#include "common/bus/curve_keys.h"
#include "common/schema/envelope.plain.h"

namespace farside::shell {

struct IssuerCall {
  bus::CurveKeys keys;  // What we come with.
  msg::Peer issuer;
  std::string from;  // Our principal.
  msg::Message body;
};

// Repeats itself every second; nullopt: no answer before `deadline` has passed.
// Errors: kInvalidArgument (a key or an address is none).
Result<std::optional<msg::Message>> ask_issuer(const IssuerCall& call,
                                               std::chrono::seconds deadline, const Clock& clock,
                                               Random& random);

}  // namespace farside::shell
