// Recovery checkpoints of virtual machines, and the reference points they become.
//
// A checkpoint freezes the files of all disks at one instant; until it is merged the guest writes
// to overlays beside them.  Each VM has one at most.  A mark in the tracking of each disk stands
// for the instant; it lives on in the reference point, whose RCT identifier it is.
//
// Thread: one at a time.
#pragma once

#include <string>

#include "tests/support/hvsim/machines.h"

namespace farside::hvsim {

class Checkpoints final {
 public:
  // All outlive this.
  Checkpoints(VmObjects& objects, HostState& state, Machines& machines)
      : objects_(objects), state_(state), machines_(machines) {}

  // `consistency`: 1 asks the guest's applications to hold still, if it can do so; else 2.
  // Returns its settings.  Errors: kConflict (there is one already), kPlatform.
  Result<Reference> create(const std::string& guid, std::uint64_t consistency);

  // `id`: of its settings.  Returns the reference point.  Errors: kNotFound, kPlatform.
  Result<Reference> convert(const std::string& id);
  Status destroy(const std::string& id);
  Status destroy_reference_point(const Reference& point);

  // Of the VM, if it has one.
  Status merge_any(const std::string& guid);

  // At the start of the host: forgets what was unclean, ends what was half done.
  Status recover();

  // What a disk is to a question for its changes.
  struct Question {
    std::string base;
    std::string until;  // A mark; empty: now.
  };
  // Errors: kNotFound (no VM's disk), kConflict (it is being written).
  Result<Question> question_for(const std::string& disk);

 private:
  std::string vm_of(const std::string& id) const;  // Empty: there is no such checkpoint.
  Status freeze(const std::string& guid, QemuVm& qemu, std::uint64_t consistency);
  void show(const std::string& guid);
  Result<Reference> merge(const std::string& guid, bool keeps_point);
  Reference add_reference_point(const std::string& guid, const Checkpoint& checkpoint);
  void write_to(const std::string& guid, const std::string& from, const std::string& to);

  VmObjects& objects_;
  HostState& state_;
  Machines& machines_;
};

}  // namespace farside::hvsim
