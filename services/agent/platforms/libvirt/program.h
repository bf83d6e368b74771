// Runs a program to its end, for the few things that only a program does.
#pragma once

#include <chrono>
#include <string>
#include <vector>

#include "common/base/result.h"

namespace farside::agent::libvirt {

struct Outcome {
  int exit_code = -1;  // -1: killed by a signal.
  std::string output;  // Standard output and error, the first 64 KiB.
};

// Searched in PATH; killed when `deadline` has passed.  Errors: kNotFound, kTimeout, kIo.
Result<Outcome> run_program(std::vector<std::string> words, std::chrono::milliseconds deadline);

}  // namespace farside::agent::libvirt
