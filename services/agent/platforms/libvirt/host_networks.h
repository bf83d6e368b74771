// The VM networks that there are on this host at the moment: those of the configuration, and
// libvirt's own, which come and go.
//
// Thread: any.
#pragma once

#include <mutex>

#include "services/agent/platforms/libvirt/connection.h"
#include "services/agent/platforms/libvirt/networks.h"

namespace farside::agent::libvirt {

class HostNetworks {
 public:
  explicit HostNetworks(Networks configured);

  // As libvirt was asked last.
  Networks now() const;

  // Asks libvirt; where it cannot tell, those it told of last stay.
  Networks ask(virConnectPtr connection);

  // Asks if it has never told yet.
  void ask_once(virConnectPtr connection);

 private:
  const Networks configured_;
  mutable std::mutex mutex_;
  Networks now_;
  bool has_asked_ = false;
  bool has_failed_ = false;  // That has been logged.
};

}  // namespace farside::agent::libvirt
