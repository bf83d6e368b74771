// Runs transcripts: what an orchestrator is told, and what it then says.
//
//   # comment
//   > begin planned_failover        > answer            (success, to the newest request)
//   > refuse Platform               > wait 11           (seconds; the engine ticks once)
//   > cancel                        > crash             (everything but the store is gone)
//   -> to: message                  = phase             (what follows each command)
//
// scenario_test --rewrite writes what happened into the files, to be read as a diff.
#include <fmt/format.h>
#include <gtest/gtest.h>

#include <filesystem>
#include <fstream>
#include <sstream>

#include "common/base/log.h"
#include "common/flow/engine.h"
#include "common/store/mem_store.h"
#include "services/orchestrator/workflows/all.h"
#include "tests/support/flow_answers.h"

namespace farside::flow {
namespace {

bool rewrite = false;

ErrorCode code_named(const std::string& name) {
  for (int i = 1; i < 64; ++i) {
    if (to_text(static_cast<ErrorCode>(i)) == name) return static_cast<ErrorCode>(i);
  }
  ADD_FAILURE() << "no error code " << name;
  return ErrorCode::kInternal;
}

class Scenario final {
 public:
  std::string run(const std::string& text) {
    std::string out;
    std::istringstream lines(text);
    for (std::string line; std::getline(lines, line);) {
      if (line.starts_with("->") || line.starts_with("=")) continue;  // Said anew below.
      out += line + "\n";
      if (line.starts_with("> ")) out += command(line.substr(2));
    }
    return out;
  }

 private:
  std::string command(const std::string& line) {
    std::istringstream words(line);
    std::string verb;
    std::string argument;
    words >> verb >> argument;
    said_.clear();
    if (verb == "begin") {
      turn([&](auto& effects) { EXPECT_TRUE(engine_->begin("job", argument, input(), effects)); });
    } else if (verb == "answer") {
      reply(testing_support::answer_to(newest_.body));
    } else if (verb == "refuse") {
      reply(msg::Refused{.fault = to_fault(Error{
                             .code = code_named(argument), .what = "as planted", .advice = ""})});
    } else if (verb == "wait") {
      now_ = now_ + std::chrono::seconds{std::stoi(argument)};
      turn([&](auto& effects) { engine_->tick(effects); });
    } else if (verb == "cancel") {
      turn([&](auto& effects) { std::ignore = engine_->cancel("job", effects); });
    } else if (verb == "crash") {
      engine_ = make();
    } else {
      ADD_FAILURE() << "no command '" << verb << "'";
    }
    const auto record = engine_->find(store_, "job");
    if (record && *record) said_ += fmt::format("= {}\n", msg::to_text((*record)->phase));
    return said_;
  }

  static std::unique_ptr<Engine> make() {
    return std::make_unique<Engine>(orchestrator::all_workflows(), EngineLimits{},
                                    [](const std::string& to) { return to; });
  }
  static msg::WorkflowInput input() {
    return {.spec = {.item = "item",
                     .vm = "vm",
                     .vm_name = "web",
                     .source_site = "A",
                     .source_agent = "agent/A/host",
                     .target_site = "B",
                     .target_cloud = "cloud",
                     .target_agent = "agent/B/host",
                     .epoch = 1,
                     .networks = {{.source = "lan", .target = "lan"}}}};
  }
  void reply(const msg::Message& body) {
    const auto request = newest_;
    turn([&](auto& effects) { engine_->on_reply(request.id, request.to, body, effects); });
  }
  void turn(const std::function<void(reactor::Effects&)>& act) {
    reactor::Effects effects("orchestrator", store_, now_, Micros{now_.micros}, random_);
    act(effects);
    EXPECT_TRUE(store_.commit(effects.writes));
    for (auto& effect : effects.effects) {
      if (auto* sent = std::get_if<reactor::SendMessage>(&effect)) {
        newest_ = sent->envelope;
        said_ +=
            fmt::format("-> {}: {} ({})\n", newest_.to, msg::name_of(newest_.body), newest_.id);
      }
    }
  }

  store::MemStore store_;
  SeededRandom random_{1};
  Time now_{1'800'000'000'000'000};
  std::unique_ptr<Engine> engine_ = make();
  msg::Envelope newest_;
  std::string said_;
};

TEST(Scenario, EveryTranscriptHappensAsWritten) {
  int count = 0;
  for (const auto& entry : std::filesystem::directory_iterator(FARSIDE_SCENARIOS)) {
    if (entry.path().extension() != ".txt") continue;
    SCOPED_TRACE(entry.path().filename().string());
    ++count;
    std::ifstream in(entry.path());
    std::ostringstream written;
    written << in.rdbuf();

    const auto happened = Scenario().run(written.str());

    if (rewrite) {
      std::ofstream(entry.path()) << happened;
    } else {
      EXPECT_EQ(happened, written.str());
    }
  }
  EXPECT_GT(count, 0);
}

}  // namespace
}  // namespace farside::flow

int main(int argc, char** argv) {
  farside::log::set_up("scenario", "off");
  testing::InitGoogleTest(&argc, argv);
  farside::flow::rewrite = argc > 1 && std::string(argv[1]) == "--rewrite";
  return RUN_ALL_TESTS();
}
