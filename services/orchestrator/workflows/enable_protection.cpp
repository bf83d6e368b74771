// Enable protection: from a VM that runs unprotected to its first recovery point at the other site.
//
//   check_source --> place_replica --> resolve_networks --> prepare_replica --> record_replica
//                      <- release                             <- remove
//     --> start_replication --> initial_replication --> record_protected
//           <- stop
//   <----------------------- on failure, undo right to left -----------------------
//
// The target builds the VM for a test when it prepares the replica: nothing is sent before.
#include "common/identity/registrar.h"
#include "services/orchestrator/workflows/all.h"
#include "services/orchestrator/workflows/common.h"

namespace farside::orchestrator {
namespace {

using flow::ask;
using msg::EnableState;

EnableState begin(const msg::WorkflowInput& input) {
  return EnableState{.spec = input.spec};
}

flow::Request check_source(const EnableState& s) {
  return ask(s.spec.source_agent, msg::CheckSource{.vm = s.spec.vm});
}

Status learn_source(EnableState& s, const msg::Message& reply) {
  FARSIDE_ASSIGN(const auto checked, flow::expect<msg::SourceChecked>(reply));
  if (!checked.vm.problem.empty()) {
    return fail(ErrorCode::kInvalidArgument,
                "VM '" + s.spec.vm_name + "' cannot be protected: " + checked.vm.problem,
                "correct this on its host, then enable protection again");
  }
  s.vm = checked.vm;
  s.source_key = checked.public_key;
  s.definition = checked.definition;
  for (const auto& nic : s.vm.nics) {
    auto target = mapped_network(s.spec, nic.network);
    if (!target.empty()) s.networks.push_back({.source = nic.network, .target = target});
  }
  return {};
}

flow::Request place_replica(const EnableState& s) {
  std::vector<std::string> networks;
  for (const auto& pair : s.networks) networks.push_back(pair.target);
  return ask(provider_of(s.spec.target_site),
             msg::PlaceReplica{.item = s.spec.item,
                               .vm = s.vm,
                               .cloud = s.spec.target_cloud,
                               .networks = std::move(networks),
                               .storage_class = s.spec.storage_class});
}

Status learn_placement(EnableState& s, const msg::Message& reply) {
  FARSIDE_ASSIGN(const auto placed, flow::expect<msg::ReplicaPlaced>(reply));
  // A provider speaks for the hosts of its own site, and its hosts judge the path once more.
  if (!identity::is_agent_of(placed.agent, s.spec.target_site)) {
    return fail(ErrorCode::kForbidden,
                "the provider of site '" + s.spec.target_site + "' placed the replica on '" +
                    placed.agent + "', which is no agent of that site",
                "look at that provider: it may be in other hands");
  }
  s.spec.target_agent = placed.agent;
  s.storage_path = placed.storage_path;
  return {};
}

flow::Request release_placement(const EnableState& s) {
  return ask(provider_of(s.spec.target_site), msg::ReleasePlacement{.item = s.spec.item});
}

bool has_no_network(const EnableState& s) {
  return s.networks.empty();
}

flow::Request resolve_networks(const EnableState& s) {
  std::vector<std::string> names;
  for (const auto& pair : s.networks) names.push_back(pair.target);
  return ask(provider_of(s.spec.target_site), msg::ResolveNetworks{.cloud = s.spec.target_cloud,
                                                                   .agent = s.spec.target_agent,
                                                                   .networks = std::move(names)});
}

Status learn_networks(EnableState& s, const msg::Message& reply) {
  FARSIDE_ASSIGN(const auto resolved, flow::expect<msg::NetworksResolved>(reply));
  if (resolved.host_networks.size() != s.networks.size()) {
    return fail(ErrorCode::kInternal, "the provider resolved another number of networks");
  }
  for (std::size_t i = 0; i < s.networks.size(); ++i) {
    s.networks[i].target = resolved.host_networks[i];
  }
  return {};
}

flow::Request prepare_replica(const EnableState& s) {
  return ask(s.spec.target_agent, msg::PrepareReplica{.item = s.spec.item,
                                                      .vm = s.vm,
                                                      .epoch = s.spec.epoch,
                                                      .storage_path = s.storage_path,
                                                      .source_key = s.source_key,
                                                      .policy = s.spec.policy,
                                                      .definition = s.definition,
                                                      .networks = s.networks,
                                                      .vm_name = s.spec.vm_name});
}

Status learn_replica(EnableState& s, const msg::Message& reply) {
  FARSIDE_ASSIGN(const auto prepared, flow::expect<msg::ReplicaPrepared>(reply));
  s.endpoint = prepared.endpoint;
  s.target_key = prepared.public_key;
  return {};
}

flow::Request remove_replica(const EnableState& s) {
  return ask(s.spec.target_agent, msg::RemoveReplica{.item = s.spec.item});
}

flow::Request record_replica(const EnableState& s) {
  return record(msg::ItemChange{.item = s.spec.item,
                                .state = msg::ItemState::initialReplication,
                                .target_agent = s.spec.target_agent});
}

flow::Request start_replication(const EnableState& s) {
  return ask(s.spec.source_agent, msg::StartReplication{.item = s.spec.item,
                                                        .vm = s.spec.vm,
                                                        .epoch = s.spec.epoch,
                                                        .policy = s.spec.policy,
                                                        .endpoint = s.endpoint,
                                                        .target_key = s.target_key});
}

flow::Request stop_replication(const EnableState& s) {
  return ask(s.spec.source_agent, msg::StopReplication{.item = s.spec.item, .vm = s.spec.vm});
}

flow::Request initial_replication(const EnableState& s) {
  return ask(s.spec.source_agent, msg::AwaitInitial{.item = s.spec.item});
}

Status learn_initial(EnableState& s, const msg::Message& reply) {
  FARSIDE_ASSIGN(const auto initial, flow::expect<msg::InitialDone>(reply));
  s.newest = initial.point;
  s.initial_seconds = initial.seconds;
  s.guest_bytes = initial.guest_bytes;
  s.wire_bytes = initial.wire_bytes;
  return {};
}

flow::Request record_protected(const EnableState& s) {
  return record(msg::ItemChange{
      .item = s.spec.item, .state = msg::ItemState::protected_, .active_location = "Primary"});
}

using Step = flow::Step<EnableState>;
constexpr std::array kSteps{
    Step{.name = "check_source",
         .title = "Check prerequisites of the VM",
         .act = check_source,
         .learn = learn_source},
    Step{.name = "place_replica",
         .title = "Choose a host at the target site",
         .act = place_replica,
         .learn = learn_placement,
         .undo = release_placement},
    Step{.name = "resolve_networks",
         .title = "Check the mapped networks",
         .act = resolve_networks,
         .learn = learn_networks,
         .skip = has_no_network},
    Step{.name = "prepare_replica",
         .title = "Create the replica and build the VM for a test",
         .act = prepare_replica,
         .learn = learn_replica,
         .undo = remove_replica,
         .silence = std::chrono::minutes{3}},
    Step{.name = "record_replica",
         .title = "Record the replica",
         .act = record_replica,
         .learn = flow::learn_done<EnableState, msg::ItemRecorded>},
    Step{.name = "start_replication",
         .title = "Introduce the agents and start replication",
         .act = start_replication,
         .learn = flow::learn_done<EnableState, msg::ReplicationStarted>,
         .undo = stop_replication,
         .undo_dispensable = true},  // The vault tells a source that comes back later.
    Step{.name = "initial_replication",
         .title = "Initial replication",
         .act = initial_replication,
         .learn = learn_initial,
         .undo = nullptr,
         .silence = std::chrono::hours{2},
         // It waits for its turn, for the link and for whoever paused it; a failure drops it all.
         .stalled = std::chrono::years{100}},
    Step{.name = "record_protected",
         .title = "Finalize protection",
         .act = record_protected,
         .learn = flow::learn_done<EnableState, msg::ItemRecorded>},
};

}  // namespace

flow::Workflow enable_protection() {
  return flow::fold(flow::Definition<EnableState>{.name = "enable_protection",
                                                  .version = 2,
                                                  .title = "Enable protection",
                                                  .steps = kSteps,
                                                  .point_of_no_return = {},
                                                  .begin = begin});
}

}  // namespace farside::orchestrator
