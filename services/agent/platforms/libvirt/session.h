// This agent's way to libvirt, for as long as the agent lives: whatever becomes of the daemon, and
// whenever it comes back.
//
// Owns: the connections, one per thread (see ClientSocket), and two threads: one asks the daemon
// every second whether it is there, the other opens a connection again when it is not, and ends all
// calls when the question stays unanswered.  Thread: any.
// Invariants
//   * A daemon that does not answer within the deadline of a call fails all calls that wait for it.
//   * While there is none, use() says so at once.
//   * Handles belong to the connection they came from.  Whoever needs a domain again asks for it
//     again.
#pragma once

#include <atomic>
#include <chrono>
#include <condition_variable>
#include <deque>
#include <future>
#include <map>
#include <memory>
#include <mutex>
#include <optional>
#include <stop_token>
#include <string>
#include <thread>

#include "services/agent/platforms/libvirt/connection.h"
#include "services/agent/platforms/libvirt/qemu_user.h"

namespace farside::agent::libvirt {

class Session {
 public:
  // Succeeds although the daemon is away; waits for it for a moment only.  Errors: of a driver
  // inside this process (see open_connection), which will not come by waiting.
  static Result<std::unique_ptr<Session>> open(ConnectionTarget target, std::chrono::seconds call);
  ~Session();
  Session(const Session&) = delete;
  Session& operator=(const Session&) = delete;

  // For this thread, until it asks again.  Errors: kUnavailable (names the URI).
  Result<virConnectPtr> use();

  // The same; null while there is none, which each call of libvirt refuses with kUnavailable.
  virConnectPtr get() { return use().value_or(nullptr); }

  // Whom QEMU runs as (see qemu_user_of()); asked once for as long as the daemon is there.
  Result<std::optional<QemuUser>> qemu_user();

  // Errors: kNotFound (libvirt says that there is no such VM), kUnavailable, kPlatform.
  Result<DomainHandle> find(const std::string& vm_id);

 private:
  using Instant = std::chrono::steady_clock::time_point;
  struct OfThread {
    Opened opened;
    Instant used{};
  };
  Session(ConnectionTarget target, std::chrono::seconds call);
  std::unexpected<Error> away(const std::string& why) const;
  Result<Opened> open_for_this_thread();
  void keep(const std::stop_token& stop);
  void look();  // Takes what was opened meanwhile; begins to open what has died.
  void lose(const std::string& why);
  void reap(Instant now);
  void probe(const std::stop_token& stop);

  const ConnectionTarget target_;
  const std::chrono::seconds call_;
  const std::string uri_;
  ConnectionHandle embedded_;  // The driver inside this process: one for all threads.

  std::mutex mutex_;
  bool is_up_ = false;
  std::string why_away_ = "not reached yet";
  std::optional<std::optional<QemuUser>> qemu_user_;  // Empty: to be asked.
  std::map<std::thread::id, OfThread> of_threads_;
  std::deque<OfThread> past_;  // Threads may have calls under way on them.
  Opened probed_;              // Null while it is down; used by the prober, opened by the keeper.
  Instant asked_{};            // When the question was put that has not been answered; zero: none.

  // Of the keeper alone.
  std::future<Result<Opened>> opening_;
  Instant again_{};
  std::chrono::milliseconds pause_{};

  std::condition_variable_any woken_;
  std::jthread prober_;
  std::jthread keeper_;  // Last: it ends what the prober waits for.
};

}  // namespace farside::agent::libvirt
