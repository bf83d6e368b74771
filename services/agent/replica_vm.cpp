// The part of TargetWork that says what a VM made from a replica will be like, and proves that it
// can be built here before anybody depends on it.
#include <fmt/format.h>

#include <algorithm>
#include <filesystem>
#include <system_error>

#include "common/base/log.h"
#include "common/base/sha256.h"
#include "common/flow/fault.h"
#include "services/agent/target_work.h"

namespace farside::agent {
namespace {

constexpr std::chrono::hours kProveEvery{24};
constexpr std::chrono::hours kProofOverdue{72};

}  // namespace

std::string proof_id(const std::string& item) {
  const std::string digits = sha256_hex("proof of " + item);
  return fmt::format("{}-{}-4{}-8{}-{}", digits.substr(0, 8), digits.substr(8, 4),
                     digits.substr(12, 3), digits.substr(15, 3), digits.substr(18, 12));
}

namespace {

// A network without a card's address is meant for all of them.
std::string network_of(const std::vector<msg::Nic>& wanted, const msg::Nic& card) {
  for (const auto& each : wanted) {
    if (each.mac.empty() || each.mac == card.mac) return each.network;
  }
  return {};
}

std::vector<msg::Nic> mapped(std::vector<msg::Nic> cards,
                             const std::vector<msg::NetworkPair>& networks) {
  for (auto& card : cards) {
    const auto pair = std::ranges::find(networks, card.network, &msg::NetworkPair::source);
    card.network = pair == networks.end() ? std::string() : pair->target;
  }
  return cards;
}

// What an operator reads in the job: how the VM at the target will differ.
std::string summary_of(const std::vector<msg::PlanRow>& plan) {
  constexpr std::size_t kTextMax = 500;
  std::string out;
  for (const auto& row : plan) {
    if (row.rule == msg::PlanRule::kept) continue;
    out += out.empty() ? "differs: " : "; ";
    out += row.what;
    if (row.rule == msg::PlanRule::dropped) out += " is left out";
    if (row.rule == msg::PlanRule::mapped) out += " becomes " + row.target;
    if (out.size() <= kTextMax) continue;
    out.resize(kTextMax);
    return out + "...";
  }
  return out.empty() ? "nothing will differ" : out;
}

// Nothing is wrong with the VM: the host could not be asked.
bool says_nothing(ErrorCode code) {
  return code == ErrorCode::kUnavailable || code == ErrorCode::kTimeout ||
         code == ErrorCode::kBusy || code == ErrorCode::kCancelled;
}

}  // namespace

Result<NewVm> TargetWork::vm_at(const replica::SharedItem& item, const msg::ReplicaItem& replica,
                                const Boot& wanted) {
  FARSIDE_ASSIGN(auto definition, item->definition_at(wanted.seq));
  if (definition.platform.empty()) definition.shape = replica.vm;  // Its source told none.
  const auto folder = vm_folder(replica, wanted.vm);
  NewVm vm{.shape = definition.shape,
           .definition = {},
           .id = wanted.vm,
           .item_id = replica.item,
           .is_test = wanted.is_test,
           .start = true,
           .disks = {},
           .serial_log = settings_.log_folder + "/" + wanted.vm + ".serial.log"};
  vm.definition = std::move(definition);
  vm.shape.id = wanted.vm;
  vm.shape.name = wanted.name;
  for (auto& card : vm.shape.nics) card.network = network_of(wanted.nics, card);
  FARSIDE_ASSIGN(const auto disks, item->disks_at(wanted.seq));
  for (const auto& at : disks) {
    vm.disks.push_back({.name = at.disk.name,
                        .id = at.disk.id,
                        .base_name = at.base,
                        .bytes = at.disk.bytes,
                        .replica_folder = item->folder(),
                        .delta =
                            [item, number = at.number, seq = wanted.seq](const VisitRange& visit) {
                              return item->for_each_above_base(number, seq, visit);
                            },
                        .overlay_path = folder + "/" + at.disk.name + ".qcow2",
                        .nbd_socket = {},
                        .nbd_export = at.disk.name});
  }
  return vm;
}

// The VM that a failover to the point would make; what the order leaves open is as it is
// configured.
Result<NewVm> TargetWork::vm_to_be(const replica::SharedItem& item, const msg::ReplicaItem& replica,
                                   std::uint64_t seq, const msg::ProveReplica& order) {
  FARSIDE_ASSIGN(auto vm, vm_at(item, replica,
                                {.view = {},
                                 .vm = replica.item,
                                 .name = order.vm_name.empty() ? replica.vm_name : order.vm_name,
                                 .seq = seq,
                                 .is_test = false,
                                 .nics = order.nics}));
  if (order.nics.empty()) vm.shape.nics = mapped(vm.definition.shape.nics, replica.networks);
  return vm;
}

// Before there is any point: from what the source says of its VM.
NewVm TargetWork::first_vm(const msg::PrepareReplica& order, const msg::ReplicaItem& replica) {
  NewVm vm{.shape = order.definition.shape,
           .definition = order.definition,
           .id = order.item,
           .item_id = order.item,
           .is_test = false,
           .start = true,
           .disks = {},
           .serial_log = {}};
  vm.shape.id = order.item;
  vm.shape.name = order.vm_name;
  vm.shape.nics = mapped(order.definition.shape.nics, order.networks);
  const auto folder = vm_folder(replica, order.item);
  for (const auto& disk : order.vm.disks) {  // Whose names the store has judged.
    vm.disks.push_back({.name = disk.name,
                        .id = disk.id,
                        .base_name = disk.name,
                        .bytes = disk.bytes,
                        .replica_folder = {},
                        .delta = {},
                        .overlay_path = folder + "/" + disk.name + ".qcow2",
                        .nbd_socket = {},
                        .nbd_export = disk.name});
  }
  return vm;
}

Status TargetWork::prove(const NewVm& vm, const msg::ReplicaItem& replica) {
  const auto id = proof_id(replica.item);
  const auto proven = platform_.prove_vm(vm, id, vm_folder(replica, id));
  if (proven) return {};
  return fail(proven.error().in("VM '" + vm.shape.name + "' cannot be built on this host"));
}

Result<msg::Message> TargetWork::run(const msg::ProveReplica& order, const std::string& job) {
  FARSIDE_ASSIGN(const auto entry, kept(order.item));
  const auto replica = replica_of(*entry);
  FARSIDE_ASSIGN(const auto item, item_of(replica));
  const auto seq = order.seq == 0 ? item->newest().seq : order.seq;
  if (seq == 0) {
    return fail(ErrorCode::kConflict, "item '" + order.item + "' has no recovery point yet",
                "wait for its initial replication");
  }
  FARSIDE_ASSIGN(const auto vm, vm_to_be(item, replica, seq, order));
  FARSIDE_ASSIGN(auto plan, platform_.plan_vm(vm));
  if (!order.plan_only) {
    const auto busy = turn_of(*entry);
    FARSIDE_TRY(prove(vm, replica));
    report_({.request = job, .note = summary_of(plan)});
  }
  return reactor::message(
      msg::ReplicaProven{.item = order.item, .seq = seq, .plan = std::move(plan)});
}

void TargetWork::remove_proof_files(const msg::ReplicaItem& replica) {
  std::error_code ec;
  std::filesystem::remove_all(vm_folder(replica, proof_id(replica.item)), ec);
}

// When its definition has changed, and once a day: the host may have changed, too.
void TargetWork::prove_if_due(const replica::SharedItem& item, msg::ReplicaItem& replica) {
  const auto seq = item->newest().seq;
  if (!replica.replica_vm.empty() || replica.promoted) {
    replica.proof_fault.reset();  // Its VM has been made.
    return;
  }
  if (seq == 0) return;
  const auto definition = item->definition_digest_at(seq);
  if (!definition) return;  // A damaged index is told of where it is scrubbed.
  const bool is_due = replica.proof_fault || replica.proven_definition != *definition ||
                      clock_.now() - Time{replica.proven_at} >= kProveEvery;
  if (!is_due) return;
  {
    const std::lock_guard lock(mutex_);
    const auto again = prove_again_.find(replica.item);
    if (again != prove_again_.end() && clock_.monotonic() < again->second) return;
    prove_again_[replica.item] = clock_.monotonic() + settings_.prove_gap;
  }
  const auto vm = vm_to_be(item, replica, seq, {});
  Status status = vm ? prove(*vm, replica) : fail(vm.error());
  if (!status && says_nothing(status.error().code)) {
    log::warn("proof not made", {{"item", replica.item}, {"cause", status.error()}});
    const bool is_overdue =
        replica.proven_at != 0 && clock_.now() - Time{replica.proven_at} >= kProofOverdue;
    if (!is_overdue) return;
    status = fail(status.error().in("not proven since " + to_iso(Time{replica.proven_at})));
  }
  replica.proven_definition = *definition;
  replica.proof_fault.reset();
  if (status) {
    replica.proven_at = clock_.now().micros;
  } else {
    log::error("replica could not be built", {{"item", replica.item}, {"cause", status.error()}});
    replica.proof_fault = flow::to_fault(status.error());
  }
}

Result<msg::Message> TargetWork::run(const msg::AwaitLife& order) {
  FARSIDE_ASSIGN(auto sign, platform_.sign_of_life(order.vm));
  return reactor::message(msg::LifeSeen{.item = order.item, .sign = std::move(sign)});
}

}  // namespace farside::agent
