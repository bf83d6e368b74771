// The agent: keeps the promises of replication for one host; everything slow runs in its workers.
//
//   core (this file)                      workers (AgentWorker)
//   what is replicated where, epochs,     platform calls, cycles (read, hash, ship), the replica
//   when the next cycle runs, retries,    store, views, test and replica VMs
//   repeated replies
//
// Owns: columns "source" and "replica" (items), "reply" (answers that may have to be repeated),
// "fence" (epochs of fenced VMs); through Membership its own identity.  Thread: the reactor's.
// Invariants
//   * One cycle per item at a time; none while its VM is being shut down, but the final one.
//   * An order that carries an older epoch than the newest seen for the item is refused.
//   * A success is stored together with its effect and repeated to whoever asks again.
#pragma once

#include <map>
#include <optional>
#include <set>
#include <string>
#include <vector>

#include "common/identity/membership.h"
#include "common/reactor/effects.h"
#include "common/store/table.h"

namespace farside::agent {

struct AgentLimits {
  std::chrono::seconds observe_every{3};
  std::chrono::seconds fence_every{1};
  std::chrono::milliseconds status_every{1000};
  std::chrono::seconds maintain_every{15};
  std::chrono::hours reply_kept{24};
  std::size_t replies_pruned_max = 1000;  // Per pass.
};

class AgentCore final : public reactor::Core {
 public:
  AgentCore(std::string provider, std::string data_public_key, AgentLimits limits = {});

  void start(reactor::Effects& effects) override;
  void on_message(const reactor::PeerId& peer, const msg::Envelope& envelope,
                  reactor::Effects& effects) override;
  void on_job(const std::string& id, const Result<msg::Message>& result,
              reactor::Effects& effects) override;
  void on_timer(const std::string& name, reactor::Effects& effects) override;
  void on_peer(const reactor::PeerChange& change, reactor::Effects& effects) override;

 private:
  // ---- orders.cpp: what vault and orchestrator ask ----
  void on_order(const msg::Envelope& envelope, reactor::Effects& effects);
  Result<std::optional<msg::Message>> decide(const msg::Envelope& envelope,
                                             reactor::Effects& effects);
  Status check_replica(const std::string& item, std::uint64_t epoch,
                       const store::Reader& store) const;
  void on_order_done(const std::string& request, const Result<msg::Message>& result,
                     reactor::Effects& effects);
  Status apply(const msg::Message& order, const msg::Message& outcome, reactor::Effects& effects);
  void reply(const msg::Envelope& order, const Result<msg::Message>& outcome,
             reactor::Effects& effects);

  // ---- cycles.cpp: when the next delta runs ----
  void start_cycle(msg::SourceItem& item, bool final, reactor::Effects& effects);
  void schedule(const std::string& item, Micros delay, reactor::Effects& effects);
  void on_cycle_timer(const std::string& item, reactor::Effects& effects);
  void on_cycle_done(const std::string& item, const Result<msg::Message>& result,
                     reactor::Effects& effects);
  void succeed_cycle(msg::SourceItem& item, const msg::CycleDone& done, reactor::Effects& effects);
  void fail_cycle(msg::SourceItem& item, const Error& error, reactor::Effects& effects);
  void answer_waiting(const msg::SourceItem& item, const std::optional<Error>& error,
                      const std::string& digest, reactor::Effects& effects);
  void resume_deferred(const std::string& item, reactor::Effects& effects);

  // ---- agent_core.cpp ----
  void on_progress(const msg::Progress& progress, reactor::Effects& effects);
  void report_status(reactor::Effects& effects);
  void maintain(reactor::Effects& effects);
  void prune_replies(reactor::Effects& effects);
  void upwards(const std::string& to, msg::Message body, reactor::Effects& effects) const;
  void forget_running(const std::string& item);

  struct Running {  // A cycle under way.
    bool final = false;
    Time started;
    std::uint64_t done = 0;
    std::uint64_t total = 0;
  };

  std::string provider_;
  std::string data_public_key_;
  AgentLimits limits_;
  identity::Membership membership_;
  store::Table<msg::SourceItem> sources_{"source"};
  store::Table<msg::ReplicaItem> replicas_{"replica"};

  // Memory only: requests are repeated by whoever waits, cycles begin anew after a restart.
  bool reconciled_ = false;
  std::map<std::string, msg::Envelope> orders_;   // Request id -> order at the workers.
  std::map<std::string, Running> cycles_;         // By item.
  std::map<std::string, msg::Envelope> initial_;  // Item -> AwaitInitial to answer.
  std::map<std::string, msg::Envelope> final_;    // Item -> FinalSync to answer.
  std::map<std::string, std::vector<msg::Envelope>> deferred_;  // Until the item's cycle ended.
  std::map<std::string, msg::ReplicaStatus> replica_status_;
};

}  // namespace farside::agent
