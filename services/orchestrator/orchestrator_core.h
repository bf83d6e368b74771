// The orchestrator: runs workflows durably and tells the vault how they go.
//
// Owns: the flow engine's columns; through Membership, "membership" (whom the vault told it of).
// Thread: the reactor's.
// Messages in: PeersChanged, Start/Cancel/RestartWorkflow, JobNoted from the
// vault; replies and Progress from providers and agents.  Out: JobChanged to the vault;
// the steps' requests to vault, providers and (through them) agents.
// Invariant: only the vault starts, cancels or restarts a flow.
#pragma once

#include <map>
#include <string>

#include "common/flow/engine.h"
#include "common/identity/membership.h"
#include "common/identity/registrar.h"
#include "common/reactor/effects.h"
#include "common/store/table.h"
#include "services/orchestrator/probe.h"

namespace farside::orchestrator {

class OrchestratorCore final : public reactor::Core {
 public:
  // `probe` must outlive the core.
  explicit OrchestratorCore(Probe& probe, flow::EngineLimits limits = {});

  void start(reactor::Effects& effects) override;
  void on_message(const reactor::PeerId& peer, const msg::Envelope& envelope,
                  reactor::Effects& effects) override;
  void on_job(const std::string&, const Result<msg::Message>&, reactor::Effects&) override {}
  void on_timer(const std::string& name, reactor::Effects& effects) override;
  void on_peer(const reactor::PeerChange& change, reactor::Effects& effects) override;

  const flow::Engine& engine() const { return engine_; }

 private:
  void on_request(const reactor::PeerId& peer, const msg::Envelope& envelope,
                  reactor::Effects& effects);
  void tell_vault(reactor::Effects& effects);

  Probe& probe_;
  identity::Membership membership_;
  flow::Engine engine_;
  std::map<std::string, std::uint64_t> told_;  // Job -> revision sent to the vault lately.
  std::uint64_t ticks_ = 0;
};

}  // namespace farside::orchestrator
