// The provider: owns its site's inventory, places replicas, and passes messages on to its agents.
//
// Owns: columns "site", "host", "placement"; through Registrar the agents' identities; through
// Membership its own.  Thread: the reactor's.
// Messages in: Register, RotateKey, HostReport and relayed reports from agents; PlaceReplica,
// ReleasePlacement, ResolveNetworks, IssueToken, RevokeAgent from vault and orchestrator; anything
// addressed to an agent of this site.  Out: InventoryReport to the vault; whatever is passed on.
// Invariants: an agent speaks only for itself, and its data key is the one it was admitted with;
// nobody but vault and orchestrator reaches agents; a revoked agent has no host in the inventory.
#pragma once

#include <map>
#include <string>

#include "common/base/write_pace.h"
#include "common/identity/membership.h"
#include "common/identity/registrar.h"
#include "common/reactor/effects.h"
#include "common/store/table.h"
#include "services/provider/probe.h"
#include "services/provider/report_room.h"

namespace farside::provider {

class ProviderCore final : public reactor::Core {
 public:
  // `probe` must outlive the core.
  ProviderCore(std::string site, identity::Issuer issuer, Probe& probe);

  void start(reactor::Effects& effects) override;
  void on_message(const reactor::PeerId& peer, const msg::Envelope& envelope,
                  reactor::Effects& effects) override;
  void on_job(const std::string& id, const Result<msg::Message>& result,
              reactor::Effects& effects) override;
  void on_timer(const std::string& name, reactor::Effects& effects) override;
  void on_peer(const reactor::PeerChange& change, reactor::Effects& effects) override;

  // The site as it is known now.
  Result<msg::Inventory> inventory(const store::Reader& store) const;

 private:
  void pass_on(const reactor::PeerId& peer, const msg::Envelope& envelope,
               reactor::Effects& effects);
  void explain_silence(const reactor::PeerId& peer, const msg::Envelope& envelope,
                       reactor::Effects& effects) const;
  void on_host_report(const reactor::PeerId& peer, const msg::HostReport& report,
                      reactor::Effects& effects);
  void drop_hosts_of_revoked(reactor::Effects& effects);
  void judge_key(const msg::Identity& agent, const std::string& claimed, msg::HostState& host);
  Result<msg::Message> revoke(const msg::RevokeAgent& wanted, reactor::Effects& effects);
  Result<msg::Message> answer(const reactor::PeerId& peer, const msg::Envelope& envelope,
                              reactor::Effects& effects);
  Result<msg::Message> answer_site(const msg::Envelope& envelope, reactor::Effects& effects);
  Result<msg::Message> place_replica(const msg::PlaceReplica& wanted, reactor::Effects& effects);
  Result<msg::Message> resolve(const msg::ResolveNetworks& wanted, reactor::Effects& effects);

  struct Presence {
    bool connected = false;
    Time silent_since;
  };

  Probe& probe_;
  std::string site_;
  identity::Issuer issuer_;
  identity::Membership membership_;
  identity::Registrar registrar_;
  store::Table<msg::SiteDefinition> sites_{"site"};
  store::Table<msg::HostEntry> hosts_{"host"};
  store::Table<msg::Placement> placements_{"placement"};
  std::map<std::string, Presence> presence_;     // By principal of an agent; memory only.
  std::map<std::string, std::string> odd_keys_;  // Data keys that agents claim; said once.
  ReportRoom room_;
  WritePace pace_;
  std::string site_fault_;  // What is wrong with the site file, once logged.
};

}  // namespace farside::provider
