// Runs programs, for the few things that only a program does.
#pragma once

#include <sys/types.h>

#include <chrono>
#include <string>
#include <vector>

#include "common/base/result.h"

namespace farside::agent::libvirt {

struct Outcome {
  int exit_code = -1;  // -1: killed by a signal.
  std::string output;  // Standard output and error, the first 64 KiB.
};

struct Spawned {
  pid_t pid = 0;
  int output_fd = -1;  // Of its standard output and error; never blocks.
};

// Searched in PATH.  The caller waits for it, and closes `output_fd`.  Errors: kNotFound, kIo.
Result<Spawned> spawn_program(std::vector<std::string> words);

// Searched in PATH; killed when `deadline` has passed.  Errors: kNotFound, kTimeout, kIo.
Result<Outcome> run_program(std::vector<std::string> words, std::chrono::milliseconds deadline);

}  // namespace farside::agent::libvirt
