// The host in memory, with guests that write the history of the witness.
#pragma once

#include <array>
#include <memory>
#include <string>

#include "common/base/clock.h"
#include "services/agent/platforms/sim/sim_host.h"
#include "services/agent/platforms/sim/sim_platform.h"
#include "tests/support/guest/record.h"

namespace farside::agent {

class SimHostAdapter {
 public:
  static SimHostAdapter& shared();

  SimHostAdapter();

  Platform& platform() { return *platform_; }
  void restart_agent();
  std::string witness() const { return "11111111-0000-4000-8000-000000000001"; }
  std::uint64_t write_more(std::uint64_t records);
  void lose_tracking() { host_.lose_tracking(witness()); }
  std::string deaf() const { return "11111111-0000-4000-8000-000000000002"; }
  NewVm new_vm(const std::string& name);
  bool overlay_exists(const NewVm& vm) const { return host_.has_image(vm.disks[0].overlay_path); }
  bool overlay_is_complete(const NewVm& vm) const;

 private:
  void put(std::uint32_t disk, std::uint64_t offset, const guest::Block& block);
  void append();

  SystemClock clock_;
  sim::Host host_;
  std::unique_ptr<Platform> platform_;
  guest::Header header_;
  std::uint64_t newest_ = 0;
  std::uint32_t digest_ = 0;
};

}  // namespace farside::agent
