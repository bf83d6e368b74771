// One connection of a listener: its socket, what was read of the next unit, what is to be written.
//
// Owns: the socket.  Thread: the listener's.
#pragma once

#include <chrono>
#include <cstdint>
#include <deque>
#include <memory>
#include <optional>
#include <string>

#include "common/base/descriptor.h"
#include "common/bus/budget.h"
#include "common/bus/dialogue.h"

namespace farside::bus {

using Moment = std::chrono::steady_clock::time_point;

struct Link {
  struct Out {
    std::string bytes;
    Charge charge;
  };

  std::uint64_t id = 0;
  Descriptor fd;
  std::string address;
  std::unique_ptr<Dialogue> dialogue;
  Moment since{};
  bool is_known = false;
  std::shared_ptr<Budget> budget;  // Once it is known.

  Bytes unit;  // What the dialogue asked for; empty between two of them.
  std::size_t have = 0;
  std::string stash;             // Read, but not yet given to the dialogue.
  Charge charge;                 // For the message under way.
  std::optional<Moment> paused;  // Nothing is read while its budget is used up.

  std::deque<Out> out;
  std::size_t written = 0;        // Of the first.
  std::optional<Moment> stalled;  // Nothing could be written since.
  std::uint32_t watched = 0;      // Events of epoll.
};

}  // namespace farside::bus
