// A file as a row of bytes, wherever it lies: on this machine, or on a share of a Hyper-V host.
//
// Thread: one at a time.
#pragma once

#include <cstdint>
#include <span>
#include <string_view>

#include "common/base/result.h"

namespace farside::agent::hyperv {

class ByteFile {
 public:
  virtual ~ByteFile() = default;

  // Errors of all of these: kNotFound, kNoSpace, kForbidden, kUnavailable (the share is away), kIo.
  virtual Result<std::uint64_t> size() = 0;
  virtual Status read_at(std::uint64_t offset, std::span<char> to) = 0;  // kCorrupt: ends early.
  virtual Status write_at(std::uint64_t offset, std::string_view bytes) = 0;  // Grows the file.
  virtual Status truncate(std::uint64_t bytes) = 0;  // Longer: the rest reads as zeros.
  virtual Status flush() = 0;                        // What was written survives loss of power.
};

}  // namespace farside::agent::hyperv
