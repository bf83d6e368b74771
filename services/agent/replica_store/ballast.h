// Room on a volume that nobody uses: what is given up when the volume is full, so that points can
// go and give back theirs.  A store that cannot write can free nothing.
//
// Owns: the file; a copy is the same one.  Thread: any.
#pragma once

#include <cstdint>
#include <functional>
#include <string>

#include "common/base/file.h"

namespace farside::replica {

class Ballast final {
 public:
  using FreeBytes = std::function<std::uint64_t(const std::string&)>;

  // `reserve`: what must stay free beside it.
  Ballast(std::string path, std::uint64_t bytes, std::uint64_t reserve, FreeBytes free_bytes)
      : path_(std::move(path)),
        bytes_(bytes),
        reserve_(reserve),
        free_bytes_(std::move(free_bytes)) {}

  // Returns whether there was any to give up.
  bool give_up() const;
  void remove() const;
  // Takes the room again once the volume has plenty.  Returns whether it is there.
  bool restore() const;

 private:
  std::string path_;
  std::uint64_t bytes_;
  std::uint64_t reserve_;
  FreeBytes free_bytes_;
};

}  // namespace farside::replica
