// A control-plane network that loses, repeats, delays and reorders frames, cuts links, and admits
// only who was introduced: SimBus is to it what ZmqBus is to TCP, and passes the same contract.
//
// Thread: one.
#pragma once

#include <cstdint>
#include <map>
#include <set>
#include <string>
#include <vector>

#include "common/base/random.h"
#include "common/reactor/bus.h"
#include "tests/sim/sim_clock.h"

namespace farside::sim {

struct NetFaults {
  double loss = 0;
  double repeat = 0;
  Micros delay_max{0};
};

class SimBus;

class SimNet final {
 public:
  SimNet(const SimClock& clock, Random& random) : clock_(clock), random_(random) {}

  NetFaults faults;
  std::size_t queue_max = 1'000;                   // Per receiver; what comes on top is dropped.
  Micros silent_after = std::chrono::seconds{10};  // Who does not poll for so long hangs.

  void cut(const std::string& a, const std::string& b) { cuts_.insert(ordered(a, b)); }
  void mend_all() { cuts_.clear(); }
  bool is_cut(const std::string& a, const std::string& b) const {
    return cuts_.contains(ordered(a, b));
  }
  bool is_up(const std::string& key) const { return buses_.contains(key); }
  const SimClock& clock() const { return clock_; }

 private:
  friend class SimBus;
  struct Frame {
    std::string from_key;
    std::string bytes;
    Micros at{};
  };
  static std::pair<std::string, std::string> ordered(const std::string& a, const std::string& b) {
    return a < b ? std::pair{a, b} : std::pair{b, a};
  }

  const SimClock& clock_;
  Random& random_;
  std::set<std::pair<std::string, std::string>> cuts_;  // By key.
  std::map<std::string, SimBus*> buses_;                // By key.
  std::map<std::string, std::vector<Frame>> inboxes_;   // By key of the receiver.
};

class SimBus final : public reactor::Bus {
 public:
  // `key` stands for the CURVE key pair.
  SimBus(SimNet& net, std::string key);
  ~SimBus() override;

  Status set_peer(const msg::Peer& peer) override;
  void remove_peer(const std::string& principal) override;
  void send(const std::string& principal, std::string frame) override;
  Status poll(int timeout_ms, int frames_max, const Handlers& handlers) override;
  void wake() override {}

  // The process died in the middle of a turn: nothing it says from here on leaves it.
  void mute() { muted_ = true; }

  std::uint64_t refused_keys = 0;
  std::uint64_t refused_frames = 0;
  std::uint64_t dropped = 0;

 private:
  bool admits(const std::string& key) const;
  bool reaches(const msg::Peer& peer) const;
  void shake_hands(const msg::Peer& peer) const;
  void tell_changes(const Handlers& handlers);

  SimNet& net_;
  std::string key_;
  bool muted_ = false;
  Micros polled_;                                     // When it last showed to be alive.
  std::map<std::string, msg::Peer> peers_;            // By principal.
  std::map<std::string, reactor::PeerId> connected_;  // As its handlers were told.
};

}  // namespace farside::sim
