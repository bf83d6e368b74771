// A whole installation in one thread: vault, orchestrator, two sites with a provider, an agent and
// a host each, an operator, and everything that may go wrong.  One seed, one history.
//
// The cores and the reactor are the real ones; clock, network, disks' commits, workers and hosts
// are simulated.  Safety is checked after every tick, liveness once heal() has ended the faults.
#pragma once

#include <functional>
#include <map>
#include <memory>
#include <set>
#include <string>
#include <vector>

#include "common/reactor/reactor.h"
#include "common/store/mem_store.h"
#include "services/vault/vault_core.h"
#include "tests/sim/agent_model.h"
#include "tests/sim/sim_net.h"

namespace farside::sim {

struct Faults {                    // Drawn from the seed; all zero once healed.
  double crash_before_commit = 0;  // Per process and tick.
  double crash_after_commit = 0;
  double cut = 0;   // Per tick: one more link.
  double mend = 0;  // Per tick: all links.
  double job_failure = 0;
  double job_crawls = 0;  // Jobs of a process take up to a minute.
  double clock_jump = 0;
  double meddling = 0;  // Somebody starts the source VM by hand.
  double cancel = 0;
};

class World final {
 public:
  explicit World(std::uint64_t seed);
  ~World();

  void run(int ticks);
  void heal();

  // The site is gone for good, with everything in it.  From now on the operator drills what was
  // protected there, then ends its protection.
  void lose(const std::string& site);
  bool is_protected() const;  // At least one point is durable, and no job is under way.
  bool is_done() const;       // The operator's story has ended.

  const std::string& violated() const { return violated_; }
  std::string story() const;  // Where everything stands, for a failing test's message.

  // What happened, so that tests can tell a seed that did nothing from one that did.
  struct Counts {
    std::uint64_t crashes = 0;
    std::uint64_t cycles = 0;
    std::uint64_t drills = 0;
    std::uint64_t failovers = 0;
    std::uint64_t jobs_failed = 0;
  };
  const Counts& counts() const { return counts_; }

 private:
  struct Process;
  struct Figures;

  void add(const std::string& name, std::function<std::unique_ptr<reactor::Core>()> make,
           std::function<SimWorkers::Begin()> jobs);
  void introduce_all();
  void boot(Process& process);
  void crash(Process& process);
  void turn(Process& process);
  void misbehave();
  void guests_write();
  void operate();
  void operate_without(const msg::ProtectedItem& item, const std::string& path);
  void call(const std::string& method, const std::string& path, const std::string& body);
  void check();
  void violation(const std::string& what);
  std::optional<msg::ProtectedItem> item() const;
  ModelReplica* replica_at(const std::string& host, const std::string& item);

  std::unique_ptr<Figures> figures_;  // Of all processes; nobody looks at them.
  std::uint64_t seed_;
  SeededRandom random_;
  SimClock clock_;
  SimNet net_;
  Faults faults_;
  Faults original_;
  std::map<std::string, ModelHost> hosts_;
  std::map<std::string, std::unique_ptr<AgentModel>> models_;
  std::vector<std::unique_ptr<Process>> processes_;
  std::string violated_;
  Counts counts_;
  std::uint64_t ticks_ = 0;
  std::uint64_t requests_ = 0;
  bool healed_ = false;
  std::string lost_;  // A site.
  std::uint64_t drills_before_loss_ = 0;

  // What the checkers remember.
  std::map<std::string, std::uint64_t> newest_seen_;  // Item -> seq.
  std::map<std::string, msg::FlowPhase> ended_jobs_;
  bool committed_seen_ = false;
  std::set<std::string> failed_over_;  // VMs that a failover made.
};

}  // namespace farside::sim
