// What a bus implementation provides so that the contract of reactor::Bus can be tested on it.
#pragma once

#include <cstdint>
#include <memory>
#include <string>

#include "common/reactor/bus.h"

namespace farside::reactor {

// A small network.  Identities are named "a", "b", …; the first mention of a name makes its key.
class BusWorld {
 public:
  virtual ~BusWorld() = default;

  // A bus speaking as `name`.  Opened again after the earlier one was destroyed, it has the same
  // key, and the same endpoint if it listens: the process was restarted.
  virtual std::unique_ptr<Bus> open(const std::string& name, bool listens) = 0;

  // How others are told of `name`; has an endpoint once it was opened listening.
  virtual msg::Peer peer(const std::string& name) = 0;

  // Lets a little time pass between two polls; nothing where time passes by itself.
  virtual void pass() = 0;

  virtual int frames_queued_max() = 0;                       // Per peer and direction.
  virtual std::uint64_t refused_keys(const Bus& bus) = 0;    // Connections with unknown keys.
  virtual std::uint64_t refused_frames(const Bus& bus) = 0;  // Frames of revoked peers.
  virtual std::uint64_t dropped(const Bus& bus) = 0;
};

struct BusWorldMaker {
  const char* name;
  std::unique_ptr<BusWorld> (*make)();
};

}  // namespace farside::reactor
