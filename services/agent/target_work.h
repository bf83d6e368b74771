// What an agent's workers do for replicas that this host keeps.
//
// Owns: the replica stores, one per storage path, under <path>/farside-replicas; the disks of VMs
// made from replicas, under <path>/farside-vms/<vm>.  Thread: any worker; orders for one item are
// serialised here.
#pragma once

#include <atomic>
#include <functional>
#include <map>
#include <memory>
#include <mutex>
#include <stop_token>
#include <string>

#include "common/base/clock.h"
#include "common/reactor/effects.h"
#include "services/agent/budget.h"
#include "services/agent/data_plane/receiver.h"
#include "services/agent/platforms/platform.h"
#include "services/agent/replica_store/replica_store.h"
#include "services/agent/source_work.h"
#include "services/agent/view/views.h"

namespace farside::agent {

// Where the disks of a VM made from a replica lie.
std::string vm_folder(const msg::ReplicaItem& replica, const std::string& vm);

// Of the VM that is built to prove that the item's could be: the same after every restart, so that
// what a crash left behind is found and removed.
std::string proof_id(const std::string& item);

// Of one answer, which has to fit into a frame: the newest of them.
inline constexpr std::size_t kPointsListedMax = 100'000;

class TargetWork final {
 public:
  struct Settings {
    std::string endpoint;                             // Of the data port, as sources reach it.
    std::string public_key;                           // Of the data port.
    std::vector<std::string> storage{};               // Where replicas may lie; none: anywhere.
    std::string log_folder;                           // For serial logs of VMs made here.
    Micros prove_gap = std::chrono::minutes{2};       // Between two proofs of one item, at least.
    Micros detach_stalled = std::chrono::minutes{1};  // Without a byte copied it is given up.
    std::uint64_t upkeep_per_second = std::uint64_t{64} << 20U;  // Bytes, of each volume.
    Micros upkeep_turn = std::chrono::seconds{10};               // Shared by a volume's replicas.
  };
  TargetWork(Settings settings, Platform& platform, replica::Views& views, const Clock& clock,
             Report report)
      : settings_(std::move(settings)),
        platform_(platform),
        views_(views),
        clock_(clock),
        report_(std::move(report)) {}

  // The receiver asks this object for items, so it is made later.
  void attach(data::Receiver& receiver) { receiver_ = &receiver; }
  void set_endpoint(std::string endpoint) { settings_.endpoint = std::move(endpoint); }
  Result<replica::SharedItem> open_item(const std::string& item,
                                        const std::vector<msg::ReplicaDisk>& disks);

  Result<msg::Message> run(const msg::Reconcile& job);
  Result<msg::Message> run(const msg::ItemSettings& settings);
  Result<msg::Message> run(const msg::PrepareReplica& order);
  Result<msg::Message> run(const msg::RemoveReplica& order);
  Result<msg::Message> run(const msg::VerifyPoint& order, const std::string& job);
  Result<msg::Message> run(const msg::PromoteReplica& order);
  Result<msg::Message> run(const msg::DemoteReplica& order);
  Result<msg::Message> run(const msg::StartReplica& order);
  Result<msg::Message> run(const msg::DetachReplica& order, const std::string& job);
  Result<msg::Message> run(const msg::CommitReplica& order, const std::string& job);
  Result<msg::Message> run(const msg::StartTestVm& order);
  Result<msg::Message> run(const msg::RemoveTestVm& order);
  Result<msg::Message> run(const msg::ListPoints& order);
  Result<msg::Message> run(const msg::ProveReplica& order, const std::string& job);
  Result<msg::Message> run(const msg::AwaitLife& order);  // Looks once.
  Result<msg::Message> run(const msg::MaintainReplica& job);

  void cancel_all() { stop_.request_stop(); }

