// The contract of reactor::Bus, run on every implementation listed in bus_worlds.cpp.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <chrono>
#include <functional>
#include <thread>

#include "tests/contract/bus/bus_world.h"
#include "tests/contract/bus/bus_worlds.h"

namespace farside::reactor {
namespace {

using testing::ElementsAre;

// A bus and everything it delivered.
struct Station {
  explicit Station(std::unique_ptr<Bus> bus_in) : bus(std::move(bus_in)) {}

  void poll(int timeout_ms = 5) {
    const Status polled =
        bus->poll(timeout_ms, 100,
                  {.on_frame =
                       [this](const PeerId& from, std::string_view frame) {
                         senders.push_back(from);
                         frames.emplace_back(frame);
                       },
                   .on_peer = [this](const PeerChange& change) { changes.push_back(change); }});
    EXPECT_TRUE(polled) << polled.error().what;
  }
  bool sees(const std::string& principal) const {
    for (auto change = changes.rbegin(); change != changes.rend(); ++change) {
      if (change->peer.principal == principal) return change->connected;
    }
    return false;
  }

  std::unique_ptr<Bus> bus;
  std::vector<PeerId> senders;
  std::vector<std::string> frames;
  std::vector<PeerChange> changes;
};

class BusContract : public testing::TestWithParam<BusWorldMaker> {
 protected:
  // Polls the stations in turn until `done`; false after far longer than anything here takes.
  bool until(const std::function<bool()>& done, std::initializer_list<Station*> stations) {
    const auto give_up = std::chrono::steady_clock::now() + std::chrono::seconds(40);
    while (!done()) {
      if (std::chrono::steady_clock::now() > give_up) return false;
      for (Station* station : stations) station->poll();
      world->pass();
    }
    return true;
  }
  // For what must not happen: long enough for it to have happened in this world.
  void for_a_while(std::initializer_list<Station*> stations) {
    for (int i = 0; i < 120; ++i) {
      for (Station* station : stations) station->poll();
      world->pass();
    }
  }
  void introduce(Station& server, Station& client) {
    ASSERT_TRUE(server.bus->set_peer(world->peer("client")));
    ASSERT_TRUE(client.bus->set_peer(world->peer("server")));
  }
  void connect(Station& server, Station& client) {
    introduce(server, client);
    ASSERT_TRUE(
        until([&] { return server.sees("client") && client.sees("server"); }, {&server, &client}));
  }

