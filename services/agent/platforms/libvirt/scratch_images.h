// Empty qcow2 images, made beforehand, into which QEMU copies what a guest overwrites during a
// point.  libvirt must not make them: while it does, anybody who asks it about the guest's disks
// may end QEMU (assertion in the qcow2 driver of QEMU 7.2).
//
// Owns: the bytes of one such image per size, about 200 KiB each.  Thread: any.
#pragma once

#include <cstdint>
#include <map>
#include <memory>
#include <mutex>
#include <string>

#include "common/base/result.h"

namespace farside::agent::libvirt {

class ScratchImages {
 public:
  // Makes an image for a disk of `bytes` at `path`, replacing what is there; QEMU may do with it
  // whatever it may do with `like`.  Errors: kIo, kNoSpace, kPlatform (qemu-img's words).
  Status create(const std::string& path, std::uint64_t bytes, const std::string& like);

 private:
  Result<const std::string*> image(std::uint64_t bytes, const std::string& beside);

  std::mutex mutex_;
  std::map<std::uint64_t, std::unique_ptr<std::string>> images_;
};

}  // namespace farside::agent::libvirt
