// One virtual machine in a QEMU process: its power, its checkpoints, and what it wrote.
//
// Every disk is a node `bN` (VHDX, or NBD for what QEMU cannot open), with a qcow2 overlay `oN` on
// top of it while a checkpoint is open.  A dirty bitmap on `bN` records writes: the guest's, or,
// when a checkpoint is merged, those of the merge, which are what the guest wrote meanwhile.
//
// Owns: the process, which dies with this one.  Thread: one at a time.
#pragma once

#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "tests/support/hvsim/child_process.h"
#include "tests/support/hvsim/json_link.h"
#include "tests/support/hvsim/ranges.h"

namespace farside::hvsim {

struct Drive {
  Json base;            // QEMU's options of the node, without its name.
  std::string overlay;  // A qcow2 file; empty: none.
};

struct MachineSpec {
  std::vector<Drive> drives;  // vda first.
  std::vector<std::string> macs;
  std::uint64_t memory_mib = 128;
  std::uint64_t processors = 1;
  std::string kernel;  // Empty: it boots nothing.
  std::string initrd;
  std::string arguments;
  std::string serial_log;  // Appended to.
};

class QemuVm final {
 public:
  enum class Event { kNone, kPoweredOff, kDied };

  // Stands still until run().  `stem`: of the names of its log and its socket.
  // Errors: kPlatform (QEMU's words).
  static Result<std::unique_ptr<QemuVm>> start(Spawner& spawner, const MachineSpec& spec,
                                               const std::string& stem);
  ~QemuVm();
  QemuVm(const QemuVm&) = delete;
  QemuVm& operator=(const QemuVm&) = delete;

  Status run();
  Status stand_still();
  Status reset();
  Status press_power_button();
  Event poll();

  // By its guest agent; false if there is none that answers yet.
  bool has_agent();
  Status freeze_guest();
  Status thaw_guest();
  Status run_in_guest(const std::string& path, const std::vector<std::string>& words);

  // What was written on each base since the start, or since the last call.
  Result<std::vector<Ranges>> take_changes();
  // The same, and from this instant on writes go to the overlays, files that exist.
  Result<std::vector<Ranges>> take_changes_and_freeze(const std::vector<std::string>& overlays);
  bool is_frozen() const;  // It has overlays.
  // Merges the overlays into the bases, and calls `on_merged` while both hold the same and the
  // guest stands still: whoever forgets the overlays then loses nothing.
  Status merge(const std::function<Status()>& on_merged);
  void kill() { process_->kill(); }

 private:
  QemuVm(std::unique_ptr<Child> process, int monitor, int agent, std::string stem,
         std::vector<Drive> drives);
  Result<Json> ask(const std::string& command, const Json& arguments = Json::object());
  Result<Ranges> read_bitmap(std::size_t drive, const std::string& name);
  Result<std::vector<Ranges>> rotate(Json more_actions, const std::vector<std::string>& overlays);

  std::unique_ptr<Child> process_;
  JsonLink monitor_;
  JsonLink agent_;
  const std::string stem_;
  std::vector<Drive> drives_;
  int bitmap_ = 1;  // Number of the active one.
  int export_ = 0;
  bool agent_answered_ = false;
  int pings_ = 0;
};

}  // namespace farside::hvsim
