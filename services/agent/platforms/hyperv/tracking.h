// What this agent remembers of the points it takes of VMs: one file for each VM in a folder of its
// own.  It is what tells checkpoints and reference points of ours from those of other programs.
//
// Owns: the folder.  Thread: any, one at a time for each VM.
#pragma once

#include <string>
#include <vector>

#include "common/base/result.h"
#include "common/schema/hyperv.plain.h"

namespace farside::agent::hyperv {

class Tracking final {
 public:
  // Errors: kIo, kForbidden, kNoSpace.
  static Result<Tracking> open(std::string folder);

  // Of a VM that nothing is remembered of: empty.  Errors: kCorrupt (which is told and forgotten:
  // the next point compares hashes), kForbidden (no plain name of a file), kIo.
  Result<msg::StoredTracking> load(const std::string& vm_id) const;
  // Durable once it returned.  A record without any content is removed.  Errors: kForbidden, kIo,
  // kNoSpace.
  Status save(const msg::StoredTracking& tracking) const;
  std::vector<std::string> vms() const;

 private:
  explicit Tracking(std::string folder) : folder_(std::move(folder)) {}
  std::string path_of(const std::string& vm_id) const { return folder_ + "/" + vm_id; }

  std::string folder_;
};

}  // namespace farside::agent::hyperv
