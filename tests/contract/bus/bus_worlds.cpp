#include "tests/contract/bus/bus_worlds.h"

#include <gtest/gtest.h>

#include <map>

#include "common/base/assert.h"
#include "common/base/clock.h"
#include "common/bus/zmq_bus.h"
#include "tests/sim/sim_net.h"

namespace farside::reactor {
namespace {

class ZmqWorld final : public BusWorld {
 public:
  std::unique_ptr<Bus> open(const std::string& name, bool listens) override {
    const std::string known = peer(name).endpoint;
    auto bus = bus::ZmqBus::open({.keys = keys_[name],
                                  .listen = !listens        ? ""
                                            : known.empty() ? "tcp://127.0.0.1:0"
                                                            : known,
                                  .ping_every_ms = 100,
                                  .silent_after_ms = 1'000,
                                  .redial_first_ms = 500,
                                  .redial_max_ms = 2'000,
                                  .frames_queued_max = frames_queued_max()},
                                 clock_);
    if (!bus) ADD_FAILURE() << to_text(bus.error());
    FARSIDE_ASSERT(bus.has_value());
    if (listens) endpoints_[name] = (*bus)->endpoint();
    return std::move(*bus);
  }

  msg::Peer peer(const std::string& name) override {
    if (!keys_.contains(name)) keys_[name] = bus::generate_keys().value();
    return {.principal = name,
            .role = name == "server" ? msg::Role::vault : msg::Role::provider,
            .public_key = keys_[name].public_key,
            .endpoint = endpoints_[name],
            .revoked = false,
            .site = ""};
  }

  void pass() override {}
  int frames_queued_max() override { return 200; }
  std::uint64_t refused_keys(const Bus& bus) override { return stats(bus).refused_keys; }
  std::uint64_t refused_frames(const Bus& bus) override { return stats(bus).refused_frames; }
  std::uint64_t dropped(const Bus& bus) override { return stats(bus).dropped; }

 private:
  static bus::ZmqBusStats stats(const Bus& bus) {
    return dynamic_cast<const bus::ZmqBus&>(bus).stats();
  }

  SystemClock clock_;
  std::map<std::string, bus::CurveKeys> keys_;
  std::map<std::string, std::string> endpoints_;
};

// The network the simulator runs all cores on, without its faults.
class SimWorld final : public BusWorld {
 public:
  SimWorld() {
    net_.queue_max = static_cast<std::size_t>(frames_queued_max());
    net_.silent_after = std::chrono::milliseconds{1'000};
  }

  std::unique_ptr<Bus> open(const std::string& name, bool listens) override {
    if (listens) endpoints_[name] = "sim://" + name;
    return std::make_unique<sim::SimBus>(net_, key(name));
  }
  msg::Peer peer(const std::string& name) override {
    return {.principal = name,
            .role = name == "server" ? msg::Role::vault : msg::Role::provider,
            .public_key = key(name),
            .endpoint = endpoints_[name],
            .revoked = false,
            .site = ""};
  }

  void pass() override { clock_.advance(std::chrono::milliseconds{10}); }
  int frames_queued_max() override { return 200; }
  std::uint64_t refused_keys(const Bus& bus) override { return sim_bus(bus).refused_keys; }
  std::uint64_t refused_frames(const Bus& bus) override { return sim_bus(bus).refused_frames; }
  std::uint64_t dropped(const Bus& bus) override { return sim_bus(bus).dropped; }

 private:
  static std::string key(const std::string& name) { return "key of " + name; }
  static const sim::SimBus& sim_bus(const Bus& bus) {
    return dynamic_cast<const sim::SimBus&>(bus);
  }

  sim::SimClock clock_;
  SeededRandom random_{1};
  sim::SimNet net_{clock_, random_};
  std::map<std::string, std::string> endpoints_;
};

}  // namespace

std::vector<BusWorldMaker> bus_worlds() {
  return {{.name = "Zmq",
           .make = []() -> std::unique_ptr<BusWorld> { return std::make_unique<ZmqWorld>(); }},
          {.name = "Sim",
           .make = []() -> std::unique_ptr<BusWorld> { return std::make_unique<SimWorld>(); }}};
}

}  // namespace farside::reactor
