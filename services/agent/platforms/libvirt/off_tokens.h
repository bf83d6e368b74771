// Tokens of points that were taken while their VM was off: no checkpoint can be made then, and
// nothing may be written to the images.  Each says what the files were like, and which checkpoint,
// if any, has counted all changes since before it.
//
// Owns: a folder with one file per VM (docs/data.md).  Thread: any; one at a time per VM.  What a
// call has written is on stable storage when it returns.  An id that is no plain name of a file is
// refused (kForbidden).
#pragma once

#include <optional>
#include <string>
#include <vector>

#include "common/base/result.h"
#include "services/agent/platforms/libvirt/image_file.h"

namespace farside::agent::libvirt {

struct OffDiskState {
  std::string name;  // "vda"
  std::uint64_t bytes = 0;
  std::vector<FileState> chain;
  bool operator==(const OffDiskState&) const = default;
};

struct OffToken {
  std::string token;
  std::string base;  // Token of a checkpoint; empty: none.
  std::vector<OffDiskState> disks;
  bool operator==(const OffToken&) const = default;
};

class OffTokens {
 public:
  static Result<OffTokens> open(std::string folder);  // Errors: kIo.

  // None: std::nullopt, also if the file of the VM cannot be understood.  Errors: kIo.
  Result<std::optional<OffToken>> find(const std::string& vm_id, const std::string& token) const;

  // Beside the others, or in their place.  Errors: kIo, kNoSpace.
  Status add(const std::string& vm_id, OffToken token) const;
  Status replace_all(const std::string& vm_id, OffToken token) const;

  Status remove(const std::string& vm_id) const;  // All of the VM's.  Errors: kIo.

 private:
  explicit OffTokens(std::string folder) : folder_(std::move(folder)) {}
  Result<std::vector<OffToken>> read(const std::string& vm_id) const;
  Status write(const std::string& vm_id, const std::vector<OffToken>& tokens) const;

  std::string folder_;
};

}  // namespace farside::agent::libvirt
