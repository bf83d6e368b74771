// Programs that run for a simulated host and die with it, however it ends.
//
// The kernel ties a child's life to the thread that made it; threads of connections come and go,
// so one thread that lives as long as the host makes all children.
//
// Owns: that thread; a Child owns its process.
#pragma once

#include <sys/types.h>

#include <chrono>
#include <memory>
#include <string>
#include <vector>

#include "common/base/result.h"

namespace farside::hvsim {

class Child final {
 public:
  explicit Child(pid_t pid) : pid_(pid) {}
  ~Child();  // Kills it if it still runs.
  Child(const Child&) = delete;
  Child& operator=(const Child&) = delete;

  // Its exit code (128 and more: a signal), or nothing if it runs longer than that.
  Result<int> wait(std::chrono::milliseconds within);
  void kill();
  void end();  // Asks it to end, and kills it only if it does not.

 private:
  pid_t pid_;
};

class Spawner final {
 public:
  Spawner();
  ~Spawner();
  Spawner(const Spawner&) = delete;
  Spawner& operator=(const Spawner&) = delete;

  // `kept`: open files that it inherits under their numbers.  `log`: where its outputs go.
  // Errors: kUnavailable (no more processes).
  Result<std::unique_ptr<Child>> spawn(const std::vector<std::string>& words,
                                       const std::vector<int>& kept, const std::string& log);

 private:
  struct Impl;
  std::unique_ptr<Impl> impl_;
};

// Runs a program to its end.  Errors: kPlatform (with what it said), kTimeout.
Status run_tool(Spawner& spawner, const std::vector<std::string>& words, const std::string& log);

}  // namespace farside::hvsim
