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
//   * However many cycles run, fences, observation and orders find a worker.
#pragma once

#include <deque>
#include <map>
#include <optional>
#include <set>
#include <string>
#include <vector>

#include "common/identity/membership.h"
#include "common/reactor/effects.h"
#include "common/store/table.h"
#include "services/agent/probe.h"

namespace farside::agent {

struct AgentLimits {
  std::chrono::seconds observe_every{3};
  std::chrono::seconds fence_every{1};
  std::chrono::seconds unfenced_max{15};  // Fences not checked for so long are a problem.
  std::chrono::milliseconds status_every{1000};
  std::chrono::seconds maintain_every{15};
  std::chrono::minutes maintain_hung{5};  // What takes longer keeps its volume for itself no more.
  std::chrono::seconds store_again{5};    // After the store could not be read.
  std::chrono::minutes stalled_after{5};
  std::size_t cycles_max = 16;      // At once; well below the number of workers ...
  std::size_t full_cycles_max = 4;  // ... of which so many may read whole disks, for hours.
  std::chrono::hours reply_kept{24};
  std::size_t replies_pruned_max = 1000;  // Per pass.
};

class AgentCore final : public reactor::Core {
 public:
  // `probe` must outlive the core.
  AgentCore(std::string provider, std::string data_public_key, Probe& probe,
            AgentLimits limits = {});

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
  static Result<std::optional<msg::SourceFenced>> fence_of(const std::string& vm,
                                                           const store::Reader& store);
  Status check_replica(const std::string& item, std::uint64_t epoch,
                       const store::Reader& store) const;
  void on_order_done(const std::string& request, const Result<msg::Message>& result,
                     reactor::Effects& effects);
  Status apply(const msg::Message& order, const msg::Message& outcome, reactor::Effects& effects);
  void reply(const msg::Envelope& order, const Result<msg::Message>& outcome,
             reactor::Effects& effects);

  // ---- settings.cpp: what the vault wants us to know of an item ----
  void on_settings(const msg::ItemSettings& wanted, reactor::Effects& effects);
  void apply_settings(msg::SourceItem& source, const msg::ItemSettings& wanted,
                      reactor::Effects& effects);
  void pause(msg::SourceItem& source, reactor::Effects& effects);
  static void apply_settings(const msg::ReplicaItem& replica, const msg::ItemSettings& wanted,
                             reactor::Effects& effects);
  void on_settings_applied(const std::string& item, const Result<msg::Message>& result,
                           reactor::Effects& effects);

  // ---- cycles.cpp: when the next delta runs ----
  bool has_slot(const msg::SourceItem& item) const;
  void start_due(reactor::Effects& effects);
  void cancel_cycle(const std::string& item, reactor::Effects& effects);
  enum class CycleKind {
    kPlain,
    kDigest,  // Also tells the digest of its point.
    kFinal,   // Of a VM that is shut down; the digest, too.
  };
  void start_cycle(msg::SourceItem& item, CycleKind kind, reactor::Effects& effects);
  void schedule(const std::string& item, Micros delay, reactor::Effects& effects);
  void on_cycle_timer(const std::string& item, reactor::Effects& effects);
  void on_cycle_done(const std::string& item, const Result<msg::Message>& result,
                     reactor::Effects& effects);
  void succeed_cycle(msg::SourceItem& item, const msg::CycleDone& done, reactor::Effects& effects);
  void fail_cycle(msg::SourceItem& item, const Error& error, reactor::Effects& effects);
  void answer_initial(const msg::SourceItem& item, const std::optional<Error>& error,
                      reactor::Effects& effects);
  void answer_waiting(const msg::SourceItem& item, const std::optional<Error>& error,
                      const std::string& digest, reactor::Effects& effects);
  void resume_deferred(const std::string& item, reactor::Effects& effects);
  void begin_now(msg::SourceItem& item, reactor::Effects& effects);

  // ---- life.cpp: whether a test VM lives ----
  Status await_life(const msg::AwaitLife& order, const msg::Envelope& envelope,
                    reactor::Effects& effects);
  void look_for_life(const std::string& item, reactor::Effects& effects);
  void on_life(const std::string& item, const Result<msg::Message>& result,
               reactor::Effects& effects);

