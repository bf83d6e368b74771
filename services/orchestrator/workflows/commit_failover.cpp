// Commit of a failover: the VM becomes the operator's own, and the replica it came from is dropped,
// at once or when its time is over.
//
//   stop_replication ==> commit_replica ==> record_commit
//   the operator has decided: only forward
#include "services/orchestrator/workflows/all.h"
#include "services/orchestrator/workflows/common.h"

namespace farside::orchestrator {
namespace {

using msg::CommitState;

CommitState begin(const msg::WorkflowInput& input) {
  return CommitState{
      .spec = input.spec, .keep_hours = input.keep_hours, .replica_vm = input.spec.replica_vm};
}

flow::Request stop_replication(const CommitState& s) {
  return flow::ask(s.spec.source_agent, msg::StopReplication{.item = s.spec.item, .vm = s.spec.vm});
}

flow::Request commit_replica(const CommitState& s) {
  return flow::ask(s.spec.target_agent,
                   msg::CommitReplica{.item = s.spec.item, .keep_hours = s.keep_hours});
}

Status learn_commit(CommitState& s, const msg::Message& reply) {
  FARSIDE_ASSIGN(const auto committed, flow::expect<msg::ReplicaCommitted>(reply));
  if (!committed.vm.empty()) s.replica_vm = committed.vm;
  return {};
}

flow::Request record_commit(const CommitState& s) {
  return record(msg::ItemChange{
      .item = s.spec.item, .state = msg::ItemState::committed, .replica_vm = s.replica_vm});
}

using Step = flow::Step<CommitState>;
constexpr std::array kSteps{
    Step{.name = "stop_replication",
         .title = "End change tracking at the source",
         .act = stop_replication,
         .learn = flow::learn_done<CommitState, msg::ReplicationStopped>,
         .silence = kSourceSilence,
         .dispensable = always<CommitState>},
    Step{.name = "commit_replica",
         .title = "Hand the virtual machine over to its operator",
         .act = commit_replica,
         .learn = learn_commit,
         .silence = std::chrono::minutes{10}},
    Step{.name = "record_commit",
         .title = "Record the commit",
         .act = record_commit,
         .learn = flow::learn_done<CommitState, msg::ItemRecorded>},
};

}  // namespace

flow::Workflow commit_failover() {
  return flow::fold(flow::Definition<CommitState>{.name = "commit_failover",
                                                  .version = 1,
                                                  .title = "Commit failover",
                                                  .steps = kSteps,
                                                  .point_of_no_return = "stop_replication",
                                                  .begin = begin,
                                                  .may_be_given_up = true});
}

}  // namespace farside::orchestrator
