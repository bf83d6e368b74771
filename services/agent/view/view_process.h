// The process that serves a recovery point over NBD on a Unix socket: nbdkit with our plug-in.
//
// It outlives the agent, so that restarting the agent never touches a VM that runs on a view; after
// a restart the agent finds it again by its pid file.  (Where a service manager ends all processes
// of a unit, tell it to end only the main one.)
//
// Owns: nothing while it is only an object; start() and stop() act on the process.  Thread: any,
// one at a time per view.
#pragma once

#include <cstdint>
#include <optional>
#include <string>

#include "common/base/result.h"

namespace farside::replica {

struct ViewFiles {
  std::string folder;  // Of the replica.
  std::string view;    // Name of its pin; <folder>/views/<view>/ has the frozen index.
  std::uint64_t seq = 0;
  std::string socket;    // Path of the Unix socket; at most 107 bytes.
  std::string plugin{};  // Path of farside_view.so.
};

class ViewProcess final {
 public:
  explicit ViewProcess(ViewFiles files) : files_(std::move(files)) {}

  // Returns once clients can connect; does nothing if it is alive already.  Errors: kNotFound (no
  // nbdkit, no plug-in), kInvalidArgument, kTimeout, kIo; the text has nbdkit's own words.
  Status start();

  // It runs, and it is ours: the pid file may name a process that has nothing to do with it.
  bool is_alive() const { return pid().has_value(); }
  std::optional<int> pid() const;

  std::string last_error() const;  // That it wrote into its log; empty: none.

  // Repeating it is fine.  Errors: kTimeout (it does not die).
  Status stop();

  const ViewFiles& files() const { return files_; }

 private:
  std::string path(const char* name) const;
  Status await(int alive_fd) const;

  ViewFiles files_;
};

}  // namespace farside::replica