  // ---- agent_core.cpp ----
  void on_observed(const Result<msg::Message>& result, reactor::Effects& effects);
  void on_fences(const Result<msg::Message>& result, reactor::Effects& effects);
  void fence_problem(const std::string& problem, reactor::Effects& effects);
  void note_strays(const std::vector<std::string>& stopped, reactor::Effects& effects);
  std::string host_problems() const;
  void add_strays(msg::HostReport& report) const;
  void report_host(reactor::Effects& effects);
  void on_progress(const msg::Progress& progress, reactor::Effects& effects);
  void report_status(reactor::Effects& effects);
  msg::ReplicationStatus status_of(const msg::SourceItem& source, reactor::Effects& effects);
  void still_alive(const msg::SourceItem& source, const msg::ReplicationStatus& status,
                   reactor::Effects& effects);
  void reconcile(reactor::Effects& effects);
  void on_reconciled(const Result<msg::Message>& result, reactor::Effects& effects);
  void maintain(reactor::Effects& effects);
  void start_upkeep(reactor::Effects& effects);
  void take_kept(msg::ReplicaItem& replica, const msg::ReplicaStatus& status,
                 reactor::Effects& effects);
  void take_upkeep(const std::string& item, const Result<msg::Message>& result,
                   reactor::Effects& effects);
  void on_maintained(const std::string& item, const Result<msg::Message>& result,
                     reactor::Effects& effects);
  void prune_replies(reactor::Effects& effects);
  void upwards(const std::string& to, msg::Message body, reactor::Effects& effects) const;
  void forget_running(const std::string& item);

  struct Running {  // A cycle under way.
    CycleKind kind = CycleKind::kPlain;
    bool full = false;  // Reads whole disks.
    std::string attempt;
    Time started;
    Micros moved{};  // Monotonic: when it last got on.
    std::uint64_t done = 0;
    std::uint64_t total = 0;
  };
  bool is_stalled(const std::string& item, const reactor::Effects& effects) const;

  std::string provider_;
  std::string data_public_key_;
  Probe& probe_;
  AgentLimits limits_;
  identity::Membership membership_;
  store::Table<msg::SourceItem> sources_{"source"};
  store::Table<msg::ReplicaItem> replicas_{"replica"};

  // Memory only: requests are repeated by whoever waits, cycles begin anew after a restart.
  bool replicas_open_ = false;  // Sources are let in; ...
  bool reconciled_ = false;     // ... the host is in order, too.
  std::string not_reconciled_ = "it looks at what it left on its host";
  Micros fences_checked_{};                       // Monotonic.
  std::string fence_problem_;                     // Why fences are not known to hold.
  std::string reconcile_problem_;                 // Why the host is not in order yet.
  std::map<std::string, Time> strays_;            // Fenced VMs found running, and when, last.
  std::string host_problem_;                      // Why the host cannot be observed.
  std::optional<msg::HostReport> host_;           // As it was observed last.
  std::map<std::string, msg::Envelope> orders_;   // Request id -> order at the workers.
  std::map<std::string, Running> cycles_;         // By item.
  std::deque<std::string> due_;                   // Items whose next cycle waits for a slot.
  std::map<std::string, msg::Envelope> initial_;  // Item -> AwaitInitial to answer.
  std::map<std::string, msg::Envelope> final_;    // Item -> FinalSync to answer.
  std::map<std::string, msg::Envelope> synced_;   // Item -> SyncSource to answer.
  std::map<std::string, std::vector<msg::Envelope>> deferred_;  // Until the item's cycle ended.
  struct Life {                                                 // An AwaitLife to answer.
    msg::Envelope envelope;
    std::string vm;
    Micros until{};  // Monotonic.
  };
  std::map<std::string, Life> lives_;  // By item.
  std::map<std::string, msg::ReplicaStatus> replica_status_;
  struct Upkeep {  // Of a replica, due or under way.
    std::string item;
    std::string path;  // Of its storage.
    Micros since{};    // Monotonic: when it began.
  };
  std::deque<Upkeep> upkeep_due_;
  std::map<std::string, Upkeep> upkeep_;  // Under way, by item.
};

}  // namespace farside::agent
