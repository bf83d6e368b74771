// Whether a process would let us in: one CURVE handshake on a connection of its own.
//
// The bus dials again and again without saying why nobody answers; this says it.
// Thread: any; blocks for up to `patience`.
#pragma once

#include <chrono>
#include <string>

#include "common/bus/curve_keys.h"

namespace farside::shell {

enum class Knock {
  kAway,      // Nothing listens there.
  kSilent,    // Something listens, and says nothing: it hangs, or speaks another language.
  kStranger,  // What listens has another key than we were told.
  kRefused,   // It is who we think, and does not let our key in.
  kLetIn,
};

Knock knock(const bus::CurveKeys& own, const std::string& endpoint, const std::string& server_key,
            std::chrono::milliseconds patience = std::chrono::seconds{2});

}  // namespace farside::shell
