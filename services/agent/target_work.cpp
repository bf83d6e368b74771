#include "services/agent/target_work.h"

#include <fmt/format.h>

#include <algorithm>
#include <condition_variable>
#include <filesystem>

#include "common/base/file_name.h"
#include "common/base/log.h"
#include "common/flow/fault.h"
#include "services/agent/replica_order.h"

namespace farside::agent {
namespace {

constexpr std::string_view kTestView = "test";
constexpr std::string_view kFailoverView = "failover";
constexpr Micros kDetachPoll = std::chrono::milliseconds{500};

std::vector<msg::ReplicaDisk> disks_of(const msg::Vm& vm) {
  std::vector<msg::ReplicaDisk> disks;
  for (const auto& disk : vm.disks) {
    disks.push_back({.name = disk.name, .bytes = disk.bytes, .id = disk.id});
  }
  return disks;
}

}  // namespace

std::string vm_folder(const msg::ReplicaItem& replica, const std::string& vm) {
  return replica.storage_path + "/farside-vms/" + vm;
}

// ---- Which replicas there are ----

replica::Limits TargetWork::limits() {
  replica::Limits limits;
  limits.make_hash_key = replica::BlockHash::make_key;
  if (auto* bases = platform_.base_disks()) limits.bases = bases;
  return limits;
}

Result<replica::ReplicaStore*> TargetWork::store_at(const std::string& storage_path) {
  const std::lock_guard lock(mutex_);
  auto& store = stores_[storage_path];
  if (!store) {
    auto opened = replica::ReplicaStore::open(storage_path + "/farside-replicas", limits());
    if (!opened) {
      stores_.erase(storage_path);
      return fail(opened.error());
    }
    store = std::move(*opened);
  }
  return store.get();
}

Result<std::shared_ptr<TargetWork::Kept>> TargetWork::kept(const std::string& item) {
  const std::lock_guard lock(mutex_);
  const auto found = kept_.find(item);
  if (found != kept_.end()) return found->second;
  return fail(ErrorCode::kNotFound, "no replica of item '" + item + "' on this host",
              "enable protection first");
}

std::shared_ptr<TargetWork::Kept> TargetWork::keep(const msg::ReplicaItem& replica) {
  const std::lock_guard lock(mutex_);
  auto& entry = kept_[replica.item];
  if (!entry) entry = std::make_shared<Kept>();
  entry->replica = replica;
  return entry;
}

msg::ReplicaItem TargetWork::replica_of(const Kept& kept) {
  const std::lock_guard lock(mutex_);
  return kept.replica;
}

void TargetWork::wait_or_stop(const std::stop_token& stop, Micros time) {
  std::mutex alone;  // Guards nothing: it is there to be woken at once by a stop.
  std::unique_lock lock(alone);
  std::condition_variable_any().wait_for(lock, stop, time, [] { return false; });
}

// An order waits for the order before it, and for a slice of maintenance at most.
TargetWork::Turn TargetWork::turn_of(Kept& kept) {
  ++kept.waiting;
  Turn turn(kept.busy);
  --kept.waiting;
  return turn;
}

Result<replica::SharedItem> TargetWork::item_of(const msg::ReplicaItem& replica) {
  FARSIDE_ASSIGN(auto* store, store_at(replica.storage_path));
  return store->find(replica.item);
}

// Lets the source in, or keeps it out: after a promotion nothing of an older epoch is taken.
Status TargetWork::admit(const msg::ReplicaItem& replica) {
  if (replica.promoted || replica.peer_revoked || replica.committed) {
    receiver_->forbid(replica.item);
    return {};
  }
  return receiver_->allow(replica.item, replica.source_key, replica.epoch);
}

// Called by the receiver when a source opens its session.  A replica that is not where it was is
// away with its volume: it is never begun anew behind the operator's back.
Result<replica::SharedItem> TargetWork::open_item(const std::string& item,
                                                  const std::vector<msg::ReplicaDisk>& disks) {
  FARSIDE_ASSIGN(const auto entry, kept(item));
  const auto replica = replica_of(*entry);
  FARSIDE_TRY(check_order(replica, disks));
  const auto& path = replica.storage_path;
  FARSIDE_ASSIGN(auto* store, store_at(path));
  auto found = store->find(item);
  if (!found && found.error().code == ErrorCode::kNotFound) {
    return fail(ErrorCode::kUnavailable, "the replica is not in " + path + " any more",
                "mount the volume or bring its files back; replication goes on by itself");
  }
  if (!found) return found;
  FARSIDE_TRY((*found)->limit_journal(replica.policy, clock_.now()));
  return found;
}

// What a point may consist of is not for its source to say: the vault orders it.
Status TargetWork::check_order(const msg::ReplicaItem& replica,
                               const std::vector<msg::ReplicaDisk>& disks) {
  for (const auto& disk : disks) {
    const auto ordered = std::ranges::find_if(replica.disks, [&](const msg::ReplicaDisk& each) {
      return each.name == disk.name && each.id == disk.id;
    });
    if (ordered != replica.disks.end() && disk.bytes == ordered->bytes) continue;
    return fail(ErrorCode::kUnavailable,
                fmt::format("disk {} of item '{}' with {} bytes is not ordered here", disk.name,
                            replica.item, disk.bytes),
                "the vault orders it once the source's host has told of it, within seconds");
  }
  return {};
}

// The replicas first: a hypervisor that does not answer keeps no source from replicating here.
Result<msg::Message> TargetWork::run(const msg::Reconcile& job) {
  for (const auto& replica : job.replicas) {
    keep(replica);
    if (replica.committed) continue;
    if (const auto admitted = admit(replica); !admitted) {
      log::error("source not admitted", {{"item", replica.item}, {"cause", admitted.error()}});
    }
    auto item = item_of(replica);
    if (!item) {  // One broken replica must not keep the others down; maintenance tries again.
      log::error("replica cannot be opened", {{"item", replica.item}, {"cause", item.error()}});
      continue;
    }
    // A view whose VM was never recorded belongs to nobody.
    if (replica.test_vm.empty()) {
      if (const auto closed = views_.close(**item, std::string(kTestView)); !closed) {
        log::error("view cannot be closed", {{"item", replica.item}, {"cause", closed.error()}});
      }
    }
    if (const auto revived = views_.revive(**item); !revived) {
      log::error("view cannot be served", {{"item", replica.item}, {"cause", revived.error()}});
    }
  }
  msg::Reconciled done;
  if (const auto cleaned = platform_.reconcile(job.keep_vms); !cleaned) {
    done.platform_fault = flow::to_fault(cleaned.error());
  } else {  // VMs that a crash left half proven are gone now.
    for (const auto& replica : job.replicas) remove_proof_files(replica);
  }
  return reactor::message(std::move(done));
}

// Answers with the settings, which the core records once the data port works by them.
Result<msg::Message> TargetWork::run(const msg::ItemSettings& settings) {
  FARSIDE_ASSIGN(const auto entry, kept(settings.item));
  const auto busy = turn_of(*entry);
  FARSIDE_TRY(
      admit(change(*entry, [&](msg::ReplicaItem& replica) { take_order(replica, settings); })));
  return reactor::message(settings);
}

// Whoever ordered it has the path from a provider: this host's operator has said where.
Status TargetWork::check_storage(const std::string& path) const {
  if (settings_.storage.empty() ||
      std::ranges::find(settings_.storage, path) != settings_.storage.end())
    return {};
  return fail(ErrorCode::kForbidden, "'" + path + "' is not among the `storage` of this host",
              "add it to `storage` of this agent's configuration, or correct the site's storage "
              "class");
}

Result<msg::Message> TargetWork::run(const msg::PrepareReplica& order) {
  const msg::ReplicaItem replica{.item = order.item,
                                 .vm = order.vm,
                                 .epoch = order.epoch,
                                 .storage_path = order.storage_path,
                                 .source_key = order.source_key,
                                 .policy = order.policy,
                                 .disks = disks_of(order.vm),
                                 .networks = order.networks,
                                 .vm_name = order.vm_name};
  FARSIDE_TRY(check_storage(order.storage_path));
  const auto entry = keep(replica);
  const auto busy = turn_of(*entry);
  FARSIDE_ASSIGN(auto* store, store_at(order.storage_path));
  FARSIDE_ASSIGN(const auto item, store->create(order.item, replica.disks));
  // Before anything is sent: a VM that could not be built here is not protected here.
  if (item->newest().seq == 0 && !order.definition.platform.empty()) {
    FARSIDE_TRY(prove(first_vm(order, replica), replica));
  }
  FARSIDE_TRY(admit(replica));
  return reactor::message(msg::ReplicaPrepared{
      .item = order.item, .endpoint = settings_.endpoint, .public_key = settings_.public_key});
}

// The VM of a failover whose record this agent has lost, and with it the view: it becomes its
// operator's once it needs none.
Status TargetWork::release_unknown(const std::string& item) {
  const auto vm = platform_.describe_vm(item);
  if (!vm || !vm->is_replica || vm->is_test) return {};
  FARSIDE_ASSIGN(const auto moved, platform_.detach_view(item));
  if (!moved.finished) {
    return fail(ErrorCode::kBusy,
                "the disks of VM '" + vm->name +
                    "' are moved off its replica, of which this agent "
                    "has lost its record: " +
                    std::to_string(moved.done >> 20U) + " of " +
                    std::to_string(moved.total >> 20U) + " MiB",
                "let it run meanwhile, and try again");
  }
  FARSIDE_TRY(platform_.release_vm(item));
  return {};
}

Result<msg::Message> TargetWork::run(const msg::RemoveReplica& order) {
  for (const auto& vm : {order.vm, order.test_vm}) {
    if (!vm.empty()) FARSIDE_TRY(check_file_name("VM", vm));
  }
  receiver_->forbid(order.item);
  const auto entry = kept(order.item);
  if (!entry) {
    FARSIDE_TRY(release_unknown(order.item));
    return reactor::message(msg::ReplicaRemoved{.item = order.item});
  }
  const auto busy = turn_of(**entry);
  const auto replica = replica_of(**entry);
  if (!order.test_vm.empty()) {
    FARSIDE_TRY(platform_.destroy_vm(order.test_vm, true));
    std::error_code ec;
    std::filesystem::remove_all(vm_folder(replica, order.test_vm), ec);
  }
  if (!order.vm.empty()) {
    const auto removed = order.keep_vm ? fail(ErrorCode::kForbidden, "it is to stay")
                                       : platform_.destroy_vm(order.vm, true);
    if (removed) {  // It was never whole, so it never ran.
      std::error_code ec;
      std::filesystem::remove(vm_folder(replica, order.vm), ec);  // Empty then.
    } else if (removed.error().code != ErrorCode::kForbidden) {
      return fail(removed.error());
    } else {
      FARSIDE_TRY(set_free(replica, order.vm, ""));
    }
  }
  FARSIDE_TRY(drop(replica));
  const std::lock_guard lock(mutex_);
  kept_.erase(order.item);
  return reactor::message(msg::ReplicaRemoved{.item = order.item});
}

// ---- Epochs ----

// The epoch becomes durable with the core's record of it; from here on no delta is taken.
Result<msg::Message> TargetWork::run(const msg::PromoteReplica& order) {
  FARSIDE_ASSIGN(const auto entry, kept(order.item));
  const auto busy = turn_of(*entry);
  FARSIDE_TRY(admit(change(*entry, [&](msg::ReplicaItem& replica) {
    replica.promoted = true;
    replica.epoch = order.epoch;
  })));
  return reactor::message(msg::ReplicaPromoted{.item = order.item, .epoch = order.epoch});
}

Result<msg::Message> TargetWork::run(const msg::DemoteReplica& order) {
  FARSIDE_ASSIGN(const auto entry, kept(order.item));
  const auto busy = turn_of(*entry);
  FARSIDE_TRY(admit(change(*entry, [&](msg::ReplicaItem& replica) {
    replica.promoted = false;
    replica.epoch = order.epoch;
  })));
  return reactor::message(msg::ReplicaDemoted{.item = order.item});
}

Result<msg::Message> TargetWork::run(const msg::ListPoints& order) {
  // Beside whatever order is under way: those may take hours.
  FARSIDE_ASSIGN(const auto entry, kept(order.item));
  FARSIDE_ASSIGN(const auto item, item_of(replica_of(*entry)));
  auto points = item->newest_points(kPointsListedMax + 1);
  if (points.size() > kPointsListedMax) {
    log::warn("oldest points are not listed", {{"item", order.item}, {"listed", kPointsListedMax}});
    points.erase(points.begin());
  }
  return reactor::message(msg::Points{.item = order.item, .points = std::move(points)});
}

// ---- VMs made from recovery points ----

Result<std::uint64_t> TargetWork::boot(const msg::ReplicaItem& replica, const Boot& wanted) {
  FARSIDE_TRY(check_file_name("VM", wanted.vm));
  FARSIDE_ASSIGN(const auto item, item_of(replica));
  auto seq = wanted.seq;
  const auto pins = item->pins();
  if (seq == 0) {
    // Asked again after a crash, the same point is booted.
    const auto pin = pins.find(wanted.view);
    seq = pin != pins.end() ? pin->second : item->newest().seq;
  }
  if (seq == 0) {
    return fail(ErrorCode::kConflict, "item '" + replica.item + "' has no recovery point yet",
                "wait for its initial replication");
  }
  FARSIDE_ASSIGN(const auto view, views_.open(*item, wanted.view, seq));
  auto exact = wanted;
  exact.seq = seq;
  FARSIDE_ASSIGN(auto vm, vm_at(item, replica, exact));
  for (auto& disk : vm.disks) disk.nbd_socket = view.socket;
  FARSIDE_TRY(make_folders(vm_folder(replica, wanted.vm)));
  FARSIDE_TRY(platform_.create_vm(vm));
  return seq;
}

Result<msg::Message> TargetWork::run(const msg::StartTestVm& order) {
  const auto began = clock_.monotonic();
  FARSIDE_ASSIGN(const auto entry, kept(order.item));
  const auto busy = turn_of(*entry);
  FARSIDE_ASSIGN(const auto seq,
                 boot(replica_of(*entry), {.view = std::string(kTestView),
                                           .vm = order.vm,
                                           .name = order.vm_name,
                                           .seq = order.seq,
                                           .is_test = true,
                                           .nics = {{.mac = "", .network = order.network}}}));
  FARSIDE_ASSIGN(const auto item, item_of(replica_of(*entry)));
  std::int64_t captured_at = 0;
  for (const auto& point : item->points()) {
    if (point.seq == seq) captured_at = point.captured_at;
  }
  return reactor::message(msg::TestVmStarted{
      .item = order.item,
      .vm = order.vm,
      .seq = seq,
      .captured_at = captured_at,
      .boot_millis = static_cast<std::uint64_t>((clock_.monotonic() - began).count() / 1000)});
}

Result<msg::Message> TargetWork::run(const msg::RemoveTestVm& order) {
  if (!order.vm.empty()) FARSIDE_TRY(check_file_name("VM", order.vm));
  const auto entry = kept(order.item);
  if (!entry) return reactor::message(msg::TestVmRemoved{.item = order.item});
  const auto busy = turn_of(**entry);
  if (!order.vm.empty()) {
    FARSIDE_TRY(platform_.destroy_vm(order.vm, true));
    std::error_code ec;
    std::filesystem::remove_all(vm_folder(replica_of(**entry), order.vm), ec);
    std::filesystem::remove(settings_.log_folder + "/" + order.vm + ".serial.log", ec);
  }
  FARSIDE_ASSIGN(const auto item, item_of(replica_of(**entry)));
  FARSIDE_TRY(views_.close(*item, std::string(kTestView)));
  return reactor::message(msg::TestVmRemoved{.item = order.item});
}

Result<msg::Message> TargetWork::run(const msg::StartReplica& order) {
  FARSIDE_ASSIGN(const auto entry, kept(order.item));
  const auto busy = turn_of(*entry);
  FARSIDE_ASSIGN(const auto item, item_of(replica_of(*entry)));
  FARSIDE_TRY(item->raise_epoch(order.epoch));
  FARSIDE_ASSIGN(const auto seq, boot(replica_of(*entry), {.view = std::string(kFailoverView),
                                                           .vm = order.vm,
                                                           .name = order.vm_name,
                                                           .seq = order.seq,
                                                           .is_test = false,
                                                           .nics = order.nics}));
  return reactor::message(msg::ReplicaStarted{.item = order.item, .vm = order.vm, .seq = seq});
}

// Waits until the VM's disks no longer read from the view, telling how far it is.
Status TargetWork::detach(replica::Item* item, const std::string& vm, const std::string& job) {
  std::uint64_t furthest = 0;
  auto moved = clock_.monotonic();
  while (true) {
    // A view that died would stop the guest; maintenance does not come by while we are at it.
    if (item != nullptr) FARSIDE_TRY(views_.revive(*item));
    const auto progress = platform_.detach_view(vm);
    if (!progress && progress.error().code == ErrorCode::kNotFound) return {};  // Deleted by hand.
    if (!progress) return fail(progress.error());
    if (progress->finished) return {};
    if (stop_.stop_requested()) {
      return fail(ErrorCode::kCancelled, "the agent is stopping",
                  "it goes on when the agent runs again");
    }
    // A copy that breaks and begins anew repeats what it had: only getting further is progress.
    const bool got_on = progress->done > furthest;
    if (got_on) {
      furthest = progress->done;
      moved = clock_.monotonic();
    } else if (clock_.monotonic() - moved > settings_.detach_stalled) {
      return fail(stalled(item, vm));
    }
    if (got_on && !job.empty()) {
      report_({.request = job, .done = progress->done, .total = progress->total});
    }
    wait_or_stop(stop_.get_token(), kDetachPoll);
  }
}

Result<msg::Message> TargetWork::run(const msg::DetachReplica& order, const std::string& job) {
  FARSIDE_ASSIGN(const auto entry, kept(order.item));
  const auto busy = turn_of(*entry);
  FARSIDE_ASSIGN(const auto item, item_of(replica_of(*entry)));
  FARSIDE_TRY(detach(item.get(), order.vm, job));
  FARSIDE_TRY(views_.close(*item, std::string(kFailoverView)));
  return reactor::message(msg::ReplicaDetached{.item = order.item});
}

Result<msg::Message> TargetWork::run(const msg::CommitReplica& order, const std::string& job) {
  FARSIDE_ASSIGN(const auto entry, kept(order.item));
  const auto busy = turn_of(*entry);
  const auto replica = replica_of(*entry);
  receiver_->forbid(order.item);
  msg::ReplicaCommitted done{.item = order.item};
  if (!order.vm.empty()) {
    FARSIDE_ASSIGN(done.vm, set_free(replica, order.vm, job));
  }
  const bool is_gone = replica.committed && replica.kept_until == 0;
  if (order.keep_hours == 0 || is_gone) {
    FARSIDE_TRY(drop(replica));
  } else {
    FARSIDE_TRY(close_views(replica));
    const auto until = clock_.now() + std::chrono::hours{order.keep_hours};
    done.kept_until =
        replica.kept_until != 0 ? std::min(replica.kept_until, until.micros) : until.micros;
  }
  change(*entry, [&](msg::ReplicaItem& known) {
    known.committed = true;
    known.kept_until = done.kept_until;
  });
  is_over(*entry, done.kept_until);  // Its time begins to pass.
  return reactor::message(std::move(done));
}

// The VM stands on its own disks and belongs to the operator: only then may what it came from go.
Result<std::string> TargetWork::set_free(const msg::ReplicaItem& replica, const std::string& vm,
                                         const std::string& job) {
  if (!replica.committed) {  // Else its disks are the operator's, whatever he made of them.
    const auto item = item_of(replica);
    FARSIDE_TRY(detach(item ? item->get() : nullptr, vm, job));
  }
  auto released = platform_.release_vm(vm);
  if (!released && released.error().code == ErrorCode::kNotFound) return vm;  // Deleted by hand.
  return released;
}

Status TargetWork::close_views(const msg::ReplicaItem& replica) {
  FARSIDE_ASSIGN(auto* store, store_at(replica.storage_path));
  const auto item = store->find(replica.item);
  if (!item && item.error().code == ErrorCode::kNotFound) return {};
  if (!item) return fail(item.error());
  FARSIDE_TRY(views_.close(**item, std::string(kTestView)));
  return views_.close(**item, std::string(kFailoverView));
}

Status TargetWork::drop(const msg::ReplicaItem& replica) {
  // One that cannot be opened goes all the same: nothing of it is needed any more.
  if (const auto closed = close_views(replica); !closed) {
    log::warn("views of a replica that goes not closed",
              {{"item", replica.item}, {"cause", closed.error()}});
  }
  FARSIDE_ASSIGN(auto* store, store_at(replica.storage_path));
  return store->remove(replica.item);
}

}  // namespace farside::agent
