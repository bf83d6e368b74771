// Commit of a failover: the point that runs is kept, the journal and all other points are dropped.
//
//   stop_replication ==> commit_replica ==> record_commit
//   the operator has decided: only forward
#include "services/orchestrator/workflows/all.h"
#include "services/orchestrator/workflows/common.h"

namespace farside::orchestrator {
namespace {

using msg::CommitState;

CommitState begin(const msg::WorkflowInput& input) {
  return CommitState{.spec = input.spec};
}

flow::Request stop_replication(const CommitState& s) {
  return flow::ask(s.spec.source_agent, msg::StopReplication{.item = s.spec.item, .vm = s.spec.vm});
}

flow::Request commit_replica(const CommitState& s) {
  return flow::ask(s.spec.target_agent, msg::CommitReplica{.item = s.spec.item});
}

flow::Request record_commit(const CommitState& s) {
  return record(msg::ItemChange{.item = s.spec.item, .state = msg::ItemState::committed});
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
         .title = "Drop the other recovery points",
         .act = commit_replica,
         .learn = flow::learn_done<CommitState, msg::ReplicaCommitted>,
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
                                                  .begin = begin});
}

}  // namespace farside::orchestrator
