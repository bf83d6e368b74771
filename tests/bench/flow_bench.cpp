// Durable workflow steps per second against plain synced writes to the same store on the same disk.
// Prints one JSON object.
#include <fmt/format.h>

#include <cstdlib>
#include <filesystem>

#include "common/base/log.h"
#include "common/flow/engine.h"
#include "common/store/rocks_store.h"
#include "services/orchestrator/workflows/all.h"

namespace farside {
namespace {

constexpr int kFlows = 200;

double per_second(int count, Micros time) {
  return static_cast<double>(count) * 1e6 / static_cast<double>(time.count());
}

// A clean-up flow has two steps; each is one turn and one synced batch.
int run_flows(store::Store& store, const Clock& clock, Random& random) {
  flow::Engine engine(orchestrator::all_workflows(), {}, [](const std::string& to) { return to; });
  int steps = 0;
  for (int i = 0; i < kFlows; ++i) {
    const auto id = "job-" + std::to_string(i);
    std::optional<msg::Envelope> asked;
    const auto turn = [&](const auto& act) {
      reactor::Effects effects("orchestrator", store, clock.now(), clock.monotonic(), random);
      act(effects);
      if (!store.commit(effects.writes)) std::abort();
      asked.reset();
      for (auto& effect : effects.effects) {
        if (auto* sent = std::get_if<reactor::SendMessage>(&effect)) asked = sent->envelope;
      }
    };
    turn([&](auto& effects) {
      std::ignore =
          engine.begin(id, "test_failover_cleanup",
                       {.spec = {.item = "item", .target_agent = "agent/B/host"}}, effects);
    });
    while (asked) {
      const auto request = *asked;
      const bool removing = std::holds_alternative<msg::RemoveTestVm>(request.body.value);
      turn([&](auto& effects) {
        engine.on_reply(request.id, request.to,
                        removing ? msg::Message(msg::TestVmRemoved{.item = "item"})
                                 : msg::Message(msg::ItemRecorded{.item = "item"}),
                        effects);
        engine.noted(id, 1, effects);
      });
      ++steps;
    }
  }
  return steps;
}

int write_plain(store::Store& store, int count) {
  for (int i = 0; i < count; ++i) {
    store::Batch batch;
    batch.put("plain", std::to_string(i), std::string(400, 'x'));
    if (!store.commit(batch)) std::abort();
  }
  return count;
}

int run() {
  log::set_up("bench", "off");
  std::string folder = std::filesystem::temp_directory_path() / "farside-flow-bench.XXXXXX";
  if (mkdtemp(folder.data()) == nullptr) return 1;
  int result = 1;
  if (auto store = store::RocksStore::open(folder)) {
    const SystemClock clock;
    SystemRandom random;
    const auto start = clock.monotonic();
    const int steps = run_flows(**store, clock, random);
    const auto between = clock.monotonic();
    const int writes = write_plain(**store, steps);
    const auto end = clock.monotonic();
    const double ours = per_second(steps, between - start);
    const double plain = per_second(writes, end - between);
    fmt::print(
        "{{\"bench\":\"flow_steps\",\"stepsPerSecond\":{:.0f},\"syncedWritesPerSecond\":{:.0f},"
        "\"ratio\":{:.2f}}}\n",
        ours, plain, ours / plain);
    result = 0;
  }
  std::filesystem::remove_all(folder);
  return result;
}

}  // namespace
}  // namespace farside

int main() {
  return farside::run();
}
