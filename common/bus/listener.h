// A TCP port that faces strangers.  What they can take of this process is bounded before a byte of
// theirs is looked at: connections that have not proven who they are, all together and of each
// address, the time they have for that, and what each of them may make us hold.  Peers that have
// are bounded by their budget: while that is used up nothing more is read of them.
//
// Owns: the port, its connections, one thread.
// Thread: any; handlers run on the listener's own thread and must not wait.
#pragma once

#include <chrono>
#include <cstdint>
#include <functional>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "common/base/result.h"
#include "common/bus/budget.h"
#include "common/bus/dialogue.h"

namespace farside::bus {

using LinkId = std::uint64_t;  // Of one connection; never used twice, never 0.

struct ListenerLimits {
  std::size_t strangers_max = 512;
  std::size_t strangers_per_address_max = 16;  // IPv6: of each /64.
  std::chrono::milliseconds proof_within{10'000};
  std::size_t links_per_key_max = 8;               // The oldest gives way.
  std::uint64_t unsent_bytes_max = kPeerBytesMax;  // Of one connection; then it ends.
  std::chrono::milliseconds unread_max{60'000};    // Its budget used up, or it reads nothing.
};

struct ListenerStats {
  std::uint64_t strangers = 0;  // Connections now that have not proven who they are.
  std::uint64_t known = 0;      // Connections now that have.
  std::uint64_t admitted = 0;   // Since the start, as the following.
  std::uint64_t refused_keys = 0;
  std::uint64_t turned_away = 0;  // Connections ended for want of room or of a proof in time.
  std::uint64_t broken = 0;       // Connections ended for what they sent, or did not read.
};

struct Message {
  LinkId link = 0;
  std::string key;
  std::vector<Part> parts;
  Charge charge;  // Held for as long as the message is.
};

class Listener final {
 public:
  struct Options {
    std::string what;      // "the data port", for logs and the watchdog.
    std::string endpoint;  // "tcp://0.0.0.0:8081", "tcp://[::]:0", "tcp://*:*"; port 0 or *: any.
    ListenerLimits limits;
    std::shared_ptr<Budgets> budgets;
    std::function<std::unique_ptr<Dialogue>()> begin;  // Of a new connection.
    std::function<void(Message message)> on_message;
    std::function<void(LinkId link)> on_closed;  // Of one that was known; may be empty.
  };
  // Errors: kUnavailable (the port is taken), kInvalidArgument (endpoint), kInternal.
  static Result<std::unique_ptr<Listener>> start(Options options);
  ~Listener();
  Listener(const Listener&) = delete;
  Listener& operator=(const Listener&) = delete;

  const std::string& endpoint() const;  // With the port it got.

  enum class Sent : std::uint8_t { kYes, kFull, kAway };
  Sent send(LinkId link, std::vector<std::string> parts);

  void close(LinkId link);
  void close_all_of(const std::string& key);

  std::string address_of(LinkId link) const;  // "10.0.0.7:51234"; empty: it is gone.
  ListenerStats stats() const;
  std::string problem() const;  // Why nobody is served any more; empty: all is well.

 private:
  struct Impl;
  explicit Listener(std::unique_ptr<Impl> impl);
  std::unique_ptr<Impl> impl_;
};

}  // namespace farside::bus
