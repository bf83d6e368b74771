// The disks of a VM of ours on their way from the view they began as into their images, and when
// that is done for good.
//
//   reads its view --pull--> reads none --sync, flush through QEMU, sync, read its map--> moved
//         ^                       |
//         +-- (VM off) it stands on the view again: QEMU ended before the flush
//
// QEMU calls a pull complete while the tables that say where the blocks lie are in its memory only.
// Where it ends then (killed, or with its host), the image names no view any more and lacks blocks.
// Source: QEMU 7.2, block/stream.c, block/qcow2.c; tried with `kill -9`.
//
// Owns: state_dir/{moving,moved}: the views of disks that are not moved for good yet; VMs whose
// disks are.  Thread: any; one at a time per VM.
// Invariants
//   * "Finished" is said of files that are on stable storage, stand on no view, and say of each
//     block what it is; or the view says that it is zeros.
//   * It is said again without another look once it was true: what the VM's owner then makes of
//     its disks is theirs.
#pragma once

#include <libvirt/libvirt.h>

#include <map>
#include <memory>
#include <mutex>
#include <string>
#include <vector>

#include "services/agent/platforms/libvirt/domain_xml.h"
#include "services/agent/platforms/marks.h"
#include "services/agent/platforms/platform.h"

namespace farside::agent::libvirt {

class MovedDisks {
 public:
  // Errors: kIo, kNoSpace.
  static Result<std::unique_ptr<MovedDisks>> open(const std::string& state_dir);

  // See Platform::detach_view.  Each call does a part.  Errors: kConflict (the VM must run for it),
  // kCorrupt (it was started without blocks that its view has), kPlatform, kIo, kUnavailable.
  Result<BlockProgress> move(virDomainPtr domain, const DomainShape& shape);

  // Whether the VM needs its view no more, proven.
  bool has(const std::string& vm_id) const { return moved_.has(vm_id); }

  // Of a VM that is off: sees to it that no disk has lost what its view has.  Errors: as above,
  // kBusy (it takes longer: again).
  Status before_start(virDomainPtr domain, const DomainShape& shape);

  // There is no such VM, or not yet.
  Status forget(const std::string& vm_id);

 private:
  using Views = std::map<std::string, ViewSource>;  // By disk.
  struct Disk {                                     // How far its proof has got.
    bool is_synced = false;
    bool is_flushed = false;
    std::uint64_t checked = 0;
  };
  struct Vm {
    const DomainShape& shape;
    virDomainPtr domain;
    bool is_active;
    Views views;
  };

  MovedDisks(std::string folder, Marks moved)
      : folder_(std::move(folder)), moved_(std::move(moved)) {}
  Result<Views> views_of(const std::string& vm_id) const;
  Status forget_views(const std::string& vm_id);
  Status remember(const DomainShape& shape);
  Result<BlockProgress> pull(virDomainPtr domain, const DomainShape& shape, bool is_active);
  Result<BlockProgress> prove(const Vm& vm);
  // A part of it; true: done.
  Result<bool> prove(const Vm& vm, const DiskShape& disk, Disk& proof);
  Status sync(const Vm& vm, const DiskShape& disk, const std::vector<std::string>& files,
              Disk& proof);
  Status check(const Vm& vm, const DiskShape& disk, const std::vector<std::string>& files,
               Disk& proof);
  Status stand_on_view(const Vm& vm, const DiskShape& disk, const ViewSource& view);
  Status lost(const Vm& vm, const DiskShape& disk, const Extent& first);

  const std::string folder_;  // Of `moving`.
  const Marks moved_;
  std::mutex mutex_;
  std::map<std::string, std::map<std::string, Disk>> proofs_;  // By VM and disk.
};

// `xml`, a domain's, with disk `name` standing on this view.  Errors: kPlatform (it has no such
// disk).
Result<std::string> with_view(const std::string& xml, const std::string& name,
                              const ViewSource& view);

}  // namespace farside::agent::libvirt
