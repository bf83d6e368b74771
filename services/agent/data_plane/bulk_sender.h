// The source's side of a connection that brings bulk beside CURVE (bulk_dialogue.h).
//
// Owns: the connection, one thread that connects and writes.  Thread: one, the session's.
#pragma once

#include <atomic>
#include <chrono>
#include <condition_variable>
#include <cstdint>
#include <deque>
#include <memory>
#include <mutex>
#include <string>
#include <thread>

#include "common/base/descriptor.h"
#include "common/base/result.h"
#include "common/bus/tcp_port.h"

namespace farside::data {

class BulkSender final {
 public:
  // Does not wait for the connection.  `silent`: how long the other end may take nothing.
  // Errors: kInvalidArgument (endpoint), kInternal.
  static Result<std::unique_ptr<BulkSender>> open(const std::string& endpoint,
                                                  std::uint64_t session,
                                                  std::chrono::seconds silent);
  ~BulkSender();
  BulkSender(const BulkSender&) = delete;
  BulkSender& operator=(const BulkSender&) = delete;

  // Queues a frame; the target's window bounds what is under way.
  // Errors: kUnavailable (the connection broke), kInternal (far more than any window).
  Status send(std::string head, std::string payload);

  // Noticed also with nothing to send.
  bool is_broken() const;

 private:
  BulkSender() = default;
  void run();
  bool connect();
  bool write(const std::string& bytes);
  bool wait_to_write();

  bus::HostPort where_;
  std::string hello_;
  std::chrono::seconds silent_{0};
  Descriptor stop_;    // An event.
  Descriptor socket_;  // The thread's until it is connected; then it stays.
  std::atomic<bool> connected_ = false;
  std::atomic<bool> broken_ = false;
  std::mutex mutex_;  // Guards the next three.
  std::condition_variable wake_;
  std::deque<std::string> queue_;
  std::uint64_t queued_ = 0;
  bool stopping_ = false;
  std::thread thread_;
};

}  // namespace farside::data
