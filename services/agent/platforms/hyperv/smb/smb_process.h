// A running farside-smb and the socket to it.
//
// Owns: the process, which is ended and collected with this object, and our end of the socket.
// Thread: one at a time.  Every wait has a deadline.
#pragma once

#include <sys/types.h>

#include <memory>
#include <optional>
#include <string>

#include "services/agent/platforms/hyperv/smb/protocol.h"

namespace farside::agent::smb {

class SmbProcess final {
 public:
  // `program`: path of farside-smb; empty: next to this program, or where the package puts it.
  // Errors: kNotFound (no program), kIo.
  static Result<std::unique_ptr<SmbProcess>> start(const std::string& program);
  ~SmbProcess();
  SmbProcess(const SmbProcess&) = delete;
  SmbProcess& operator=(const SmbProcess&) = delete;

  // Queues a frame; it leaves in pump().
  void send(std::string frame);
  std::size_t queued_bytes() const { return out_.size() - sent_; }

  // Sends what is queued and takes in what has come, waiting up to `timeout_ms` for either.
  // True: there was progress.  Errors: kUnavailable (the process is gone).
  Result<bool> pump(int timeout_ms);

  // The next reply that is complete; its views are valid until the next pump().
  // Errors: kCorrupt.
  Result<std::optional<Numbered<Reply>>> next();

  pid_t pid() const { return pid_; }

 private:
  SmbProcess(pid_t pid, int socket) : pid_(pid), socket_(socket) {}

  pid_t pid_;
  int socket_;
  std::string out_;
  std::size_t sent_ = 0;  // Of out_.
  std::string in_;
  std::size_t used_ = 0;  // Of in_.
  std::size_t have_ = 0;  // Of in_: the rest is room.
};

}  // namespace farside::agent::smb
