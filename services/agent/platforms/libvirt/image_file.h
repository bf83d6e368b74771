// The files that a disk of a VM consists of, and whether anybody writes to them: read and watched
// without any lock that could keep QEMU from starting.
//
// Thread: any.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "common/base/clock.h"
#include "common/base/result.h"

namespace farside::agent::libvirt {

// One file at one instant; two that are equal have the same content.
struct FileState {
  std::string path;
  std::uint64_t device = 0;
  std::uint64_t inode = 0;
  std::uint64_t bytes = 0;
  std::int64_t modified_ns = 0;
  std::int64_t changed_ns = 0;  // Its content or anything else about it, such as its owner.
  bool operator==(const FileState&) const = default;
};

// Errors: kIo.
Result<FileState> state_of_file(const std::string& path);

// A qcow2 file and all it stands on, topmost first.  Errors: kIo, kCorrupt, kUnsupported (something
// in the chain is no file, or of a format that is not written down).
Result<std::vector<FileState>> state_of_chain(const std::string& path);

// The same once nothing has written to it for so long that the next write cannot have the same
// time stamp.  Waits for that, but not longer than some seconds.  Errors: kBusy too.
Result<std::vector<FileState>> still_chain(const std::string& path, const Clock& clock);

// Whether what is below the topmost file is the same as it was, and the topmost one the same file,
// whatever was written to it.
bool is_same_disk(const std::vector<FileState>& before, const std::vector<FileState>& now);

// Whether any process has the image open for writing as QEMU does it, by the locks it then holds.
// Source: QEMU, block/file-posix.c, RAW_LOCK_PERM_BASE.
bool has_writer(const std::string& path);

// Whether any process has it open that writes, or lets nobody write.
bool is_held(const std::string& path);

}  // namespace farside::agent::libvirt
