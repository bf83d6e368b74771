// One value that stands for the whole content of all disks of a VM: XXH3-128 over names, sizes and
// the hash of every block, zeros included, those beyond the end of a disk too.  It does not depend
// on how blocks were shipped or are stored, so that a source and a target can compare theirs.
//
// Use: for each disk in order of its name: begin_disk(), then add() per block.
#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

namespace farside::replica {

class Digest final {
 public:
  Digest();
  ~Digest();
  Digest(const Digest&) = delete;
  Digest& operator=(const Digest&) = delete;

  void begin_disk(std::string_view name, std::uint64_t bytes);
  void add(std::uint64_t block_hash);
  std::string finish();  // 32 hexadecimal digits.

 private:
  struct State;
  void flush();
  std::unique_ptr<State> state_;
  std::vector<std::uint64_t> pending_;
};

}  // namespace farside::replica
