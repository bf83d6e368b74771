// A simulated host whose virtual machines really run: its parts, and what it is made from.
//
// Owns: all of that.  Thread: one at a time; see SoapHost::exclusively().
#pragma once

#include <memory>
#include <string>
#include <vector>

#include "tests/support/hvsim/checkpoints.h"
#include "tests/support/hvsim/jobs.h"

namespace farside::hvsim {

struct RealHostOptions {
  std::string root;
  std::string vms;  // A JSON file; see add_vms().  Empty: none.
  std::string host = "HVSIM01";
  std::string description = "Microsoft Virtual Machine";
  std::vector<std::string> switches{"external"};
  GuestOptions guest;
};

class RealHost final {
 public:
  // All outlive this.  The classes of `objects` are defined already.
  RealHost(Objects& objects, Jobs& jobs, Faults& faults, Random& random, RealHostOptions options);

  // As after a boot: all virtual machines are off, but those that the file wants to run.
  Status boot();
  // As a host that is shut down: what its guests wrote stays known.
  void shut_down();
  // Of the socket of orders: what Faults does not know; empty if it is none of these either.
  //
  //   {"do":"host_reboot"}                       all VMs off as by a power cut; what is open stays
  //   {"do":"kill_vm","vm":GUID}                 its QEMU ends at once; it is off, tracking lost
  //   {"do":"leave_checkpoint","vm":GUID}        as by a backup that crashed
  //   {"do":"lose_tracking","path":"C:\\…"}      or "vm":GUID, of all its disks
  //   {"do":"lock_frozen","on":true}             frozen disks of running VMs cannot be opened
  std::string obey(const nlohmann::json& order);
  void tick() { machines.tick(); }
  const std::string& guest_arguments() const { return options_.guest.arguments; }

  Objects& objects;
  Jobs& jobs;
  Faults& faults;
  VmObjects vms;
  HostFiles files;
  HostState state;
  Spawner spawner;
  Machines machines;
  Checkpoints checkpoints;

 private:
  Status add_vms();
  Status add_vm(const nlohmann::json& vm);
  void add_switches();
  void add_hardware();

  const RealHostOptions options_;
};

// The host outlives the methods.
void add_power_methods(Methods& methods, RealHost& host);
void add_checkpoint_methods(Methods& methods, RealHost& host);
void add_image_methods(Methods& methods, RealHost& host);
void add_settings_methods(Methods& methods, RealHost& host);
void add_network_methods(Methods& methods, RealHost& host);

}  // namespace farside::hvsim
