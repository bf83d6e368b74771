// A volume that loses its power: mounted for as long as the object lives, by the program cut-disk.
//
// Owns: the program and its mount.  Thread: one at a time.
#pragma once

#include <sys/types.h>

#include <cstdint>
#include <memory>
#include <string>

#include "common/base/result.h"
#include "tests/support/temp_folder.h"

namespace farside::test {

// Why there can be none here; empty: there can.
std::string no_cut_disk();

class CutDisk final {
 public:
  // Errors: kUnavailable.
  static Result<std::unique_ptr<CutDisk>> mount();
  ~CutDisk();
  CutDisk(const CutDisk&) = delete;
  CutDisk& operator=(const CutDisk&) = delete;

  const std::string& path() const { return mountpoint_; }

  // See Volume.  Whoever had files open must be gone before cut().
  void power_off_after(std::uint64_t operations);
  bool is_off();
  void go_on();
  void cut(bool is_torn, std::uint64_t seed);
  void lie_about(const std::string& what);

 private:
  CutDisk() = default;
  std::string ask(const std::string& order);
  std::string line();

  TempFolder folder_;
  std::string mountpoint_ = folder_ / "volume";
  pid_t pid_ = -1;
  int orders_ = -1;
  int answers_ = -1;
};

}  // namespace farside::test