  std::unique_ptr<BusWorld> world = GetParam().make();
};

TEST_P(BusContract, DeliversFramesBothWaysUnderTheNameOfTheKey) {
  Station server(world->open("server", true));
  Station client(world->open("client", false));
  connect(server, client);

  client.bus->send("server", "up");
  ASSERT_TRUE(until([&] { return !server.frames.empty(); }, {&server, &client}));
  server.bus->send("client", "down");
  ASSERT_TRUE(until([&] { return !client.frames.empty(); }, {&server, &client}));

  EXPECT_THAT(server.frames, ElementsAre("up"));
  EXPECT_EQ(server.senders[0].principal, "client");
  EXPECT_EQ(server.senders[0].role, world->peer("client").role);
  EXPECT_THAT(client.frames, ElementsAre("down"));
  EXPECT_EQ(client.senders[0].principal, "server");
}

TEST_P(BusContract, KeepsTheOrderOfOneConnection) {
  Station server(world->open("server", true));
  Station client(world->open("client", false));
  connect(server, client);
  std::vector<std::string> sent;
  for (int i = 0; i < 50; ++i) sent.push_back("frame " + std::to_string(i));

  for (const std::string& frame : sent) client.bus->send("server", frame);
  ASSERT_TRUE(until([&] { return server.frames.size() >= sent.size(); }, {&server, &client}));

  EXPECT_EQ(server.frames, sent);
}

TEST_P(BusContract, DeliversBigFramesUnharmed) {
  Station server(world->open("server", true));
  Station client(world->open("client", false));
  connect(server, client);
  std::string big(std::size_t{1} << 20U, '\0');
  for (std::size_t i = 0; i < big.size(); ++i) big[i] = static_cast<char>(i * 2654435761U >> 13U);

  client.bus->send("server", big);
  ASSERT_TRUE(until([&] { return !server.frames.empty(); }, {&server, &client}));
  server.bus->send("client", big);
  ASSERT_TRUE(until([&] { return !client.frames.empty(); }, {&server, &client}));

  EXPECT_TRUE(server.frames[0] == big);
  EXPECT_TRUE(client.frames[0] == big);
}

TEST_P(BusContract, DeliversAtMostFramesMaxAtOnceAndTheRestLater) {
  Station server(world->open("server", true));
  Station client(world->open("client", false));
  connect(server, client);
  for (int i = 0; i < 20; ++i) client.bus->send("server", std::to_string(i));
  ASSERT_TRUE(until([&] { return !server.frames.empty(); }, {&client, &server}));

  std::size_t most = 0;
  std::size_t total = server.frames.size();
  const auto give_up = std::chrono::steady_clock::now() + std::chrono::seconds(40);
  while (total < 20 && std::chrono::steady_clock::now() < give_up) {
    std::size_t delivered = 0;
    ASSERT_TRUE(server.bus->poll(
        5, 3, {.on_frame = [&](const PeerId&, std::string_view) { ++delivered; }, .on_peer = {}}));
    most = std::max(most, delivered);
    total += delivered;
    client.poll();
    world->pass();
  }

  EXPECT_EQ(total, 20u);
  EXPECT_LE(most, 3u);
}

TEST_P(BusContract, AnUnknownKeyIsRefusedAndCounted) {
  Station server(world->open("server", true));
  Station stranger(world->open("stranger", false));
  ASSERT_TRUE(stranger.bus->set_peer(world->peer("server")));

  ASSERT_TRUE(until(
      [&] {
        stranger.bus->send("server", "let me in");
        return world->refused_keys(*server.bus) > 0;
      },
      {&server, &stranger}));
  for_a_while({&server, &stranger});

  EXPECT_TRUE(server.frames.empty());
  EXPECT_TRUE(server.changes.empty());
  EXPECT_TRUE(stranger.changes.empty());
}

TEST_P(BusContract, AStrangerWhoIsIntroducedLaterGetsIn) {
  Station server(world->open("server", true));
  Station client(world->open("client", false));
  ASSERT_TRUE(client.bus->set_peer(world->peer("server")));
  ASSERT_TRUE(until([&] { return world->refused_keys(*server.bus) > 0; }, {&server, &client}));

  ASSERT_TRUE(server.bus->set_peer(world->peer("client")));

  EXPECT_TRUE(
      until([&] { return server.sees("client") && client.sees("server"); }, {&server, &client}));
}

TEST_P(BusContract, ARevokedPeerIsCutOffALiveConnection) {
  Station server(world->open("server", true));
  Station client(world->open("client", false));
  connect(server, client);

  msg::Peer revoked = world->peer("client");
  revoked.revoked = true;
  ASSERT_TRUE(server.bus->set_peer(revoked));
  client.bus->send("server", "still here?");

  ASSERT_TRUE(
      until([&] { return !server.sees("client") && !client.sees("server"); }, {&server, &client}));
  ASSERT_TRUE(until(
      [&] {
        client.bus->send("server", "and now?");
        return world->refused_keys(*server.bus) > 0;
      },
      {&server, &client}));
  server.bus->send("client", "you should not see this");
  for_a_while({&server, &client});
  EXPECT_TRUE(server.frames.empty());
  EXPECT_TRUE(client.frames.empty());
}

TEST_P(BusContract, ARemovedPeerIsAStranger) {
  Station server(world->open("server", true));
  Station client(world->open("client", false));
  connect(server, client);

  server.bus->remove_peer("client");
  client.bus->send("server", "still here?");

  ASSERT_TRUE(
      until([&] { return !server.sees("client") && !client.sees("server"); }, {&server, &client}));
  EXPECT_TRUE(server.frames.empty());
}

TEST_P(BusContract, AWrongServerKeyNeverConnects) {
  Station server(world->open("server", true));
  Station client(world->open("client", false));
  msg::Peer impostor = world->peer("server");
  impostor.public_key = world->peer("somebody else").public_key;
  ASSERT_TRUE(server.bus->set_peer(world->peer("client")));
  ASSERT_TRUE(client.bus->set_peer(impostor));

  for_a_while({&server, &client});

  EXPECT_TRUE(server.changes.empty());
  EXPECT_TRUE(client.changes.empty());
}

TEST_P(BusContract, OneKeyCannotBeTwoPrincipals) {
  Station server(world->open("server", true));
  msg::Peer twin = world->peer("client");
  ASSERT_TRUE(server.bus->set_peer(twin));
  twin.principal = "twin";

  const Status second = server.bus->set_peer(twin);

  ASSERT_FALSE(second);
  EXPECT_EQ(second.error().code, ErrorCode::kConflict);
}

TEST_P(BusContract, ReconnectsWhenTheListenerRestarts) {
  Station client(world->open("client", false));
  {
    Station server(world->open("server", true));
    connect(server, client);
  }
  client.changes.clear();

  Station again(world->open("server", true));
  ASSERT_TRUE(again.bus->set_peer(world->peer("client")));
  ASSERT_TRUE(until([&] { return again.sees("client"); }, {&again, &client}));
  ASSERT_TRUE(until(
      [&] {
        client.bus->send("server", "after the restart");
        return !again.frames.empty();
      },
      {&again, &client}));

  EXPECT_EQ(again.frames[0], "after the restart");
}

TEST_P(BusContract, ReconnectsWhenTheDiallerRestarts) {
  Station server(world->open("server", true));
  {
    Station client(world->open("client", false));
    connect(server, client);
  }

  Station again(world->open("client", false));
  ASSERT_TRUE(again.bus->set_peer(world->peer("server")));
  ASSERT_TRUE(until([&] { return again.sees("server"); }, {&server, &again}));
  ASSERT_TRUE(until(
      [&] {
        server.bus->send("client", "welcome back");
        return !again.frames.empty();
      },
      {&server, &again}));

  EXPECT_EQ(again.frames[0], "welcome back");
}

TEST_P(BusContract, APeerThatStopsIsReportedSilentOnceAndAgainWhenItReturns) {
  Station server(world->open("server", true));
  Station client(world->open("client", false));
  connect(server, client);
  client.changes.clear();

  // The server's process hangs: nothing polls it, although its connection stands.
  ASSERT_TRUE(until([&] { return !client.changes.empty(); }, {&client}));
  for_a_while({&client});

  ASSERT_EQ(client.changes.size(), 1u);
  EXPECT_EQ(client.changes[0].peer.principal, "server");
  EXPECT_FALSE(client.changes[0].connected);
  EXPECT_TRUE(until([&] { return client.sees("server"); }, {&server, &client}));
}

TEST_P(BusContract, BothEndsStayConnectedWhileNothingIsSaid) {
  Station server(world->open("server", true));
  Station client(world->open("client", false));
  connect(server, client);

  for_a_while({&server, &client});

  EXPECT_EQ(server.changes.size(), 1u);
  EXPECT_EQ(client.changes.size(), 1u);
}

TEST_P(BusContract, WakeEndsAPoll) {
  Station server(world->open("server", true));
  const auto start = std::chrono::steady_clock::now();

  std::jthread waker([&] { server.bus->wake(); });
  server.poll(600'000);

  EXPECT_LT(std::chrono::steady_clock::now() - start, std::chrono::seconds(300));
}

TEST_P(BusContract, AFullQueueDropsAndCountsInsteadOfGrowing) {
  Station server(world->open("server", true));
  Station client(world->open("client", false));
  connect(server, client);
  const int many = 4 * world->frames_queued_max() + 4'000;
  const std::string frame(64 * 1024, 'x');  // More than what the sockets buffer.

  for (int i = 0; i < many && world->dropped(*client.bus) == 0; ++i) {
    client.bus->send("server", frame);
  }

  EXPECT_GT(world->dropped(*client.bus), 0u);
}

TEST_P(BusContract, AFrameForAnAbsentPeerIsDroppedAndCounted) {
  Station server(world->open("server", true));
  ASSERT_TRUE(server.bus->set_peer(world->peer("client")));

  server.bus->send("client", "nobody home");
  server.bus->send("no such principal", "nobody home");

  EXPECT_EQ(world->dropped(*server.bus), 2u);
}

TEST_P(BusContract, AHandlerMayChangeThePeers) {
  Station server(world->open("server", true));
  Station client(world->open("client", false));
  connect(server, client);
  for (int i = 0; i < 10; ++i) client.bus->send("server", std::to_string(i));

  int delivered = 0;
  const auto give_up = std::chrono::steady_clock::now() + std::chrono::seconds(40);
  while (delivered == 0 && std::chrono::steady_clock::now() < give_up) {
    ASSERT_TRUE(server.bus->poll(5, 100,
                                 {.on_frame =
                                      [&](const PeerId& from, std::string_view) {
                                        ++delivered;
                                        server.bus->remove_peer(from.principal);
                                      },
                                  .on_peer = {}}));
    client.poll();
    world->pass();
  }
  for_a_while({&server, &client});

  EXPECT_EQ(delivered, 1);
  EXPECT_TRUE(server.frames.empty());
}

INSTANTIATE_TEST_SUITE_P(Buses, BusContract, testing::ValuesIn(bus_worlds()),
                         [](const auto& tested) { return tested.param.name; });

}  // namespace
}  // namespace farside::reactor
