// The virtual machines that run: their QEMU processes, and the files of their disks.
//
// A VM that is off has no process.  While one has, what it writes is in QEMU's dirty bitmaps; it
// goes into the state when the VM stops, and is lost if that happens in any other way.  The live
// disks of a running VM have no permissions at all, so that a server that is not root cannot open
// them, and what a checkpoint froze can only be read; QEMU, whose rights are root's, can do all.
//
// Owns: the processes.  Thread: one at a time.
#pragma once

#include <functional>
#include <map>
#include <memory>
#include <string>

#include "tests/support/hvsim/host_files.h"
#include "tests/support/hvsim/host_state.h"
#include "tests/support/hvsim/qemu_vm.h"
#include "tests/support/hvsim/vm_objects.h"

namespace farside::hvsim {

// EnabledState of a virtual machine.
inline constexpr std::uint16_t kRunning = 2;
inline constexpr std::uint16_t kOff = 3;
inline constexpr std::uint16_t kPaused = 32768;
inline constexpr std::uint16_t kSaved = 32769;
inline constexpr std::uint16_t kStarting = 32770;
inline constexpr std::uint16_t kSaving = 32773;
inline constexpr std::uint16_t kStopping = 32774;
inline constexpr std::uint16_t kPausing = 32776;
inline constexpr std::uint16_t kResuming = 32777;

struct GuestOptions {
  std::string kernel;
  std::string initrd;
  std::string arguments;    // Of VMs that clients define.
  std::string vhdx_plugin;  // Of nbdkit; serves what QEMU cannot open.
  bool locks_disks = true;
};

// Of "255.255.255.0", or of "24".
int prefix_length(const std::string& subnet);

class Machines final {
 public:
  // All outlive this.
  Machines(VmObjects& objects, HostState& state, const HostFiles& files, Spawner& spawner,
           GuestOptions options)
      : objects_(objects),
        state_(state),
        files_(files),
        spawner_(spawner),
        options_(std::move(options)) {}

  // From off, paused or saved.  Errors: kNotFound (a disk), kPlatform.
  Status start(const std::string& guid);
  Status turn_off(const std::string& guid);
  Status pause(const std::string& guid, std::uint16_t as);  // kPaused or kSaved.
  Status reset(const std::string& guid);
  // As if QEMU had crashed: what was written is not tracked.
  void kill(const std::string& guid);
  void kill_all();
  void turn_off_all();

  // Notices guests that turned themselves off, QEMUs that died, and agents that came up.
  void tick();

  // Errors: kConflict (not ready: it is still starting, or takes no such requests).
  Status press_power_button(const std::string& guid);
  bool is_ready(const std::string& guid);  // Its guest answers.
  bool has_process(const std::string& guid) const { return running_.contains(guid); }
  Status run_in_guest(const std::string& guid, const std::string& path,
                      const std::vector<std::string>& words);

  // Does something with the QEMU of a VM, which is started for that, standing still, if it is off.
  Status with_qemu(const std::string& guid, const std::function<Status(QemuVm&)>& act);

  // Of a VM's disks, in the guest's order, the files that tracking knows: below any checkpoint.
  std::vector<std::string> bases_of(const std::string& guid);
  // What the VM's disks were written with goes to the tracking of their bases.
  void record(const std::string& guid, const std::vector<Ranges>& changes);
  // Sets the permissions of its disks to what its state and `locks_frozen` ask for.
  void lock_disks(const std::string& guid);

  bool locks_frozen = false;  // A fault: frozen disks cannot be opened either.
  Spawner& spawner() { return spawner_; }
  const HostFiles& files() const { return files_; }

 private:
  struct EndGently {
    void operator()(Child* child) const {
      child->end();
      delete child;
    }
  };
  struct Running {
    // They end after the QEMU that uses them, and close their files then.
    std::vector<std::unique_ptr<Child, EndGently>> servers;
    std::unique_ptr<QemuVm> qemu;
    std::vector<std::string> bases;
    bool is_ready = false;
    bool is_shutting_down = false;
    std::uintmax_t said_before = 0;  // Length of the serial log at its start.
  };
  Result<Running> open(const std::string& guid);
  Result<Json> node_of(const std::string& base, Running& running);
  Status close(const std::string& guid);
  void forget(const std::string& guid);
  void show_services(const std::string& guid);
  std::string kernel_arguments(const std::string& guid, std::size_t disks);

  VmObjects& objects_;
  HostState& state_;
  const HostFiles& files_;
  Spawner& spawner_;
  const GuestOptions options_;
  std::map<std::string, Running> running_;  // By GUID.
  int processes_ = 0;
};

}  // namespace farside::hvsim
