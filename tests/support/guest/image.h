// A disk image that is only read: a raw file, a qcow2 file (through qemu-nbd), or an NBD export.
//
// Owns: its file or connection, and the qemu-nbd process behind a qcow2 file.  Thread: one.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <span>
#include <string>

#include "common/base/result.h"

namespace farside::guest {

class Image {
 public:
  virtual ~Image() = default;
  virtual std::uint64_t bytes() const = 0;

  // Errors: kInvalidArgument (outside the disk), kIo.
  virtual Status read(std::uint64_t offset, std::span<std::byte> to) = 0;
};

// `source`: a path, or an NBD URI ("nbd://host:port/name", "nbd+unix:///name?socket=/path").
// Errors: kNotFound, kIo, kUnavailable.
Result<std::unique_ptr<Image>> open_image(const std::string& source);

}  // namespace farside::guest
