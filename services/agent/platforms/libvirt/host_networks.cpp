#include "services/agent/platforms/libvirt/host_networks.h"

#include <libvirt/virterror.h>

#include <cstdlib>
#include <string>
#include <utility>
#include <vector>

#include "common/base/log.h"

namespace farside::agent::libvirt {
namespace {

Result<std::vector<std::string>> active_networks(virConnectPtr connection) {
  virNetworkPtr* list = nullptr;
  const int count = virConnectListAllNetworks(connection, &list, VIR_CONNECT_LIST_NETWORKS_ACTIVE);
  std::vector<std::string> names;
  if (count < 0) {
    // The embedded driver has none, and says so with an error; any other is no answer.
    if (libvirt_error_number() == VIR_ERR_NO_SUPPORT) return names;
    return libvirt_error("list the networks of this host");
  }
  for (int i = 0; i < count; ++i) {
    const std::unique_ptr<virNetwork, FreeHandle> network(list[i]);
    names.emplace_back(virNetworkGetName(network.get()));
  }
  std::free(static_cast<void*>(list));
  return names;
}

}  // namespace

HostNetworks::HostNetworks(Networks configured)
    : configured_(std::move(configured)), now_(configured_) {}

Networks HostNetworks::now() const {
  const std::lock_guard lock(mutex_);
  return now_;
}

Networks HostNetworks::ask(virConnectPtr connection) {
  const auto names = active_networks(connection);
  const std::lock_guard lock(mutex_);
  if (!names) {
    if (!has_failed_) log::warn("networks_unknown", {{"error", names.error()}});
    has_failed_ = true;
    return now_;
  }
  has_asked_ = true;
  has_failed_ = false;
  auto networks = configured_;
  for (const std::string& name : *names) networks.add_libvirt_network(name);
  now_ = std::move(networks);
  return now_;
}

void HostNetworks::ask_once(virConnectPtr connection) {
  {
    const std::lock_guard lock(mutex_);
    if (has_asked_) return;
  }
  ask(connection);
}

}  // namespace farside::agent::libvirt
