// What a simulated host knows beyond its objects, and how both outlive it.
//
// Everything that a guest wrote must be found again after the host was killed at any instant:
// change this first, save(), and only then let QEMU do what makes it necessary.
#pragma once

#include <map>
#include <set>
#include <string>
#include <vector>

#include "tests/support/hvsim/change_tracking.h"
#include "tests/support/hvsim/objects.h"

namespace farside::hvsim {

// What no WMI object tells.
struct VmRecord {
  bool boots_witness = true;
  std::string arguments;  // Further words for its kernel.
};

struct CheckpointDisk {
  std::string base;     // The frozen file; a path of Windows.
  std::string overlay;  // Where the guest writes meanwhile.
  std::string mark;     // In the base's tracking, and in the reference point made of this.
  std::string disk_id;
};

struct Checkpoint {
  enum class Stage { kForming, kOpen, kMerging };
  std::string id;  // GUID of its settings.
  std::uint64_t consistency = 2;
  Stage stage = Stage::kForming;
  std::vector<CheckpointDisk> disks;
};

class HostState final {
 public:
  // `objects` outlives this; `host` is the name of the host's own system among them.
  HostState(Objects& objects, std::string host, std::string file)
      : objects_(objects), host_(std::move(host)), file_(std::move(file)) {}

  // Errors: kIo.
  Status save() const;
  // Nothing is there at the first start.  Errors: kCorrupt.
  Status load();

  ChangeTracking& tracking_of(const std::string& disk);
  void drop_mark(const std::string& mark);  // On whatever disk.
  // Of a VM's disks; marks of an open checkpoint stay, as its bases are not written.
  void lose_tracking(const std::string& guid, const std::vector<std::string>& disks);

  std::map<std::string, VmRecord> vms;            // By GUID.
  std::map<std::string, Checkpoint> checkpoints;  // By the VM's GUID: one at a time.
  // Their QEMU has dirty bitmaps that are not in `tracking` yet: lost if they are found here at a
  // start.
  std::set<std::string> unclean;

 private:
  bool is_kept(const Instance& instance) const;

  Objects& objects_;
  const std::string host_;
  const std::string file_;
  std::map<std::string, ChangeTracking> tracking_;  // By path of the disk, in lower case.
};

}  // namespace farside::hvsim
