// The parts of a VHDX file that nothing uses, to put new blocks into.
//
// Invariant: all places are multiples of 1 MiB; no two parts touch or overlap.
#pragma once

#include <cstdint>
#include <map>

namespace farside::agent::vhdx {

class FreeSpace final {
 public:
  struct Place {
    std::uint64_t at = 0;
    bool is_zeros = false;  // Otherwise there may be anything.
  };

  // The file is `end` bytes long; nothing is free yet.
  explicit FreeSpace(std::uint64_t end = 0) : end_(end) {}

  void give(std::uint64_t at, std::uint64_t bytes);
  // From what was given, or else beyond the end, which moves: then the file must grow to end().
  Place take(std::uint64_t bytes);
  std::uint64_t end() const { return end_; }

 private:
  std::map<std::uint64_t, std::uint64_t> parts_;  // Place -> bytes.
  std::uint64_t end_;
};

}  // namespace farside::agent::vhdx
