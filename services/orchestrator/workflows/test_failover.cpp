// Test failover: boot a recovery point beside production, touching neither it nor replication.
//
//   resolve_network --> start_test_vm --> record_test --> await_life --> record_life
//                         <- remove
//   <----------------- on failure, undo right to left -----------------
//
// A drill proves something only if its VM shows that it lives; without such a sign it ends all the
// same, as "not confirmed".
#include "services/orchestrator/workflows/all.h"
#include "services/orchestrator/workflows/common.h"

namespace farside::orchestrator {
namespace {

using flow::ask;
using msg::TestFailoverState;

constexpr std::uint32_t kLifeSeconds = 300;

TestFailoverState begin(const msg::WorkflowInput& input) {
  return TestFailoverState{
      .spec = input.spec,
      .seq = input.seq,
      .network = input.network,
      .life_seconds = input.life_seconds == 0 ? kLifeSeconds : input.life_seconds};
}

bool is_isolated(const TestFailoverState& s) {
  return s.network.empty();
}

flow::Request resolve_network(const TestFailoverState& s) {
  return ask(provider_of(s.spec.target_site), msg::ResolveNetworks{.cloud = s.spec.target_cloud,
                                                                   .agent = s.spec.target_agent,
                                                                   .networks = {s.network}});
}

Status learn_network(TestFailoverState& s, const msg::Message& reply) {
  FARSIDE_ASSIGN(const auto resolved, flow::expect<msg::NetworksResolved>(reply));
  if (resolved.host_networks.size() != 1) {
    return fail(ErrorCode::kInternal, "the provider resolved no network");
  }
  s.host_network = resolved.host_networks.front();
  return {};
}

flow::Request start_test_vm(const TestFailoverState& s) {
  return ask(s.spec.target_agent, msg::StartTestVm{.item = s.spec.item,
                                                   .seq = s.seq,
                                                   .vm_name = s.spec.vm_name + " - Test",
                                                   .network = s.host_network});
}

Status learn_test_vm(TestFailoverState& s, const msg::Message& reply) {
  FARSIDE_ASSIGN(const auto started, flow::expect<msg::TestVmStarted>(reply));
  s.test_vm = started.vm;
  s.seq = started.seq;
  s.captured_at = started.captured_at;
  s.boot_millis = started.boot_millis;
  return {};
}

flow::Request remove_test_vm(const TestFailoverState& s) {
  return ask(s.spec.target_agent, msg::RemoveTestVm{.item = s.spec.item});
}

flow::Request record_test(const TestFailoverState& s) {
  return record(msg::ItemChange{.item = s.spec.item,
                                .state = msg::ItemState::protected_,
                                .test_vm = s.test_vm,
                                .test_seq = s.seq,
                                .drill_boot_millis = s.boot_millis});
}

flow::Request await_life(const TestFailoverState& s) {
  return ask(s.spec.target_agent, msg::AwaitLife{.item = s.spec.item, .seconds = s.life_seconds});
}

Status learn_life(TestFailoverState& s, const msg::Message& reply) {
  FARSIDE_ASSIGN(const auto seen, flow::expect<msg::LifeSeen>(reply));
  s.sign = seen.sign;
  return {};
}

flow::Request record_life(const TestFailoverState& s) {
  return record(msg::ItemChange{.item = s.spec.item,
                                .state = msg::ItemState::protected_,
                                .drilled_at = 1,  // The vault writes its own time.
                                .drill_sign = s.sign});
}

using Step = flow::Step<TestFailoverState>;
constexpr std::array kSteps{
    Step{.name = "resolve_network",
         .title = "Check prerequisites for test failover",
         .act = resolve_network,
         .learn = learn_network,
         .skip = is_isolated},
    Step{.name = "start_test_vm",
         .title = "Create and start the test virtual machine",
         .act = start_test_vm,
         .learn = learn_test_vm,
         .undo = remove_test_vm,
         .silence = std::chrono::minutes{3}},
    Step{.name = "record_test",
         .title = "Record the test virtual machine",
         .act = record_test,
         .learn = flow::learn_done<TestFailoverState, msg::ItemRecorded>},
    Step{.name = "await_life",
         .title = "Wait for a sign of life of the test virtual machine",
         .act = await_life,
         .learn = learn_life},
    Step{.name = "record_life",
         .title = "Record whether the test virtual machine lives",
         .act = record_life,
         .learn = flow::learn_done<TestFailoverState, msg::ItemRecorded>},
};

}  // namespace

flow::Workflow test_failover() {
  return flow::fold(flow::Definition<TestFailoverState>{.name = "test_failover",
                                                        .version = 2,
                                                        .title = "Test failover",
                                                        .steps = kSteps,
                                                        .point_of_no_return = {},
                                                        .begin = begin});
}

}  // namespace farside::orchestrator
