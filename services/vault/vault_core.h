// The vault: system of record and front door.  Never receives VM data.
//
// Owns: the catalog's columns, "job_unaccepted", "newest_point"; through Registrar keys and
// identities. Thread: the reactor's. Messages in: Register, RotateKey, InventoryReport,
// StatusReport, ReplicaReport, JobChanged, RecordItem, replies to what it asked; HttpRequest from
// its own front door.  Out: Registered, KeyRotated, PeersChanged, StartWorkflow, CancelWorkflow,
// RestartWorkflow, JobNoted, RevokeAgent, ItemSettings; HttpResponse.
#pragma once

#include "common/base/write_pace.h"
#include "common/identity/registrar.h"
#include "common/reactor/effects.h"
#include "services/vault/catalog.h"
#include "services/vault/job_desk.h"
#include "services/vault/point_watch.h"
#include "services/vault/probe.h"
#include "services/vault/rest/rest.h"
#include "services/vault/settings_desk.h"

namespace farside::vault {

class VaultCore final : public reactor::Core {
 public:
  // `probe` must outlive the core.
  VaultCore(VaultSettings settings, identity::Issuer issuer, Probe& probe);

  void start(reactor::Effects& effects) override;
  void on_message(const reactor::PeerId& peer, const msg::Envelope& envelope,
                  reactor::Effects& effects) override;
  void on_job(const std::string& id, const Result<msg::Message>& result,
              reactor::Effects& effects) override;
  void on_timer(const std::string& name, reactor::Effects& effects) override;
  void on_peer(const reactor::PeerChange& change, reactor::Effects& effects) override;

  const Catalog& catalog() const { return catalog_; }

 private:
  Result<msg::Message> admit(const reactor::PeerId& peer, const msg::Register& wanted,
                             reactor::Effects& effects);
  Result<msg::Message> answer(const reactor::PeerId& peer, const msg::Envelope& envelope,
                              reactor::Effects& effects);
  void on_report(const reactor::PeerId& peer, const msg::Envelope& envelope,
                 reactor::Effects& effects);
  void on_inventory(const reactor::PeerId& peer, msg::Inventory inventory,
                    reactor::Effects& effects);
  void note_fences(const msg::HostEntry& host);
  std::vector<msg::Peer> peers_for(msg::Role role, reactor::Effects& effects) const;
  void find_stuck(const std::vector<msg::ProtectedItem>& items, const store::Reader& store);
  void introduce(reactor::Effects& effects);

  Probe& probe_;
  identity::Issuer issuer_;
  identity::Registrar registrar_;
  Catalog catalog_;
  PointWatch points_;
  JobDesk desk_;
  SettingsDesk settings_;
  WritePace pace_;
  Rest rest_;
};

}  // namespace farside::vault
