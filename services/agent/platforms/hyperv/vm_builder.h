// Creates VMs from recovery points, one part after the other.
//
// Until all parts are there, the VM's notes call it unfinished: after a crash it is made anew.
// Source: Microsoft, Hyper-V WMI provider (V2), Msvm_VirtualSystemManagementService.
#pragma once

#include <string>
#include <utility>
#include <vector>

#include "services/agent/platforms/hyperv/host.h"
#include "services/agent/platforms/platform.h"

namespace farside::agent::hyperv {

struct VmPlan {
  msg::Vm shape;
  Mark mark;
  std::string folder;                      // For its configuration.
  std::vector<std::string> disks;          // Paths of VHDX files, in order.
  std::vector<std::optional<Port>> ports;  // As many as shape.nics.
};

class VmBuilder final {
 public:
  // `host` outlives it.
  explicit VmBuilder(Host& host) : host_(host) {}

  // Leaves the VM off.  Errors: those of Host; kPlatform.
  Status build(const VmPlan& plan);

 private:
  Result<std::string> define(const VmPlan& plan);  // Returns the id of its settings.
  Status set_memory_and_processors(const VmPlan& plan);
  Status add_disks(const VmPlan& plan);
  Status add_card(const msg::Nic& nic, const std::optional<Port>& port);
  Status connect(const wsman::Instance& card, const Port& port);
  Status set_vlan(const wsman::Instance& connection, const Port& port);
  Status set_address(const wsman::Instance& card, const std::string& address);
  // Adds one part to the settings; returns it as the host has made it.
  Result<wsman::Instance> add(wsman::Instance part);
  Result<std::string> path_of(const wsman::Instance& part);

  Host& host_;
  std::string settings_id_;
  std::string guid_;
};

// "10.1.2.3" or "10.1.2.3/24".  Errors: kInvalidArgument.
struct GuestAddress {
  std::string address;
  std::string mask;  // Of IPv4; for IPv6 the length of the prefix.
  bool is_v6 = false;
};
Result<GuestAddress> parse_guest_address(const std::string& text);

Status destroy(Host& host, const std::string& guid);
Status set_notes(Host& host, const std::string& settings_id, const std::vector<std::string>& notes);

}  // namespace farside::agent::hyperv
