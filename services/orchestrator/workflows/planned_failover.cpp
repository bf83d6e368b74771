// Planned failover: move a VM to its target site, losing no write its guest was told was safe.
//
//   check_source --> resolve_networks --> prove_target --> sync_source --> verify_replica
//     --> sync_again --> verify_again --> shut_down_source --> fence_source --> final_sync
//                                           <- restart           <- unfence
//     --> verify_point --> prove_point --> promote_replica ==> start_replica ==> record_failover
//                                            <- demote
//     ==> detach_replica
//   <----- on failure, undo right to left --|   the guest may have written: only forward
//
// Before the source is touched the target has built the VM for a test, and once more as it is at
// the last point: a change of its definition takes effect when a VM is shut down. The fence comes
// before the last delta: whoever starts the VM by hand meanwhile cannot write behind it.
//
// What takes as long as the disks are large is done while the VM runs: the digest of a point, for
// which a source may have to read its disks, and the target's look at every byte of it. What came
// meanwhile is brought over and looked at once more. With the VM down only the last delta is read,
// sent and looked at.
#include "services/orchestrator/workflows/all.h"
#include "services/orchestrator/workflows/common.h"

namespace farside::orchestrator {
namespace {

using flow::ask;
using msg::PlannedFailoverState;

constexpr std::uint32_t kShutdownSeconds = 120;

PlannedFailoverState begin(const msg::WorkflowInput& input) {
  return PlannedFailoverState{
      .spec = input.spec,
      .shutdown_seconds = input.shutdown_seconds == 0 ? kShutdownSeconds : input.shutdown_seconds,
      .new_epoch = input.spec.epoch + 1};
}

flow::Request check_source(const PlannedFailoverState& s) {
  return ask(s.spec.source_agent, msg::CheckSource{.vm = s.spec.vm});
}

Status learn_source(PlannedFailoverState& s, const msg::Message& reply) {
  FARSIDE_ASSIGN(const auto checked, flow::expect<msg::SourceChecked>(reply));
  if (checked.vm.state == msg::PowerState::paused) {
    return fail(ErrorCode::kConflict,
                "VM '" + checked.vm.name +
                    "' is paused: it cannot shut down, and its memory would be "
                    "lost",
                "resume it, or turn it off, then fail over");
  }
  s.was_running = checked.vm.state != msg::PowerState::off;
  s.nics = checked.vm.nics;
  for (auto& nic : s.nics) nic.network = mapped_network(s.spec, nic.network);
  return {};
}

bool has_no_network(const PlannedFailoverState& s) {
  return s.nics.empty();
}

flow::Request resolve_networks(const PlannedFailoverState& s) {
  std::vector<std::string> names;
  for (const auto& nic : s.nics) names.push_back(nic.network);
  return ask(provider_of(s.spec.target_site), msg::ResolveNetworks{.cloud = s.spec.target_cloud,
                                                                   .agent = s.spec.target_agent,
                                                                   .networks = std::move(names)});
}

Status learn_networks(PlannedFailoverState& s, const msg::Message& reply) {
  FARSIDE_ASSIGN(const auto resolved, flow::expect<msg::NetworksResolved>(reply));
  if (resolved.host_networks.size() != s.nics.size()) {
    return fail(ErrorCode::kInternal, "the provider resolved another number of networks");
  }
  for (std::size_t i = 0; i < s.nics.size(); ++i) s.nics[i].network = resolved.host_networks[i];
  return {};
}

flow::Request prove_target(const PlannedFailoverState& s) {
  return ask(
      s.spec.target_agent,
      msg::ProveReplica{.item = s.spec.item, .seq = 0, .vm_name = s.spec.vm_name, .nics = s.nics});
}

Status learn_proof(PlannedFailoverState& s, const msg::Message& reply) {
  FARSIDE_ASSIGN(const auto proven, flow::expect<msg::ReplicaProven>(reply));
  for (const auto& row : proven.plan) {
    if (row.rule != msg::PlanRule::kept) s.plan.push_back(row);
  }
  return {};
}

flow::Request sync_source(const PlannedFailoverState& s) {
  return ask(s.spec.source_agent, msg::SyncSource{.item = s.spec.item});
}

Status learn_synced(PlannedFailoverState& s, const msg::Message& reply) {
  FARSIDE_ASSIGN(const auto synced, flow::expect<msg::SourceSynced>(reply));
  s.point = synced.point;
  s.digest = synced.digest;
  return {};
}

// The first time all of it, then what came since the point that was verified last.
flow::Request verify(const PlannedFailoverState& s) {
  return ask(s.spec.target_agent,
             msg::VerifyPoint{
                 .item = s.spec.item, .seq = s.point.seq, .digest = s.digest, .since = s.verified});
}

Status learn_verified(PlannedFailoverState& s, const msg::Message& reply) {
  FARSIDE_TRY(flow::expect<msg::PointVerified>(reply));
  s.verified = s.point.seq;
  return {};
}

flow::Request shut_down_source(const PlannedFailoverState& s) {
  return ask(s.spec.source_agent,
             msg::ShutDownSource{
                 .item = s.spec.item, .vm = s.spec.vm, .deadline_seconds = s.shutdown_seconds});
}

Status learn_shutdown(PlannedFailoverState& s, const msg::Message& reply) {
  FARSIDE_ASSIGN(const auto down, flow::expect<msg::SourceShutDown>(reply));
  s.was_running = s.was_running || down.was_running;
  s.forced = s.forced || down.forced;
  return {};
}

// A VM that was off when all began stays off.
flow::Request restart_source(const PlannedFailoverState& s) {
  return ask(s.spec.source_agent,
             msg::RestartSource{.item = s.spec.item, .vm = s.spec.vm, .start = s.was_running});
}

flow::Request final_sync(const PlannedFailoverState& s) {
  return ask(s.spec.source_agent, msg::FinalSync{.item = s.spec.item});
}

Status learn_final(PlannedFailoverState& s, const msg::Message& reply) {
  FARSIDE_ASSIGN(const auto synced, flow::expect<msg::FinalSynced>(reply));
  s.point = synced.point;
  s.digest = synced.digest;
  return {};
}

flow::Request fence_source(const PlannedFailoverState& s) {
  return ask(s.spec.source_agent, msg::FenceSource{.item = s.spec.item,
                                                   .vm = s.spec.vm,
                                                   .epoch = s.new_epoch,
                                                   .active_at = "site '" + s.spec.target_site +
                                                                "' (" + s.spec.target_agent + ")"});
}

flow::Request unfence_source(const PlannedFailoverState& s) {
  return ask(s.spec.source_agent,
             msg::UnfenceSource{.item = s.spec.item, .vm = s.spec.vm, .epoch = s.new_epoch});
}

// A VM that is off may be another than the one that ran: as it will be started, it is built now.
flow::Request prove_point(const PlannedFailoverState& s) {
  return ask(
      s.spec.target_agent,
      msg::ProveReplica{
          .item = s.spec.item, .seq = s.point.seq, .vm_name = s.spec.vm_name, .nics = s.nics});
}

flow::Request promote_replica(const PlannedFailoverState& s) {
  return ask(s.spec.target_agent, msg::PromoteReplica{.item = s.spec.item, .epoch = s.new_epoch});
}

flow::Request demote_replica(const PlannedFailoverState& s) {
  return ask(s.spec.target_agent, msg::DemoteReplica{.item = s.spec.item, .epoch = s.spec.epoch});
}

flow::Request start_replica(const PlannedFailoverState& s) {
  return ask(s.spec.target_agent, msg::StartReplica{.item = s.spec.item,
                                                    .epoch = s.new_epoch,
                                                    .seq = s.point.seq,
                                                    .vm_name = s.spec.vm_name,
                                                    .nics = s.nics});
}

Status learn_replica(PlannedFailoverState& s, const msg::Message& reply) {
  FARSIDE_ASSIGN(const auto started, flow::expect<msg::ReplicaStarted>(reply));
  s.replica_vm = started.vm;
  return {};
}

flow::Request record_failover(const PlannedFailoverState& s) {
  return record(msg::ItemChange{.item = s.spec.item,
                                .state = msg::ItemState::commitRequired,
                                .replica_vm = s.replica_vm,
                                .epoch = s.new_epoch,
                                .active_location = "Recovery",
                                .failed_over_at = 1,  // The vault writes its own time.
                                .failover_seq = s.point.seq});
}

flow::Request detach_replica(const PlannedFailoverState& s) {
  return ask(s.spec.target_agent, msg::DetachReplica{.item = s.spec.item});
}

using Step = flow::Step<PlannedFailoverState>;
constexpr std::array kSteps{
    Step{.name = "check_source",
         .title = "Check prerequisites for planned failover",
         .act = check_source,
         .learn = learn_source},
    Step{.name = "resolve_networks",
         .title = "Check the mapped networks",
         .act = resolve_networks,
         .learn = learn_networks,
         .skip = has_no_network},
    Step{.name = "prove_target",
         .title = "Build the virtual machine at the target for a test",
         .act = prove_target,
         .learn = learn_proof,
         .silence = std::chrono::minutes{3}},
    Step{.name = "sync_source",
         .title = "Replicate what changed",
         .act = sync_source,
         .learn = learn_synced,
         .silence = std::chrono::minutes{30}},
    Step{.name = "verify_replica",
         .title = "Compare the replica with the source",
         .act = verify,
         .learn = learn_verified,
         .silence = std::chrono::minutes{30}},
    Step{.name = "sync_again",
         .title = "Replicate what changed meanwhile",
         .act = sync_source,
         .learn = learn_synced,
         .silence = std::chrono::minutes{30}},
    Step{.name = "verify_again",
         .title = "Compare what changed meanwhile",
         .act = verify,
         .learn = learn_verified,
         .silence = std::chrono::minutes{30}},
    Step{.name = "shut_down_source",
         .title = "Shut down the virtual machine",
         .act = shut_down_source,
         .learn = learn_shutdown,
         .undo = restart_source,
         .silence = std::chrono::minutes{10}},
    Step{.name = "fence_source",
         .title = "Fence the source",
         .act = fence_source,
         .learn = flow::learn_done<PlannedFailoverState, msg::SourceFenced>,
         .undo = unfence_source},
    Step{.name = "final_sync",
         .title = "Replicate the last changes",
         .act = final_sync,
         .learn = learn_final,
         .silence = std::chrono::minutes{30}},
    Step{.name = "verify_point",
         .title = "Verify the last changes",
         .act = verify,
         .learn = learn_verified,
         .silence = std::chrono::minutes{30}},
    Step{.name = "prove_point",
         .title = "Build the virtual machine of this point for a test",
         .act = prove_point,
         .learn = flow::learn_done<PlannedFailoverState, msg::ReplicaProven>,
         .silence = std::chrono::minutes{3}},
    Step{.name = "promote_replica",
         .title = "Raise the role epoch at the target",
         .act = promote_replica,
         .learn = flow::learn_done<PlannedFailoverState, msg::ReplicaPromoted>,
         .undo = demote_replica},
    Step{.name = "start_replica",
         .title = "Start the virtual machine at the target site",
         .act = start_replica,
         .learn = learn_replica,
         .silence = std::chrono::minutes{3}},
    Step{.name = "record_failover",
         .title = "Record the failover",
         .act = record_failover,
         .learn = flow::learn_done<PlannedFailoverState, msg::ItemRecorded>},
    Step{.name = "detach_replica",
         .title = "Move the disks under the running virtual machine",
         .act = detach_replica,
         .learn = flow::learn_done<PlannedFailoverState, msg::ReplicaDetached>,
         .silence = std::chrono::hours{2}},
};

}  // namespace

flow::Workflow planned_failover() {
  return flow::fold(flow::Definition<PlannedFailoverState>{.name = "planned_failover",
                                                           .version = 3,
                                                           .title = "Planned failover",
                                                           .steps = kSteps,
                                                           .point_of_no_return = "start_replica",
                                                           .begin = begin});
}

}  // namespace farside::orchestrator
