// Disable protection: end replication, remove the replica, give its place free.
//
//   stop_replication ==> remove_replica ==> release_placement ==> record_disabled
//   the operator has decided: only forward
#include "services/orchestrator/workflows/all.h"
#include "services/orchestrator/workflows/common.h"

namespace farside::orchestrator {
namespace {

using msg::DisableState;

DisableState begin(const msg::WorkflowInput& input) {
  return DisableState{
      .spec = input.spec, .delete_replica = input.delete_replica, .force = input.force};
}

// The operator gave the target up: what is left there is for whoever finds it.
bool is_forced(const DisableState& s) {
  return s.force;
}

bool was_never_placed(const DisableState& s) {
  return s.spec.target_agent.empty();
}

flow::Request stop_replication(const DisableState& s) {
  return flow::ask(s.spec.source_agent, msg::StopReplication{.item = s.spec.item, .vm = s.spec.vm});
}

flow::Request remove_replica(const DisableState& s) {
  return flow::ask(s.spec.target_agent,
                   msg::RemoveReplica{.item = s.spec.item, .keep_vm = !s.delete_replica});
}

flow::Request release_placement(const DisableState& s) {
  return flow::ask(provider_of(s.spec.target_site), msg::ReleasePlacement{.item = s.spec.item});
}

flow::Request record_disabled(const DisableState& s) {
  return record(msg::ItemChange{.item = s.spec.item, .state = msg::ItemState::disabled});
}

using Step = flow::Step<DisableState>;
constexpr std::array kSteps{
    Step{.name = "stop_replication",
         .title = "Stop replication at the source",
         .act = stop_replication,
         .learn = flow::learn_done<DisableState, msg::ReplicationStopped>,
         .silence = kSourceSilence,
         .dispensable = always<DisableState>},
    Step{.name = "remove_replica",
         .title = "Remove the replica",
         .act = remove_replica,
         .learn = flow::learn_done<DisableState, msg::ReplicaRemoved>,
         .silence = std::chrono::minutes{2},
         .skip = was_never_placed,
         .dispensable = is_forced},
    Step{.name = "release_placement",
         .title = "Release its place",
         .act = release_placement,
         .learn = flow::learn_done<DisableState, msg::PlacementReleased>,
         .skip = was_never_placed,
         .dispensable = is_forced},
    Step{.name = "record_disabled",
         .title = "Record the end of protection",
         .act = record_disabled,
         .learn = flow::learn_done<DisableState, msg::ItemRecorded>},
};

}  // namespace

flow::Workflow disable_protection() {
  return flow::fold(flow::Definition<DisableState>{.name = "disable_protection",
                                                   .version = 1,
                                                   .title = "Disable protection",
                                                   .steps = kSteps,
                                                   .point_of_no_return = "stop_replication",
                                                   .begin = begin,
                                                   .may_be_given_up = true});
}

}  // namespace farside::orchestrator
