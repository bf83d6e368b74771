// farside-hostile: a peer whose key is good and that says everything it could ever say.
//
//   farside-hostile --identity FILE --server FILE --endpoint tcp://HOST:PORT --words FILE
//       --seed N --seconds N [--data --item ID --disk NAME:BYTES:ID ...] [--answers FILE]
//
// With --item and its disks a delta of it is opened again and again, so that frames meet an open
// session.
// FILE of --words has a line for each name, id or path that means something to the victim; the
// first is our own principal.  Sends every message of the control plane, or with --data every frame
// of the data plane, with every field out of range, as often as the time allows.  All answers go to
// the FILE of --answers.  Prints how many messages of how many kinds were sent.
#include <fmt/core.h>

#include <CLI/CLI.hpp>
#include <chrono>
#include <fstream>
#include <set>
#include <zmq.hpp>

#include "tests/e2e/gates/hostile_value.h"
#include "tests/support/curve_dealer.h"

namespace farside {
namespace {

struct Wanted {
  std::string identity;
  std::string server;
  std::string endpoint;
  std::string words;
  std::string answers = "/dev/null";
  std::uint64_t seed = 1;
  int seconds = 10;
  bool data = false;
  std::string item;
  std::vector<std::string> disks;
};

// "vda:1048576:file:/images/a.qcow2"
msg::ReplicaDisk disk_from(const std::string& text) {
  const std::size_t first = text.find(':');
  const std::size_t second = text.find(':', first + 1);
  return {.name = text.substr(0, first),
          .bytes = std::stoull(text.substr(first + 1, second - first - 1)),
          .id = text.substr(second + 1)};
}

std::vector<std::string> lines_of(const std::string& path) {
  std::vector<std::string> out;
  std::ifstream in(path);
  for (std::string line; std::getline(in, line);) out.push_back(line);
  return out;
}

class Hostile final {
 public:
  Hostile(const Wanted& wanted, std::vector<std::string> words)
      : wanted_(wanted),
        self_(words.at(0)),
        maker_(wanted.seed, std::move(words)),
        answers_(wanted.answers, std::ios::binary) {
    for (const std::string& disk : wanted.disks) disks_.push_back(disk_from(disk));
  }

  Status connect() {
    FARSIDE_ASSIGN(const auto who, test::load_identities(wanted_.identity, wanted_.server));
    dealer_ = test::curve_dealer(context_, who.own, who.server_key);
    dealer_.set(zmq::sockopt::sndtimeo, 1000);
    dealer_.connect(wanted_.endpoint);
    return {};
  }

  // One message of each kind in turn, so that all have been tried once the first round is over.
  void say_one() {
    wanted_.data ? say_frame() : say_message();
    zmq::message_t part;
    while (dealer_.recv(part, zmq::recv_flags::dontwait)) {
      answers_.write(static_cast<const char*>(part.data()),
                     static_cast<std::streamsize>(part.size()));
      const auto frame = wanted_.data ? msg::decode<msg::DataFrame>(part.to_string_view())
                                      : Result<msg::DataFrame>(msg::DataFrame{});
      if (frame && std::holds_alternative<msg::DeltaOpened>(frame->value)) ++opened_;
    }
  }

  std::uint64_t sent() const { return sent_; }
  std::size_t kinds() const { return kinds_.size(); }
  std::uint64_t untaken() const { return untaken_; }
  std::uint64_t opened() const { return opened_; }

 private:
  template <class T>
  T next_of() {
    auto arms = test::arms_of<T>();
    T out = std::move(arms[turn_++ % arms.size()]);
    std::visit([&](auto& arm) { maker_.fill(arm); }, out.value);
    kinds_.insert(std::string(name_of(out)));
    return out;
  }

  void say_message() {
    msg::Envelope envelope{.id = maker_.chance(0.5) ? "job/" + maker_.word() : maker_.text(),
                           .from = maker_.chance(0.7) ? self_ : maker_.text(),
                           .to = maker_.word(),
                           .reply = maker_.chance(0.2),
                           .body = next_of<msg::Message>()};
    send(msg::encode(envelope), {});
  }

  // Often with a session that is open, so that more than the door is tried.
  void say_frame() {
    if (maker_.chance(0.5)) {
      send(msg::encode(msg::DataFrame(msg::OpenDelta{.item = wanted_.item,
                                                     .epoch = 1,
                                                     .cycle = maker_.text(),
                                                     .disks = disks_,
                                                     .compare = maker_.chance(0.5)})),
           {});
    }
    std::string payload(maker_.chance(0.3) ? maker_.below(200'000) : maker_.below(64), '\xA5');
    send(msg::encode(next_of<msg::DataFrame>()), payload);
  }

  void send(const std::string& head, const std::string& payload) {
    const bool two = !payload.empty();
    const auto flags = two ? zmq::send_flags::sndmore : zmq::send_flags::none;
    bool taken = dealer_.send(zmq::buffer(head), flags).has_value();
    if (taken && two) taken = dealer_.send(zmq::buffer(payload), zmq::send_flags::none).has_value();
    ++(taken ? sent_ : untaken_);
  }

  const Wanted& wanted_;
  const std::string self_;
  hostile::Maker maker_;
  std::ofstream answers_;
  zmq::context_t context_{1};
  zmq::socket_t dealer_;
  std::uint64_t turn_ = 0;
  std::uint64_t sent_ = 0;
  std::uint64_t untaken_ = 0;
  std::uint64_t opened_ = 0;
  std::vector<msg::ReplicaDisk> disks_;
  std::set<std::string> kinds_;
};

}  // namespace
}  // namespace farside

int main(int argc, char** argv) {
  using namespace farside;  // A program of its own.
  CLI::App app{"farside-hostile"};
  Wanted wanted;
  app.add_option("--identity", wanted.identity)->required();
  app.add_option("--server", wanted.server)->required();
  app.add_option("--endpoint", wanted.endpoint)->required();
  app.add_option("--words", wanted.words)->required();
  app.add_option("--answers", wanted.answers);
  app.add_option("--seed", wanted.seed);
  app.add_option("--seconds", wanted.seconds);
  app.add_flag("--data", wanted.data);
  app.add_option("--item", wanted.item);
  app.add_option("--disk", wanted.disks);
  CLI11_PARSE(app, argc, argv);
  auto words = lines_of(wanted.words);
  if (words.empty()) {
    fmt::print(stderr, "farside-hostile: {} has no line\n", wanted.words);
    return 1;
  }
  Hostile hostile(wanted, std::move(words));
  if (const Status connected = hostile.connect(); !connected) {
    fmt::print(stderr, "farside-hostile: {}\n", connected.error().what);
    return 1;
  }
  const auto until = std::chrono::steady_clock::now() + std::chrono::seconds(wanted.seconds);
  while (std::chrono::steady_clock::now() < until) hostile.say_one();
  fmt::print("{} messages of {} kinds, {} not taken, {} deltas opened\n", hostile.sent(),
             hostile.kinds(), hostile.untaken(), hostile.opened());
  return 0;
}
