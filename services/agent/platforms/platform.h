// How an agent controls its host.  One interface, one contract suite (tests/contract/platform),
// several implementations: libvirt, hyperv, sim.
//
// Thread: any worker thread; calls for different VMs may run at once, calls for one VM do not.
// Invariants
//   * Every call may be repeated with the same arguments after a crash or a lost answer and then
//     succeeds with the same result ("already so" is success).
//   * Everything the platform creates on the host carries a mark, so that reconcile() can tell our
//     leftovers from the operator's own objects.
//   * No call waits longer than the deadline it is given or, where none is given, kCallSeconds.
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "common/base/result.h"
#include "common/schema/types.plain.h"
#include "services/agent/replica_store/base_disk.h"

namespace farside::agent {

inline constexpr int kCallSeconds = 60;

// A range of bytes on a virtual disk: [offset, offset + length), multiples of 512.
struct Extent {
  std::uint64_t offset = 0;
  std::uint64_t length = 0;
  bool zero = false;  // Reads as zeros: need not be read, but must be replicated as zeros.
  bool operator==(const Extent&) const = default;
};

// One frozen disk of a point.  One thread at a time.
class FrozenDisk {
 public:
  virtual ~FrozenDisk() = default;
  virtual const std::string& name() const = 0;  // "vda"
  // Whose content it is, whatever it is called (msg::Disk::id); empty: known by its name alone.
  virtual const std::string& id() const = 0;
  virtual std::uint64_t bytes() const = 0;

  // Ranges that may differ from the disk as of the `since` token given to create_point, in order,
  // not overlapping; those marked zero read as zeros.  Without `since`: the allocated ranges that
  // are not known to be zero (everything else reads as zeros).
  virtual Result<std::vector<Extent>> changes() = 0;

  // The allocated, non-zero ranges of the whole disk, whatever `since` was.
  virtual Result<std::vector<Extent>> allocated() = 0;

  // Starts a read of up to 4 MiB into `to`, which must stay alive until `done` ran.  `done` runs
  // inside poll().  Errors: kInvalidArgument (outside the disk), kIo.
  using Done = std::function<void(Status)>;
  virtual Status read_async(std::uint64_t offset, std::uint64_t length, char* to, Done done) = 0;

  // Runs completions; waits up to `timeout_ms` for at least one if any read is under way.
  virtual Status poll(int timeout_ms) = 0;
};

// A consistent, read-only view of all disks of one VM at one instant.  Destroying the object
// without close() or abandon() leaves the rest to reconcile().
class Point {
 public:
  virtual ~Point() = default;
  virtual std::int64_t captured_at_micros() const = 0;
  virtual bool is_app_consistent() const = 0;
  virtual const std::vector<std::unique_ptr<FrozenDisk>>& disks() = 0;

  // The whole VM as of that instant; its shape names the same disks as disks().
  virtual const msg::VmDefinition& definition() const = 0;

  // True as soon as the platform gave the point up (scratch space ran out, backup job gone, a VM
  // that was off has been started): the point is lost, the guest is not.  What was read before it
  // said "no" is whole.
  virtual bool is_lost() = 0;

  // Why it was lost.
  virtual Error loss() {
    return {.code = ErrorCode::kNoSpace,
            .what = "the platform gave it up",
            .advice = "give the agent's scratch_dir more room"};
  }

  // The point is replicated: its token becomes the base of the next one; all older tokens of this
  // VM are dropped.  Ends the frozen view.
  virtual Status close() = 0;

  // The point was not replicated (whole), but its token stays next to the older ones, so that the
  // next point can be taken since any of them.  Ends the frozen view.
  virtual Status abandon() = 0;
};

struct PointRequest {
  std::string vm_id;
  std::string token;            // Name of the new token; unique per attempt, [a-z0-9-]+.
  std::string since;            // Token of an earlier point; empty: everything allocated.
  bool app_consistent = false;  // Freeze guest file systems through the guest agent if possible.
};

struct PowerResult {
  bool was_running = false;
  bool forced = false;  // The guest did not react to the shutdown request within its deadline.
};

// Visits what a disk holds at a recovery point where that may differ from its base disk, in
// ascending order; no bytes means zeros.  An error of the visit ends it and is returned.
using VisitRange =
    std::function<Status(std::uint64_t offset, std::uint32_t length, std::string_view bytes)>;
using DiskDelta = std::function<Status(const VisitRange&)>;

// A disk of a VM made from a recovery point.  Where the platform keeps base disks, it stands on the
// base of disk `name` of the replica in `replica_folder`, with `delta` on top; else on a view.
struct NewDisk {
  std::string name;       // "vda"
  std::string id;         // See msg::Disk::id.
  std::string base_name;  // What its base disk is called in the replica.
  std::uint64_t bytes = 0;
  std::string replica_folder;
  DiskDelta delta;
  std::string overlay_path;  // qcow2 overlay to create (kept if it exists) on ...
  std::string nbd_socket;    // ... the NBD view at this Unix socket ...
  std::string nbd_export;    // ... and export name.
};

struct NewVm {
  msg::Vm shape;  // Name, memory, processors, boot; its NICs name networks of this host.
  // What it is to be like beyond that, if it was taken on a platform that this one understands: its
  // texts come from a peer, and nothing in them may name anything on this host.
  msg::VmDefinition definition;
  std::string id;       // UUID of the new VM.
  std::string item_id;  // The protected item it stands for.
  bool is_test = false;
  bool start = true;
  std::vector<NewDisk> disks;
  std::string serial_log;  // Where the first serial port writes; empty: the platform's default.
};

struct BlockProgress {
  std::uint64_t done = 0;
  std::uint64_t total = 0;
  bool finished = false;
};

class Platform {
 public:
  virtual ~Platform() = default;

