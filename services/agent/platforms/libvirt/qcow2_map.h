// Which blocks of its disk a qcow2 image stands for, read from the tables in its file: without
// QEMU, and without any lock.  Of an image that is written to, what was flushed before counts.
//
// Owns: the open file.  Thread: one at a time.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "common/base/file.h"
#include "common/base/result.h"
#include "services/agent/platforms/libvirt/qcow2_header.h"
#include "services/agent/platforms/platform.h"

namespace farside::agent::libvirt {

class Qcow2Map {
 public:
  // Errors: those of read_qcow2_header(), kUnsupported (a form that Farside never makes), kCorrupt.
  static Result<Qcow2Map> open(const std::string& path);

  // The ranges of [from, to) of the disk that the image says nothing about, in order: reads of them
  // go to what it stands on, or give zeros.  Errors: kIo, kCorrupt.
  Result<std::vector<Extent>> unmapped(std::uint64_t from, std::uint64_t to) const;

 private:
  Qcow2Map(File file, Qcow2Header header, std::uint64_t file_bytes)
      : file_(std::move(file)), header_(std::move(header)), file_bytes_(file_bytes) {}
  // The tables' entries as numbers.
  Result<std::vector<std::uint64_t>> table(std::uint64_t at, std::uint64_t entries) const;
  bool is_mapped(std::uint64_t entry) const;

  File file_;
  Qcow2Header header_;
  std::uint64_t file_bytes_;
  std::vector<std::uint64_t> l1_;
};

}  // namespace farside::agent::libvirt
