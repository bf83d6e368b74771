// Clean-up of a test failover: removes the test VM, its overlays and its view; keeps the notes.
//
//   remove_test_vm ==> record_cleanup
//   nothing to undo: removing again is harmless, so from the first step only forward
#include "services/orchestrator/workflows/all.h"
#include "services/orchestrator/workflows/common.h"

namespace farside::orchestrator {
namespace {

using msg::CleanupState;

CleanupState begin(const msg::WorkflowInput& input) {
  return CleanupState{.spec = input.spec, .notes = input.notes};
}

flow::Request remove_test_vm(const CleanupState& s) {
  return flow::ask(s.spec.target_agent, msg::RemoveTestVm{.item = s.spec.item});
}

flow::Request record_cleanup(const CleanupState& s) {
  return record(msg::ItemChange{
      .item = s.spec.item, .state = msg::ItemState::protected_, .test_vm = "", .notes = s.notes});
}

using Step = flow::Step<CleanupState>;
constexpr std::array kSteps{
    Step{.name = "remove_test_vm",
         .title = "Remove the test virtual machine",
         .act = remove_test_vm,
         .learn = flow::learn_done<CleanupState, msg::TestVmRemoved>,
         .silence = std::chrono::minutes{2}},
    Step{.name = "record_cleanup",
         .title = "Record the notes",
         .act = record_cleanup,
         .learn = flow::learn_done<CleanupState, msg::ItemRecorded>},
};

}  // namespace

flow::Workflow test_failover_cleanup() {
  return flow::fold(flow::Definition<CleanupState>{.name = "test_failover_cleanup",
                                                   .version = 1,
                                                   .title = "Clean up test failover",
                                                   .steps = kSteps,
                                                   .point_of_no_return = "remove_test_vm",
                                                   .begin = begin});
}

}  // namespace farside::orchestrator