  // Where replicas that this host is to run keep their base disks.  Null: in raw files beside their
  // index, and VMs boot from views.  The platform owns it.
  virtual replica::BaseDisks* base_disks() { return nullptr; }

  virtual Result<msg::HostState> describe_host() = 0;
  virtual Result<std::vector<msg::Vm>> list_vms() = 0;
  virtual Result<msg::Vm> describe_vm(const std::string& vm_id) = 0;

  // Asks the guest to shut down (ACPI), waits `deadline_s`, then turns it off.
  virtual Result<PowerResult> shut_down(const std::string& vm_id, int deadline_s) = 0;
  virtual Status power_off(const std::string& vm_id) = 0;
  // Errors: kStaleEpoch (it is fenced), kAlreadyExists (it was saved: its operator goes on from
  // there).
  virtual Status start(const std::string& vm_id) = 0;

  // Freezes all disks at one instant.  A VM that is off stays off, and may be started by anybody at
  // any instant, also while its point is read.
  // Errors: kTrackingLost (the `since` token is gone or inconsistent; the caller repeats without
  // `since` and compares hashes), kNotFound, kNoSpace (no room for scratch data), kBusy (somebody
  // else's work excludes it), kUnavailable (the host cannot be asked now), kPlatform.
  virtual Result<std::unique_ptr<Point>> create_point(const PointRequest& request) = 0;

  // Drops every token of the VM: it is no longer protected from here.
  virtual Status forget_tokens(const std::string& vm_id) = 0;

  // The VM as it is now, without UEFI variables.
  virtual Result<msg::VmDefinition> definition_of(const std::string& vm_id) = 0;

  // How create_vm() would make this VM: a row for each thing that is kept, mapped or dropped.
  virtual Result<std::vector<msg::PlanRow>> plan_vm(const NewVm& vm) = 0;

  // Proves that create_vm() would succeed, without touching anything that exists: the id and name
  // are free (or are this item's own), its networks are there, and a VM like it, with empty disks
  // and the id `proof_id`, can be built and started paused.  It is gone afterwards, as is `folder`,
  // which holds its files and lies where those of the real VM would.
  virtual Status prove_vm(const NewVm& vm, const std::string& proof_id,
                          const std::string& folder) = 0;

  // What shows that a VM of ours lives since it was started ("its guest agent answers"); empty:
  // nothing so far.  Errors: kNotFound, kConflict (it does not run any more).
  virtual Result<std::string> sign_of_life(const std::string& vm_id) = 0;

  // Lets the hypervisor use the socket of a view, which has just been made.  Errors: kUnavailable,
  // kForbidden (its folder is closed to it), kIo.
  virtual Status share_view(const std::string& /*socket*/) { return {}; }

  // Creates the VM and, if asked, starts it.  Nothing on the host but the networks must exist.
  // Errors: kNoSpace (no memory left for it: it is made, and not started) too.
  virtual Status create_vm(const NewVm& vm) = 0;

  // Copies what the overlays still read from the NBD view into them, under the running VM, so that
  // the view is no longer needed.  Call again to learn the progress; `finished` ends it.  Errors:
  // kConflict (a VM without our mark that still reads from it) too.
  virtual Result<BlockProgress> detach_view(const std::string& vm_id) = 0;

  // The VM becomes the operator's own: from now on nothing tells it from one that he made, and no
  // call of this interface removes it.  Survives everything, and comes before any record of it
  // goes. Returns the id by which the host knows it from then on; the old one still finds it in the
  // calls of this interface.  Errors: kNotFound, kConflict (a test VM, or one that is not whole).
  virtual Result<std::string> release_vm(const std::string& vm_id) = 0;

  // Turns the VM off and removes it, its overlays too if `delete_overlays`.  Errors: kForbidden
  // unless it is a test VM of Farside's, or one that create_vm() did not finish: all others hold
  // somebody's production.
  virtual Status destroy_vm(const std::string& vm_id, bool delete_overlays) = 0;

  // Starting this VM here is refused from now on (its role epoch moved away) or allowed again.  The
  // mark survives restarts; enforce_fences(), called every second, turns off any fenced VM that
  // runs and returns their ids.
  virtual Status set_fenced(const std::string& vm_id, bool fenced) = 0;
  virtual Result<std::vector<std::string>> enforce_fences() = 0;

  // Removes what a crash left behind: open points (their tokens stay), scratch files, test VMs and
  // unfinished ones of ours that are not in `vms_to_keep`.  Runs once, before anything else.  What
  // does not answer within a minute is seen to later, and before anything new is begun on it.
  virtual Status reconcile(const std::vector<std::string>& vms_to_keep) = 0;
};

}  // namespace farside::agent
