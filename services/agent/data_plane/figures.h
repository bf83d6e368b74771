// What the target's data port counts.
#pragma once

#include <cstdint>

namespace farside::data {

struct ReceiverFigures {
  std::uint64_t sessions = 0;        // Now.
  std::uint64_t batches = 0;         // Since the start, as the following.
  std::uint64_t sealed_batches = 0;  // Of them, beside CURVE.
  std::uint64_t payload_bytes = 0;
  std::uint64_t refused = 0;      // Sessions ended with an error.
  std::uint64_t strangers = 0;    // Handshakes of unknown keys or sessions.
  std::uint64_t turned_away = 0;  // Connections, for want of room or of a proof in time.
};

}  // namespace farside::data
