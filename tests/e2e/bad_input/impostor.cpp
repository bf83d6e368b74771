// farside-impostor: speaks to a Farside process with the identity of another one, out of its role.
//
//   farside-impostor --identity FILE --server FILE --endpoint tcp://HOST:PORT --to PRINCIPAL
//       --say stop|place|workflow|cut [--from PRINCIPAL] [--seconds N]
//
// FILE is the identity.key of a process.  stop, place and workflow are orders that only vault or
// orchestrator may give; cut sends every prefix of an order and of a data frame.  Prints the answer
// and exits with 0, or with 3 if none came.
#include <fmt/core.h>

#include <CLI/CLI.hpp>
#include <algorithm>
#include <chrono>
#include <zmq.hpp>

#include "common/schema/data.plain.h"
#include "common/schema/envelope.plain.h"
#include "tests/support/curve_dealer.h"

namespace farside {
namespace {

struct Wanted {
  std::string identity;
  std::string server;
  std::string endpoint;
  std::string from = "orchestrator";
  std::string to;
  std::string say;
  int seconds = 5;
};

msg::Message order(const std::string& say) {
  if (say == "place") return msg::Message(msg::PlaceReplica{.item = "item"});
  if (say == "workflow") {
    return msg::Message(msg::StartWorkflow{.job = "job", .workflow = "disable_protection"});
  }
  return msg::Message(msg::StopReplication{.item = "item", .vm = "vm"});
}

std::vector<std::string> frames_of(const Wanted& wanted) {
  const auto whole = msg::encode(msg::Envelope{
      .id = "impostor/1", .from = wanted.from, .to = wanted.to, .body = order(wanted.say)});
  if (wanted.say != "cut") return {whole};
  std::vector<std::string> out;
  const auto data = msg::encode(msg::DataFrame(msg::OpenDelta{.item = "item", .cycle = "cycle"}));
  for (const std::string* frame : {&whole, &data}) {
    for (std::size_t length = 1; length < frame->size(); ++length) {
      out.push_back(frame->substr(0, length));
    }
  }
  return out;
}

// The first answer to what was said; empty if none comes in time.
Result<std::string> speak(const Wanted& wanted) {
  FARSIDE_ASSIGN(const auto who, test::load_identities(wanted.identity, wanted.server));
  zmq::context_t context{1};
  zmq::socket_t dealer = test::curve_dealer(context, who.own, who.server_key);
  dealer.set(zmq::sockopt::linger, 1000);
  dealer.connect(wanted.endpoint);
  for (const auto& frame : frames_of(wanted)) dealer.send(zmq::buffer(frame));

  const auto until = std::chrono::steady_clock::now() + std::chrono::seconds(wanted.seconds);
  while (std::chrono::steady_clock::now() < until) {
    dealer.set(zmq::sockopt::rcvtimeo, 200);
    zmq::message_t frame;
    if (!dealer.recv(frame)) continue;
    const auto envelope = msg::decode<msg::Envelope>(frame.to_string_view());
    if (envelope && envelope->id == "impostor/1") return msg::to_text(*envelope);
  }
  return std::string();
}

}  // namespace
}  // namespace farside

int main(int argc, char** argv) {
  using namespace farside;
  CLI::App app("Speaks to a process with the identity of another one.", "farside-impostor");
  Wanted wanted;
  app.add_option("--identity", wanted.identity)->required();
  app.add_option("--server", wanted.server)->required();
  app.add_option("--endpoint", wanted.endpoint)->required();
  app.add_option("--from", wanted.from);
  app.add_option("--to", wanted.to)->required();
  app.add_option("--say", wanted.say)
      ->required()
      ->check(CLI::IsMember({"stop", "place", "workflow", "cut"}));
  app.add_option("--seconds", wanted.seconds);
  CLI11_PARSE(app, argc, argv);
  const auto answer = speak(wanted);
  if (!answer) {
    fmt::print(stderr, "farside-impostor: {}\n", to_text(answer.error()));
    return 1;
  }
  fmt::print("{}\n", answer->empty() ? "no answer" : *answer);
  return answer->empty() ? 3 : 0;
}
