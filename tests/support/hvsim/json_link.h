// JSON objects over a connected socket, one a line: how QEMU and its guest agent talk.
//
// Owns: the socket.  Thread: one at a time.
#pragma once

#include <chrono>
#include <deque>
#include <nlohmann/json.hpp>
#include <string>

#include "common/base/result.h"

namespace farside::hvsim {

using Json = nlohmann::json;

class JsonLink final {
 public:
  explicit JsonLink(int fd) : fd_(fd) {}
  ~JsonLink();
  JsonLink(const JsonLink&) = delete;
  JsonLink& operator=(const JsonLink&) = delete;

  // Errors: kUnavailable (the other side is gone).
  Status say(const Json& object);
  // Errors: kTimeout, kUnavailable, kCorrupt (no JSON).
  Result<Json> next(std::chrono::milliseconds within);

  // What a command returns; events that come before are kept for take_event().
  // Errors: kPlatform (refused, with the reason), and those of the above.
  Result<Json> ask(const std::string& command, const Json& arguments,
                   std::chrono::milliseconds within);
  // An event that arrived already, or null.  Errors: kUnavailable.
  Result<Json> take_event();
  // Waits for an event for which `is_it` holds, and forgets it; others are kept.
  template <class Is>
  Result<Json> wait_for(std::chrono::milliseconds within, Is is_it) {
    const auto deadline = std::chrono::steady_clock::now() + within;
    for (std::size_t at = 0;; ++at) {
      while (at >= events_.size()) {
        const auto left = std::chrono::duration_cast<std::chrono::milliseconds>(
            deadline - std::chrono::steady_clock::now());
        FARSIDE_ASSIGN(Json one, next(left));
        if (one.contains("event")) events_.push_back(std::move(one));
      }
      if (!is_it(events_[at])) continue;
      Json found = std::move(events_[at]);
      events_.erase(events_.begin() + static_cast<std::ptrdiff_t>(at));
      return found;
    }
  }

 private:
  int fd_;
  int last_id_ = 0;
  std::string read_;
  std::deque<Json> events_;
};

}  // namespace farside::hvsim
