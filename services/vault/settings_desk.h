// Keeps the agents in line with what is configured: compares what an agent says it works by with
// what it should, and tells it the difference until its reports show that it has taken it.
//
// Nothing is remembered of what was told: a lost message, a restart or an agent that was away for
// a week heal by themselves with its next report.  This is how a changed policy, a peer's new key
// or address, the revocation of a peer and the end of a protection reach those they concern.
//
// An agent's key is told as the provider of its site vouches for it, unless two claim the same:
// then nobody is told of it.  A revocation needs nobody's consent: it counts here from the moment
// it is recorded, and the agent's provider is told until it has confirmed it.
// Owns: column "revoked_key".  Thread: the reactor's.
#pragma once

#include <functional>
#include <map>
#include <set>
#include <string>
#include <vector>

#include "common/identity/registrar.h"
#include "common/reactor/effects.h"
#include "services/vault/catalog.h"

namespace farside::vault {

class SettingsDesk final {
 public:
  // Both outlive the desk.
  SettingsDesk(Catalog& catalog, const identity::Registrar& registrar)
      : catalog_(catalog), registrar_(registrar) {}

  // Reads anew what all settings are made from; call every few seconds.
  void refresh(reactor::Effects& effects);

  // `agent` replicates the item, or keeps its replica, by settings with the digest `reported`.
  void on_source(const std::string& agent, const msg::ReplicationStatus& reported,
                 reactor::Effects& effects);
  void on_replica(const std::string& agent, const msg::ReplicaStatus& reported,
                  reactor::Effects& effects);

  // An operator changed the item: its source is told at once, not only after its next report.
  void changed(const msg::ProtectedItem& item, reactor::Effects& effects);

  // The agent's key, as it is now, is not trusted any more: its peers are told at once, and so is
  // its provider.  Gives whether its site's inventory has it.  Errors: kInvalidArgument (not the
  // principal of an agent).
  Result<bool> revoke(const std::string& agent, reactor::Effects& effects);

  // No agent of the site is trusted any more, until its provider has registered anew.
  void revoke_site(const std::string& site, reactor::Effects& effects);

  // Tells providers what they have not confirmed; call every few seconds.
  void remind(reactor::Effects& effects);

  // True if the message was for this class: a provider's answer to that.
  bool on_reply(const reactor::PeerId& peer, const msg::Envelope& envelope,
                reactor::Effects& effects);

  bool is_revoked(const std::string& agent) const;

 private:
  using Told = std::pair<std::string, std::string>;  // Agent, item.
  bool is_new_and_too_many(const Told& one);
  struct Agent {
    std::string key;
    std::string endpoint;
    bool revoked = false;
  };

  bool has_items(const std::string& agent, const store::Reader& store) const;
  void read_agents(const std::vector<msg::Inventory>& sites);
  void find_shared_keys(const std::vector<msg::Identity>& identities);
  void read_revoked(const std::vector<msg::Identity>& identities,
                    const std::vector<msg::RevokedKey>& revoked);
  // Tells whoever replicates with an agent that `concerns` picks.
  void tell_peers(const std::function<bool(const std::string& agent)>& concerns,
                  reactor::Effects& effects);
  // What points of an item may consist of: the disks its VM has, as far as they are believable.
  std::vector<msg::ReplicaDisk> disks_of(const msg::ProtectedItem& item) const;
  // From VM networks of its source site to networks of its target's hosts.
  std::vector<msg::NetworkPair> networks_of(const msg::ProtectedItem& item) const;

  msg::ItemSettings settings_of(const msg::ProtectedItem& item, const std::string& peer) const;
  msg::ItemSettings for_source(const msg::ProtectedItem& item) const;
  msg::ItemSettings for_target(const msg::ProtectedItem& item) const;
  void tell(const std::string& agent, msg::ItemSettings settings, const std::string& reported,
            reactor::Effects& effects);

  Catalog& catalog_;
  const identity::Registrar& registrar_;
  std::map<std::string, Agent> agents_;     // By principal.
  std::set<std::string> revoked_sites_;     // Whose provider is revoked.
  std::map<std::string, Micros> reminded_;  // Revoked agent -> when its provider was told.
  std::map<std::string, msg::Policy> policies_;
  using Pair = std::pair<std::string, std::string>;
  std::map<Pair, std::vector<msg::ReplicaDisk>> disks_;     // By agent and VM.
  std::map<Pair, std::vector<msg::NetworkPair>> networks_;  // By source and target site.
  std::map<Told, Micros> told_;                             // -> when.
  std::set<Told> unknown_;  // Of items that are not on record, since the last refresh.
};

}  // namespace farside::vault
