// Base disks of replicas as VHDX files on the host's own storage, and VMs' disks that stand on
// them.
//
//   <folder>\replicas\<replica>\base-<disk>.vhdx    dynamic; the oldest kept state of a disk
//                              \kept-by-vm          there is a VM that stands on these: never
//                              removed
//   <folder>\vms\<vm>\<disk>.vhdx                   differencing; its parent is the base
//                   \stands-on                     where the bases are, and their replica here
//
// A host does not let anybody write to a file that it reads; and a base that was written to is no
// parent any more.  So while a VM stands on a base, its replica keeps what is new in segments only.
//
// Owns: those files.  Thread: any.
#pragma once

#include <map>
#include <memory>
#include <mutex>
#include <string>

#include "common/base/random.h"
#include "services/agent/platforms/hyperv/shares.h"
#include "services/agent/platforms/platform.h"
#include "services/agent/replica_store/base_disk.h"

namespace farside::agent::hyperv {

class VhdxBase;

class VhdxBases final : public replica::BaseDisks {
 public:
  // `folder`: on the host, shared with us.  `shares` outlives this.
  VhdxBases(Shares& shares, std::string folder);
  ~VhdxBases() override;

  Result<replica::SharedBase> open(const std::string& replica_folder,
                                   const std::string& disk) override;
  // Errors: kUnsupported (to grow one), those of BaseDisk.
  Result<replica::SharedBase> create(const std::string& replica_folder, const std::string& disk,
                                     std::uint64_t bytes) override;
  Status remove(const std::string& replica_folder) override;
  Status remove_disk(const std::string& replica_folder, const std::string& disk) override;
  Result<bool> may_change(const std::string& replica_folder, bool is_pinned) override;
  bool are_read_directly() const override { return true; }

  std::string path_of(const std::string& replica_folder, const std::string& disk) const;
  std::string vm_folder(const std::string& vm_id) const;
  const std::string& folder() const { return folder_; }

  // A differencing disk on the base, with the delta on top; its path.  One that is there stays.
  // Errors: those of BaseDisk and of the delta.
  Result<std::string> create_child(const NewDisk& disk, const std::string& vm_id);
  // The bases that the VM stands on stay when the replica goes, until remove_vm().
  Status keep_bases(const std::string& vm_id);
  Result<bool> keeps_bases(const std::string& replica_folder);
  // The VM's disks, and bases that it keeps and no replica needs any more.
  Status remove_vm(const std::string& vm_id);
  // Whether the bases it stands on are its own by now.
  Result<bool> has_kept_bases(const std::string& vm_id);
  // What create_child() did not finish before a crash.
  Status remove_unfinished(const std::string& vm_id);
  Result<std::vector<std::string>> vms_with_disks();

 private:
  struct Stand {
    std::string bases;    // Folder on the host.
    std::string replica;  // Folder of this machine.
  };
  Result<Stand> stand_of(const std::string& vm_id);
  std::string replica_path(const std::string& replica_folder) const;
  Result<std::shared_ptr<VhdxBase>> find(const std::string& path);

  Shares& shares_;
  std::string folder_;
  SystemRandom random_;
  std::mutex mutex_;                                     // Of the map.
  std::map<std::string, std::weak_ptr<VhdxBase>> open_;  // By path: one writer for each file.
};

}  // namespace farside::agent::hyperv
