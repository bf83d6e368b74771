// The queue and the thread of one session at the target.
//
// Owns: both.  Thread: put(), heard(), stop() from any; the destructor joins.
// Bound: `window_bytes` of blocks, and what requests of 1 MiB take.
#pragma once

#include <atomic>
#include <chrono>
#include <condition_variable>
#include <cstdint>
#include <deque>
#include <functional>
#include <mutex>
#include <optional>
#include <string>
#include <thread>

#include "common/bus/listener.h"
#include "services/agent/data_plane/session.h"

namespace farside::data {

class SessionWorker final {
 public:
  struct Incoming {
    msg::DataFrame frame;
    std::optional<bus::Part> sealed;  // Part 1 of a sealed frame, instead of `frame`.
    std::optional<bus::Part> payload;
    bus::Charge charge;
    std::uint64_t cost = 1024;
  };
  struct Options {
    bus::LinkId link = 0;
    std::uint64_t number = 0;
    std::string source_key;
    Session::World world;
    std::chrono::seconds idle{60};
    std::function<void(const Error&)> on_refused;  // The worker's thread.
    std::function<void()> on_ended;                // The worker's thread, at its very end.
  };
  explicit SessionWorker(Options options);
  ~SessionWorker();
  SessionWorker(const SessionWorker&) = delete;
  SessionWorker& operator=(const SessionWorker&) = delete;

  // False: it is more than the source had credit for; the session ends.
  bool put(Incoming incoming);
  void heard();
  // Nothing more is handled; does not wait.
  void stop();

  bool has_ended() const { return ended_; }
  const Options& options() const { return options_; }
  std::uint64_t sealed_session() const { return options_.world.sealed_session; }
  std::uint64_t window_bytes() const { return options_.world.window_bytes; }

 private:
  std::optional<Incoming> next();
  void run();

  const Options options_;
  std::mutex mutex_;  // Guards the next five.
  std::condition_variable wake_;
  std::deque<Incoming> queue_;
  std::uint64_t queued_bytes_ = 0;
  std::chrono::steady_clock::time_point heard_;  // Pings count: a source may read for minutes.
  bool stop_ = false;
  std::atomic<bool> ended_ = false;
  std::thread thread_;
};

}  // namespace farside::data
