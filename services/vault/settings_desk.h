// Keeps the agents in line with what is configured: compares what an agent says it works by with
// what it should, and tells it the difference until its reports show that it has taken it.
//
// Nothing is remembered of what was told: a lost message, a restart or an agent that was away for
// a week heal by themselves with its next report.  This is how a changed policy, a peer's new key
// or address, the revocation of a peer and the end of a protection reach those they concern.
// Owns: column "revoked_key".  Thread: the reactor's.
#pragma once

#include <map>
#include <string>

#include "common/reactor/effects.h"
#include "services/vault/catalog.h"

namespace farside::vault {

class SettingsDesk final {
 public:
  explicit SettingsDesk(Catalog& catalog) : catalog_(catalog) {}

  // Reads anew what all settings are made from; call every few seconds.
  void refresh(reactor::Effects& effects);

  // `agent` replicates the item, or keeps its replica, by settings with the digest `reported`.
  void on_source(const std::string& agent, const msg::ReplicationStatus& reported,
                 reactor::Effects& effects);
  void on_replica(const std::string& agent, const msg::ReplicaStatus& reported,
                  reactor::Effects& effects);

  // An operator changed the item: its source is told at once, not only after its next report.
  void changed(const msg::ProtectedItem& item, reactor::Effects& effects);

  // The agent's key, as it is now, is not trusted any more.
  void revoked(const std::string& agent, reactor::Effects& effects);

 private:
  // What points of an item may consist of: the disks its VM has, as far as they are believable.
  std::vector<msg::ReplicaDisk> disks_of(const msg::ProtectedItem& item) const;
  // From VM networks of its source site to networks of its target's hosts.
  std::vector<msg::NetworkPair> networks_of(const msg::ProtectedItem& item) const;

  struct Agent {
    std::string key;
    std::string endpoint;
    bool revoked = false;
  };
  msg::ItemSettings settings_of(const msg::ProtectedItem& item, const std::string& peer) const;
  msg::ItemSettings for_source(const msg::ProtectedItem& item) const;
  void tell(const std::string& agent, msg::ItemSettings settings, const std::string& reported,
            reactor::Effects& effects);

  Catalog& catalog_;
  std::map<std::string, Agent> agents_;  // By principal.
  std::map<std::string, msg::Policy> policies_;
  using Pair = std::pair<std::string, std::string>;
  std::map<Pair, std::vector<msg::ReplicaDisk>> disks_;         // By agent and VM.
  std::map<Pair, std::vector<msg::NetworkPair>> networks_;      // By source and target site.
  std::map<std::pair<std::string, std::string>, Micros> told_;  // Agent, item -> when.
};

}  // namespace farside::vault
