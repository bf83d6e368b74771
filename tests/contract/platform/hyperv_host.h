// A Hyper-V host for tests: hvsim with real guests, a smbd that shares its disks, and an agent's
// platform that controls it.  A witness guest, and a guest that has no operating system.
//
// Owns: all of them, in a folder of its own.
#pragma once

#include <filesystem>
#include <memory>
#include <nlohmann/json.hpp>
#include <string>

#include "common/base/clock.h"
#include "services/agent/platforms/hyperv/hyperv_platform.h"
#include "tests/integration/wsman/hvsim_process.h"
#include "tests/support/samba/samba_server.h"
#include "tests/support/temp_folder.h"

namespace farside::agent {

class HypervHost {
 public:
  static HypervHost& shared();

  HypervHost();
  ~HypervHost();
  HypervHost(const HypervHost&) = delete;
  HypervHost& operator=(const HypervHost&) = delete;

  Platform& platform() { return *platform_; }
  void restart_agent();
  std::string witness() const { return kWitness; }
  std::uint64_t write_more(std::uint64_t records);
  void lose_tracking();
  void fail_jobs(int times);  // The next ones of the host.
  std::string deaf() const { return kDeaf; }
  NewVm new_vm(const std::string& name);
  bool overlay_exists(const NewVm& vm) const;
  bool overlay_is_complete(const NewVm& vm) const;

  // As by a power cut of the host; it comes back, elsewhere: the agent must be restarted.
  void kill_host();
  hyperv::Options options() const;  // Of a platform that controls this host.
  // InstanceIDs of all objects of the class, as the host has recorded them.
  std::vector<std::string> ids_of(const std::string& class_name) const;
  std::size_t open_checkpoints() const;
  std::string path(const std::string& name) const { return folder_ / name; }
  hvsim::HvsimProcess& process() { return *process_; }
  std::uint64_t acknowledged(const std::string& guid = kWitness) const;
  std::string serial(const std::string& guid) const;
  // What the host calls a VM that Farside created; empty: there is none.
  std::string guid_of(const std::string& vm_id) const;
  std::string file_of(const std::string& windows_path) const;

 private:
  static constexpr const char* kWitness = "5A1B0000-0000-4000-8000-00000000AAAA";
  static constexpr const char* kDeaf = "5A1B0000-0000-4000-8000-00000000DEAF";

  nlohmann::json state() const;
  void start_host();
  void open();
  void make_base();

  test::TempFolder folder_;
  SystemClock clock_;
  std::unique_ptr<hvsim::HvsimProcess> process_;
  std::unique_ptr<test::SambaServer> samba_;
  std::unique_ptr<Platform> platform_;
  std::string content_;  // Of the disk of new VMs: partly in their base, partly above it.
  std::string replica_folder_ = "/replicas/contract-replica";
};

}  // namespace farside::agent
