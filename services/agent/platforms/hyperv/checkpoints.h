// Recovery checkpoints of VMs and the reference points they become: how a point in time is frozen,
// and how changes since an earlier one are found.
//
//   nothing --create--> checkpoint --keep--> reference point --(a later one is kept)--> dropped
//                           `------drop----> nothing
//
// Every step is recorded before and after, so that after a crash at any instant it is known which
// objects of the host are ours: settle() ends what was under way.
// Source: Microsoft, Hyper-V WMI provider (V2), Msvm_VirtualSystemSnapshotService; the type of a
// recovery checkpoint, 32768, as seen in public backup programs.
//
// Owns: the records.  Thread: any, one at a time for each VM.
#pragma once

#include <optional>
#include <string>
#include <vector>

#include "services/agent/platforms/hyperv/host.h"
#include "services/agent/platforms/hyperv/tracking.h"

namespace farside::agent::hyperv {

struct Checkpoint {
  std::string vm;    // As Farside calls it.
  std::string guid;  // As the host does.
  std::string id;    // InstanceID of its settings.
  std::string token;
  bool is_app_consistent = false;
  std::vector<VhdxDisk> disks;  // Frozen files.
};

class Checkpoints final {
 public:
  Checkpoints(Host& host, Tracking tracking) : host_(host), tracking_(std::move(tracking)) {}

  // Freezes all disks at one instant.  Errors: kConflict (another program has a checkpoint under
  // way), kPlatform, those of Host.
  Result<Checkpoint> create(const VirtualMachine& vm, const std::string& token,
                            bool app_consistent);

  // The checkpoint becomes the reference point of its token; all older ones go if `drops_older`.
  // Repeating it is fine.
  Status keep(const Checkpoint& checkpoint, bool drops_older);
  // It leaves nothing behind.
  Status drop(const Checkpoint& checkpoint);

  // Ends a checkpoint that was left, keeping its token, and removes what is to go.
  Status settle(const std::string& vm_id);
  // Drops every token of the VM, which may be gone.
  Status forget(const std::string& vm_id);

  // Where changes are counted from, by disk id; nothing if that token is unknown.
  Result<std::optional<msg::TrackedPoint>> find(const std::string& vm_id, const std::string& token);
  std::vector<std::string> known_vms() const { return tracking_.vms(); }

 private:
  Result<std::vector<wsman::Instance>> checkpoints_of(const std::string& guid);
  Result<std::vector<wsman::Instance>> points_of(const std::string& guid);
  Result<std::optional<std::string>> find_ours(const std::string& guid,
                                               const msg::OpenCheckpoint& open);
  Status unless_gone(Status failed, const wsman::Reference& object);
  Status destroy_checkpoint(const std::string& id);
  Status remove_dropped(msg::StoredTracking& tracking);

  Host& host_;
  Tracking tracking_;
};

}  // namespace farside::agent::hyperv
