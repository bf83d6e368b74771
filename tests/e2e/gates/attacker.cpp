// farside-attacker: takes as much of a port as it gets.
//
//   farside-attacker --endpoint tcp://127.0.0.1:PORT --seconds N --connections N
//       [--say nothing|greeting|noise|tls]
//       [--identity FILE --server FILE]
//
// As a stranger, from many addresses of the loopback network, it keeps so many connections open,
// opens each anew as it is closed, and says on each as much as is taken: nothing, a greeting and a
// frame without end, noise, or the beginning of a TLS handshake.  With --identity, the identity.key
// of a process, it is a peer that is known: each connection sends messages of many megabytes, in
// many parts. Prints how many connections it made, and how many bytes were taken.
#include <fmt/core.h>
#include <poll.h>

#include <CLI/CLI.hpp>
#include <chrono>
#include <vector>
#include <zmq.hpp>

#include "common/base/file.h"
#include "tests/support/curve_dealer.h"
#include "tests/support/raw_tcp.h"

namespace farside {
namespace {

using Moment = std::chrono::steady_clock::time_point;

struct Wanted {
  std::string endpoint;
  std::string say = "nothing";
  std::string identity;
  std::string server;
  int connections = 2000;
  int seconds = 5;
};

struct Done {
  std::uint64_t connections = 0;
  std::uint64_t bytes = 0;
};

std::string opening(const std::string& say) {
  if (say == "greeting") {
    return test::curve_greeting() +
           std::string("\x06\x00\x00\x00\x00\x00\x00\x03\xFF", 9);  // 1,023 bytes follow.
  }
  if (say == "tls") return std::string("\x16\x03\x01\x3F\xFF\x01\x00\x3F\xFB\x03\x03", 11);
  return {};
}

Done as_stranger(const Wanted& wanted, Moment until) {
  Done done;
  const std::string first = opening(wanted.say);
  const std::string more(16'384, wanted.say == "noise" ? '\xA5' : '\0');
  std::vector<std::unique_ptr<test::RawTcp>> held(static_cast<std::size_t>(wanted.connections));
  std::uint64_t number = 0;
  while (std::chrono::steady_clock::now() < until) {
    for (auto& one : held) {
      if (one && !one->is_closed_within(0)) {
        // One byte at a time where silence is what is tried: just enough to be there.
        const std::string_view next = wanted.say == "nothing" ? std::string_view() : more;
        if (!next.empty()) done.bytes += one->send_some(next);
        continue;
      }
      const std::string from = fmt::format("127.{}.{}.{}", 1 + number % 3, number / 3 % 200, 9);
      ++number;
      one = std::make_unique<test::RawTcp>(wanted.endpoint, from.c_str());
      if (!one->is_connected()) {
        one.reset();
        continue;
      }
      ++done.connections;
      done.bytes += one->send_some(first);
      if (std::chrono::steady_clock::now() >= until) break;
    }
    ::poll(nullptr, 0, 1);
  }
  return done;
}

Result<Done> as_peer(const Wanted& wanted, Moment until) {
  FARSIDE_ASSIGN(const auto who, test::load_identities(wanted.identity, wanted.server));
  Done done;
  zmq::context_t context{1};
  context.set(zmq::ctxopt::max_sockets, wanted.connections + 16);
  const std::string part(std::size_t{1} << 20U, 'x');
  std::vector<zmq::socket_t> sockets;
  for (int i = 0; i < wanted.connections; ++i) {
    zmq::socket_t dealer = test::curve_dealer(context, who.own, who.server_key);
    dealer.set(zmq::sockopt::sndhwm, 2);
    dealer.set(zmq::sockopt::immediate, true);
    dealer.connect(wanted.endpoint);
    sockets.push_back(std::move(dealer));
  }
  done.connections = sockets.size();
  while (std::chrono::steady_clock::now() < until) {
    for (zmq::socket_t& socket : sockets) {
      if (socket.send(zmq::buffer(part), zmq::send_flags::dontwait)) done.bytes += part.size();
    }
    ::poll(nullptr, 0, 1);
  }
  return done;
}

}  // namespace
}  // namespace farside

int main(int argc, char** argv) {
  using namespace farside;  // A program of its own.
  CLI::App app{"farside-attacker"};
  Wanted wanted;
  app.add_option("--endpoint", wanted.endpoint)->required();
  app.add_option("--say", wanted.say)
      ->check(CLI::IsMember({"nothing", "greeting", "noise", "tls"}));
  app.add_option("--identity", wanted.identity);
  app.add_option("--server", wanted.server);
  app.add_option("--connections", wanted.connections);
  app.add_option("--seconds", wanted.seconds);
  CLI11_PARSE(app, argc, argv);
  raise_open_files_limit();
  const Moment until = std::chrono::steady_clock::now() + std::chrono::seconds(wanted.seconds);
  const Result<Done> done =
      wanted.identity.empty() ? as_stranger(wanted, until) : as_peer(wanted, until);
  if (!done) {
    fmt::print(stderr, "farside-attacker: {}\n", done.error().what);
    return 1;
  }
  fmt::print("{} connections, {} bytes taken\n", done->connections, done->bytes);
  return 0;
}