 private:
  struct Kept {
    msg::ReplicaItem replica;      // As the core knows it; guarded by mutex_.
    std::mutex busy;               // One order at a time.
    std::atomic<int> waiting = 0;  // Orders that want to: maintenance makes way for them.
    // How long it stays after a commit, by a clock that does not jump; used under `busy`.
    std::int64_t stays_until = 0;  // Which kept_until this is of.
    Micros stays{};
  };
  using Turn = std::unique_lock<std::mutex>;
  static Turn turn_of(Kept& kept);
  static void wait_or_stop(const std::stop_token& stop, Micros time);
  struct Boot {  // A VM to make from a recovery point.
    std::string view;
    std::string vm;
    std::string name;
    std::uint64_t seq = 0;
    bool is_test = false;
    std::vector<msg::Nic> nics;  // Of each card, by its address: its network on this host.
  };

  Result<std::shared_ptr<Kept>> kept(const std::string& item);
  std::shared_ptr<Kept> keep(const msg::ReplicaItem& replica);
  msg::ReplicaItem replica_of(const Kept& kept);
  template <class Change>
  msg::ReplicaItem change(Kept& kept, const Change& change);
  Status check_storage(const std::string& path) const;
  Status admit(const msg::ReplicaItem& replica);
  static Status check_order(const msg::ReplicaItem& replica,
                            const std::vector<msg::ReplicaDisk>& disks);
  // ---- upkeep.cpp
  struct Pace;  // How long maintenance of one replica may go on, and how fast.
  Status fold(replica::Item& item, const msg::ReplicaItem& replica, Pace& pace) const;
  bool is_scrub_due(const msg::ReplicaItem& replica) const;
  Status scrub(replica::Item& item, msg::ReplicaItem& replica, Pace& pace) const;
  static void note_findings(const std::vector<std::string>& findings, msg::ReplicaItem& replica);
  bool is_over(Kept& entry, std::int64_t kept_until) const;
  Result<msg::Message> keep_or_drop(Kept& entry, const msg::ReplicaItem& replica);
  msg::ReplicaStatus status_of(replica::Item& item, const msg::ReplicaItem& replica) const;
  Micros turn_length(const std::string& storage_path);
  Budget& budget_of(const std::string& storage_path);  // Lives as long as this.
  Error stalled(replica::Item* item, const std::string& vm) const;

  replica::Limits limits();
  Status release_unknown(const std::string& item);
  Result<replica::ReplicaStore*> store_at(const std::string& storage_path);
  Result<replica::SharedItem> item_of(const msg::ReplicaItem& replica);
  // ---- replica_vm.cpp
  Result<NewVm> vm_at(const replica::SharedItem& item, const msg::ReplicaItem& replica,
                      const Boot& wanted);
  Result<NewVm> vm_to_be(const replica::SharedItem& item, const msg::ReplicaItem& replica,
                         std::uint64_t seq, const msg::ProveReplica& order);
  static NewVm first_vm(const msg::PrepareReplica& order, const msg::ReplicaItem& replica);
  Status prove(const NewVm& vm, const msg::ReplicaItem& replica);
  static void remove_proof_files(const msg::ReplicaItem& replica);
  void prove_if_due(const replica::SharedItem& item, msg::ReplicaItem& replica);

  Result<std::uint64_t> boot(const msg::ReplicaItem& replica, const Boot& wanted);
  Status detach(replica::Item* item, const std::string& vm, const std::string& job);
  Result<std::string> set_free(const msg::ReplicaItem& replica, const std::string& vm,
                               const std::string& job);
  Status close_views(const msg::ReplicaItem& replica);
  Status drop(const msg::ReplicaItem& replica);

  Settings settings_;
  Platform& platform_;
  replica::Views& views_;
  const Clock& clock_;
  Report report_;
  data::Receiver* receiver_ = nullptr;
  std::stop_source stop_;

  std::mutex mutex_;                           // Of the maps and all records in them.
  std::map<std::string, Micros> prove_again_;  // By item; monotonic: after a proof that failed.
  std::map<std::string, std::unique_ptr<replica::ReplicaStore>> stores_;  // By storage path.
  std::map<std::string, std::shared_ptr<Kept>> kept_;                     // By item.
  std::map<std::string, Budget> budgets_;                                 // By volume.
};

template <class Change>
msg::ReplicaItem TargetWork::change(Kept& kept, const Change& change) {
  const std::lock_guard lock(mutex_);
  change(kept.replica);
  return kept.replica;
}

}  // namespace farside::agent
