// The one connection of this agent to libvirt, for as long as the agent lives: whatever becomes of
// the daemon, and whenever it comes back.
//
// Owns: the connection, and a thread that opens it again when it has died.  Thread: any.
// Invariants
//   * No call to a daemon takes longer than the call deadline: one that does not answer pings any
//     more loses its connection, which fails the calls that wait.
//   * Nobody waits for a connection: while there is none, use() says so at once.
//   * Handles belong to the connection they came from.  Whoever needs a domain again asks for it
//     again.
#pragma once

#include <chrono>
#include <condition_variable>
#include <deque>
#include <future>
#include <memory>
#include <mutex>
#include <stop_token>
#include <string>
#include <thread>
#include <vector>

#include "services/agent/platforms/libvirt/connection.h"

namespace farside::agent::libvirt {

class Session {
 public:
  // Succeeds although the daemon is away; waits for it for a moment only.  Errors: of a driver
  // inside this process (see open_connection), which will not come by waiting.
  static Result<std::unique_ptr<Session>> open(ConnectionTarget target, std::chrono::seconds call);
  ~Session();
  Session(const Session&) = delete;
  Session& operator=(const Session&) = delete;

  // Valid for some minutes, even if the connection dies.  Errors: kUnavailable (names the URI).
  Result<virConnectPtr> use();

  // The same; null while there is none, which each call of libvirt refuses with kUnavailable.
  virConnectPtr get();

  // Errors: kNotFound (libvirt says that there is no such VM), kUnavailable, kPlatform.
  Result<DomainHandle> find(const std::string& vm_id);

  // libvirt's own networks, as they were when it was first reached.  For callers that have seen a
  // connection.
  const std::vector<std::string>& networks() const { return networks_; }

  const std::string& uri() const { return uri_; }

 private:
  struct Past {
    ConnectionHandle connection;
    std::chrono::steady_clock::time_point until;
  };
  Session(ConnectionTarget target, std::chrono::seconds call);
  void adopt(ConnectionHandle connection);
  void learn_networks(virConnectPtr connection);
  void keep(const std::stop_token& stop);
  void look();  // Takes what was opened meanwhile; begins to open what has died.

  const ConnectionTarget target_;
  const std::chrono::seconds call_;
  const std::string uri_;

  std::mutex mutex_;
  ConnectionHandle connection_;  // Null: away.
  std::deque<Past> past_;        // Calls may be under way on them.
  std::string why_away_ = "not reached yet";

  // Written once, before there is a first connection.
  bool has_networks_ = false;
  std::vector<std::string> networks_;

  // Of the keeper alone.
  std::future<Result<ConnectionHandle>> opening_;
  std::chrono::steady_clock::time_point again_{};
  std::chrono::milliseconds pause_{};

  std::condition_variable_any woken_;
  std::jthread keeper_;  // Last: it uses everything above.
};

}  // namespace farside::agent::libvirt
