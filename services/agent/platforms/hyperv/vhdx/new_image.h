// Creates VHDX files: dynamic, fixed, differencing.
#pragma once

#include <cstdint>
#include <optional>
#include <string>

#include "common/base/random.h"
#include "common/base/result.h"
#include "services/agent/platforms/hyperv/byte_file.h"
#include "services/agent/platforms/hyperv/vhdx/guid.h"
#include "services/agent/platforms/hyperv/vhdx/image.h"
#include "services/agent/platforms/hyperv/vhdx/parent_locator.h"

namespace farside::agent::vhdx {

struct NewImage {
  std::uint64_t disk_bytes = 0;
  std::uint32_t block_bytes = 2U << 20U;
  std::uint32_t logical_sector_bytes = 512;
  std::uint32_t physical_sector_bytes = 4096;
  bool is_fixed = false;                     // All blocks are there from the beginning.
  std::optional<Guid> disk_id = {};          // None: a new one.
  std::optional<ParentLocator> parent = {};  // A differencing disk.
};

// A differencing disk on top of `parent`, which must not be written to any more: the child holds
// on to what it contains now.  Paths as in ParentLocator, one of them may be empty.  A user's own
// metadata of the parent is not taken over.
NewImage child_of(const Image& parent, std::string relative_path, std::string absolute_win32_path);

// Into an empty file; afterwards it is on stable storage.  After a crash there is no valid file.
// Errors: kInvalidArgument, kAlreadyExists (the file is not empty), and those of the file.
Status create(hyperv::ByteFile& file, const NewImage& image, Random& random);

}  // namespace farside::agent::vhdx
