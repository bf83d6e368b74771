// What is left of a host, its VMs and its replicas when only the promises matter: a VM's disks are
// the number of writes its guest has made, a recovery point is such a number, and the host keeps
// all of it when its agent crashes.
//
// Thread: one.
#pragma once

#include <cstdint>
#include <map>
#include <set>
#include <string>

#include "common/schema/agent.plain.h"

namespace farside::sim {

struct ModelVm {
  msg::Vm shape;
  std::uint64_t writes = 0;
  std::uint64_t booted_with = 0;  // Writes in the recovery point it was made from.
  bool is_running = false;
  bool is_fenced = false;
  std::string item{};  // Of replicas and test VMs.
  std::set<std::string> tokens{};
};

struct ModelPoint {
  std::uint64_t writes = 0;
  std::int64_t captured_at = 0;
};

struct ModelReplica {
  std::uint64_t epoch = 0;
  bool is_open = false;  // The data plane takes deltas for it.
  std::map<std::uint64_t, ModelPoint> points{};
  std::uint64_t verified = 0;  // The point that was compared with its source last.
};

struct ModelHost {
  std::string name;
  std::map<std::string, ModelVm> vms{};  // By id.
  std::map<std::string, ModelReplica> replicas{};
};

}  // namespace farside::sim
