// A port before strangers and before peers that mean harm.  Whoever speaks CURVE here is libzmq.
#include "common/bus/listener.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <condition_variable>
#include <deque>
#include <mutex>
#include <set>
#include <zmq.hpp>

#include "common/bus/curve_server.h"
#include "common/bus/tcp_port.h"
#include "tests/support/curve_dealer.h"
#include "tests/support/raw_tcp.h"

namespace farside::bus {
namespace {

using std::chrono::milliseconds;
using test::RawTcp;

constexpr std::size_t kPartMax = std::size_t{1} << 20U;
constexpr std::uint64_t kBudget = std::uint64_t{8} << 20U;

class ListenerTest : public testing::Test {
 protected:
  void SetUp() override {
    curve_ = {.public_key = key_bytes(server_.public_key).value(),
              .secret_key = key_bytes(server_.secret_key).value(),
              .part_bytes_max = kPartMax,
              .parts_max = 3,
              .admits = [this](const std::string& key) {
                const std::lock_guard lock(mutex_);
                return admitted_.contains(key);
              }};
    admitted_.insert(client_.public_key);
  }

  void start() {
    auto started =
        Listener::start({.what = "the port under test",
                         .endpoint = "tcp://127.0.0.1:0",
                         .limits = limits_,
                         .budgets = budgets_,
                         .begin = [this] { return std::make_unique<CurveServer>(curve_); },
                         .on_message =
                             [this](Message message) {
                               const std::lock_guard lock(mutex_);
                               messages_.push_back(std::move(message));
                               arrived_.notify_all();
                             },
                         .on_closed = [this](LinkId) { ++closed_; }});
    ASSERT_TRUE(started) << started.error().what;
    listener_ = std::move(*started);
  }

  zmq::socket_t dealer(const CurveKeys& keys) {
    zmq::socket_t socket = test::curve_dealer(context_, keys, server_.public_key);
    socket.set(zmq::sockopt::reconnect_ivl, 20);
    socket.set(zmq::sockopt::rcvtimeo, 20'000);
    socket.set(zmq::sockopt::sndtimeo, 20'000);
    socket.connect(listener_->endpoint());
    return socket;
  }

  Message next() {
    std::unique_lock lock(mutex_);
    arrived_.wait_for(lock, std::chrono::seconds(20), [&] { return !messages_.empty(); });
    if (messages_.empty()) return {};
    Message message = std::move(messages_.front());
    messages_.pop_front();
    return message;
  }
  std::size_t waiting() {
    const std::lock_guard lock(mutex_);
    return messages_.size();
  }
  template <class Done>
  bool soon(Done done) {
    for (int i = 0; i < 2'000; ++i) {
      if (done()) return true;
      usleep(10'000);
    }
    return false;
  }

  CurveKeys server_ = generate_keys().value();
  CurveKeys client_ = generate_keys().value();
  CurveServerOptions curve_;
  ListenerLimits limits_;
  std::shared_ptr<Budgets> budgets_ = std::make_shared<Budgets>(kBudget);
  zmq::context_t context_;
  std::mutex mutex_;  // Guards the next three.
  std::condition_variable arrived_;
  std::deque<Message> messages_;
  std::set<std::string> admitted_;
  std::atomic<int> closed_ = 0;
  std::unique_ptr<Listener> listener_;  // Last: its thread uses what is above.
};

TEST_F(ListenerTest, LibzmqIsUnderstoodBothWays) {
  start();
  zmq::socket_t socket = dealer(client_);
  std::string big(kPartMax, '\0');
  for (std::size_t i = 0; i < big.size(); ++i) big[i] = static_cast<char>(i * 2654435761U >> 13U);
  socket.send(zmq::str_buffer("head"), zmq::send_flags::sndmore);
  socket.send(zmq::message_t(), zmq::send_flags::sndmore);
  socket.send(zmq::buffer(big), zmq::send_flags::none);

  const Message message = next();
  ASSERT_EQ(message.parts.size(), 3U);
  EXPECT_EQ(message.key, client_.public_key);
  EXPECT_EQ(message.parts[0].view(), "head");
  EXPECT_EQ(message.parts[1].view(), "");
  EXPECT_TRUE(message.parts[2].view() == big);

  EXPECT_EQ(listener_->send(message.link, {"answer", big, ""}), Listener::Sent::kYes);
  zmq::message_t part;
  ASSERT_TRUE(socket.recv(part));
  EXPECT_EQ(part.to_string_view(), "answer");
  EXPECT_TRUE(part.more());
  ASSERT_TRUE(socket.recv(part));
  EXPECT_TRUE(part.to_string_view() == big);
  ASSERT_TRUE(socket.recv(part));
  EXPECT_EQ(part.size(), 0U);
  EXPECT_FALSE(part.more());
  EXPECT_EQ(listener_->stats().known, 1U);
}

TEST_F(ListenerTest, AnUnknownKeyIsToldSo) {
  start();
  const CurveKeys stranger = generate_keys().value();
  zmq::socket_t socket = test::curve_dealer(context_, stranger, server_.public_key);
  ASSERT_EQ(zmq_socket_monitor(socket.handle(), "inproc://events", ZMQ_EVENT_HANDSHAKE_FAILED_AUTH),
            0);
  zmq::socket_t events(context_, zmq::socket_type::pair);
  events.set(zmq::sockopt::rcvtimeo, 20'000);
  events.connect("inproc://events");
  socket.connect(listener_->endpoint());

  zmq::message_t event;
  EXPECT_TRUE(events.recv(event));
  zmq_socket_monitor(socket.handle(), nullptr, 0);
  EXPECT_TRUE(soon([&] { return listener_->stats().refused_keys > 0; }));
  EXPECT_EQ(listener_->stats().admitted, 0U);
}

TEST_F(ListenerTest, AClientOfAnotherServersKeyGetsNowhere) {
  start();
  server_ = generate_keys().value();  // As the client believes.
  zmq::socket_t socket = dealer(client_);
  socket.send(zmq::str_buffer("x"), zmq::send_flags::dontwait);
  EXPECT_TRUE(soon([&] { return listener_->stats().broken > 0; }));
  EXPECT_EQ(listener_->stats().admitted, 0U);
}

// Nobody holds more of the port than his share, and who proves himself always finds a place.
TEST_F(ListenerTest, StrangersWhoStayKeepNobodyOut) {
  limits_.strangers_max = 100;
  limits_.strangers_per_address_max = 16;
  limits_.proof_within = std::chrono::minutes(10);
  start();
  std::vector<RawTcp> strangers;
  for (int i = 0; i < 400; ++i) {
    const std::string from = "127.0.0." + std::to_string(2 + i % 20);
    strangers.emplace_back(listener_->endpoint(), from.c_str());
    ASSERT_TRUE(strangers.back().is_connected());
    std::ignore = strangers.back().send_some("\xFF");
  }
  ASSERT_TRUE(soon([&] { return listener_->stats().turned_away >= 300; }));
  EXPECT_LE(listener_->stats().strangers, 100U);

  zmq::socket_t socket = dealer(client_);
  socket.send(zmq::str_buffer("I am known"), zmq::send_flags::none);
  EXPECT_EQ(next().parts.at(0).view(), "I am known");

  std::vector<RawTcp> neighbours;
  for (int i = 0; i < 40; ++i) neighbours.emplace_back(listener_->endpoint(), "127.0.0.99");
  int open = 0;
  ASSERT_TRUE(soon([&] { return listener_->stats().turned_away >= 324 + 1; }));
  for (const RawTcp& one : neighbours) open += one.is_closed_within(50) ? 0 : 1;
  EXPECT_LE(open, 16);
}

TEST_F(ListenerTest, WhoDoesNotProveHimselfInTimeGoes) {
  limits_.proof_within = milliseconds(200);
  start();
  const RawTcp idle(listener_->endpoint());
  EXPECT_TRUE(idle.is_closed_within(20'000));
  EXPECT_EQ(listener_->stats().turned_away, 1U);

  zmq::socket_t socket = dealer(client_);
  socket.send(zmq::str_buffer("known"), zmq::send_flags::none);
  EXPECT_EQ(next().parts.size(), 1U);
  usleep(600'000);
  socket.send(zmq::str_buffer("still"), zmq::send_flags::none);
  EXPECT_EQ(next().parts.size(), 1U);
  EXPECT_EQ(closed_, 0);
}

TEST_F(ListenerTest, NonsenseEndsAConnectionAtOnce) {
  start();
  const std::string greeting = test::curve_greeting();
  std::string null_greeting = greeting;
  null_greeting.replace(12, 5, "NULL\0", 5);
  std::string hello(202, '\0');
  hello.replace(0, 8, "\x04\xC8\x05HELLO");
  hello[8] = 1;
  const std::vector<std::string> nonsense{
      "GET / HTTP/1.1\r\nHost: x\r\n" + std::string(64, ' '),
      std::string(64, '\0'),
      null_greeting,
      greeting + std::string("\x02\x7F\xFF\xFF\xFF\xFF\xFF\xFF\xFF", 9),  // A frame of 2^63 bytes.
      greeting + std::string("\x06\x00\x00\x00\x00\x00\x01\x00\x00", 9),  // 64 KiB.
      greeting + std::string("\x08\x01x", 3),                             // Unknown flags.
      greeting + std::string("\x04\x00", 2),
      greeting + std::string("\x00\x05hello", 7),  // A message before the handshake.
      greeting + hello};                           // A HELLO that was not made for us.
  for (std::size_t i = 0; i < nonsense.size(); ++i) {
    const RawTcp raw(listener_->endpoint());
    std::ignore = raw.send(nonsense[i]);
    EXPECT_TRUE(raw.is_closed_within(20'000)) << i;
  }
  EXPECT_TRUE(soon([&] { return listener_->stats().broken == nonsense.size(); }));
  EXPECT_EQ(listener_->stats().strangers, 0U);
}

// libzmq at our end counted whole messages only: one that goes on and on grew until memory ended.
TEST_F(ListenerTest, AMessageOfManyPartsEndsTheConnection) {
  start();
  zmq::socket_t socket = dealer(client_);
  const std::string part(kPartMax, 'x');
  for (int i = 0; i < 32; ++i) socket.send(zmq::buffer(part), zmq::send_flags::sndmore);
  socket.send(zmq::buffer(part), zmq::send_flags::none);
  EXPECT_TRUE(soon([&] { return listener_->stats().broken > 0; }));
  EXPECT_EQ(waiting(), 0U);
  EXPECT_LE(budgets_->of(client_.public_key)->used, kBudget);
}

TEST_F(ListenerTest, APartThatIsTooLongEndsTheConnectionBeforeItIsHeld) {
  start();
  zmq::socket_t socket = dealer(client_);
  socket.send(zmq::buffer(std::string(kPartMax + 1, 'x')), zmq::send_flags::none);
  EXPECT_TRUE(soon([&] { return listener_->stats().broken > 0; }));
  EXPECT_EQ(waiting(), 0U);
}

TEST_F(ListenerTest, APeerIsReadOnlyAsFarAsItsBudgetGoes) {
  start();
  const CurveKeys other = generate_keys().value();
  {
    const std::lock_guard lock(mutex_);
    admitted_.insert(other.public_key);
  }
  std::vector<zmq::socket_t> flood;
  for (int i = 0; i < 3; ++i) flood.push_back(dealer(client_));
  const std::string part(kPartMax / 2, 'x');
  constexpr int kEach = 20;
  for (int i = 0; i < kEach; ++i) {
    for (zmq::socket_t& one : flood) one.send(zmq::buffer(part), zmq::send_flags::none);
  }
  ASSERT_TRUE(soon([&] { return waiting() >= kBudget / part.size() - 4; }));
  usleep(300'000);
  EXPECT_LE(waiting() * part.size(), kBudget);
  EXPECT_LE(budgets_->of(client_.public_key)->used, kBudget);

  // Its flood is its own problem.
  zmq::socket_t socket = dealer(other);
  socket.send(zmq::str_buffer("hello"), zmq::send_flags::none);
  ASSERT_TRUE(soon([&] {
    const std::lock_guard lock(mutex_);
    return !messages_.empty() && messages_.back().key == other.public_key;
  }));

  // And all of it comes once there is room again.
  int got = 0;
  while (got < 3 * kEach + 1 && !next().parts.empty()) ++got;
  EXPECT_EQ(got, 3 * kEach + 1);
  EXPECT_EQ(listener_->stats().broken, 0U);
  EXPECT_TRUE(soon([&] { return budgets_->of(client_.public_key)->used < 1024; }));
}

TEST_F(ListenerTest, APeerThatDoesNotReadIsNotWrittenToWithoutEnd) {
  limits_.unsent_bytes_max = std::uint64_t{2} << 20U;
  start();
  zmq::socket_t socket = dealer(client_);
  socket.set(zmq::sockopt::rcvhwm, 1);
  socket.send(zmq::str_buffer("ask"), zmq::send_flags::none);
  const LinkId link = next().link;
  const std::string answer(kPartMax / 2, 'x');
  auto sent = Listener::Sent::kYes;
  for (int i = 0; i < 4'000 && sent == Listener::Sent::kYes; ++i) {
    sent = listener_->send(link, {answer});
  }
  EXPECT_EQ(sent, Listener::Sent::kFull);
  EXPECT_LE(budgets_->of(client_.public_key)->used, limits_.unsent_bytes_max + 1024);
}

TEST_F(ListenerTest, AKeyThatIsNoLongerWantedIsCutOff) {
  start();
  zmq::socket_t socket = dealer(client_);
  socket.send(zmq::str_buffer("x"), zmq::send_flags::none);
  const LinkId link = next().link;
  {
    const std::lock_guard lock(mutex_);
    admitted_.clear();
  }
  listener_->close_all_of(client_.public_key);
  EXPECT_TRUE(soon([&] { return closed_ == 1 && listener_->stats().refused_keys > 0; }));
  EXPECT_EQ(listener_->send(link, {"x"}), Listener::Sent::kAway);
}

TEST_F(ListenerTest, OfTheConnectionsOfOneKeyTheOldestGivesWay) {
  limits_.links_per_key_max = 4;
  start();
  std::vector<zmq::socket_t> sockets;
  for (int i = 0; i < 4; ++i) {
    sockets.push_back(dealer(client_));
    sockets.back().send(zmq::str_buffer("x"), zmq::send_flags::none);
    ASSERT_EQ(next().parts.size(), 1U);
  }
  sockets[0].disconnect(listener_->endpoint());  // It must not come back and push out another.
  zmq::socket_t fifth = dealer(client_);
  fifth.send(zmq::str_buffer("x"), zmq::send_flags::none);
  ASSERT_EQ(next().parts.size(), 1U);
  EXPECT_LE(listener_->stats().known, 4U);
}

// What libzmq sent once is sent again, over the same and over another connection.
TEST_F(ListenerTest, WhatWasRecordedIsWorthNothing) {
  start();
  const std::string port = listener_->endpoint();
  // A man in the middle: one connection of libzmq, forwarded and recorded.
  const int middle = ::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
  sockaddr_in address{};
  address.sin_family = AF_INET;
  address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
  ASSERT_EQ(::bind(middle, reinterpret_cast<const sockaddr*>(&address), sizeof address), 0);
  ASSERT_EQ(::listen(middle, 1), 0);
  socklen_t size = sizeof address;
  ASSERT_EQ(::getsockname(middle, reinterpret_cast<sockaddr*>(&address), &size), 0);
  zmq::socket_t socket = test::curve_dealer(context_, client_, server_.public_key);
  socket.connect("tcp://127.0.0.1:" + std::to_string(ntohs(address.sin_port)));
  socket.send(zmq::str_buffer("a secret order"), zmq::send_flags::none);
  const int client = ::accept(middle, nullptr, nullptr);
  ASSERT_GE(client, 0);
  const RawTcp forward(port);
  std::string recorded;
  std::array<char, 4096> part{};
  while (waiting() == 0) {
    std::array<pollfd, 2> both{pollfd{.fd = client, .events = POLLIN, .revents = 0},
                               pollfd{.fd = forward.fd(), .events = POLLIN, .revents = 0}};
    ASSERT_GE(::poll(both.data(), both.size(), 100), 0);
    if ((both[0].revents & POLLIN) != 0) {
      const ssize_t n = ::recv(client, part.data(), part.size(), 0);
      ASSERT_GT(n, 0);
      const std::string_view bytes(part.data(), static_cast<std::size_t>(n));
      recorded += bytes;
      ASSERT_TRUE(forward.send(bytes));
    }
    if ((both[1].revents & POLLIN) != 0) {
      const ssize_t n = ::recv(forward.fd(), part.data(), part.size(), 0);
      ASSERT_GT(n, 0);
      ASSERT_EQ(::send(client, part.data(), static_cast<std::size_t>(n), MSG_NOSIGNAL), n);
    }
  }
  EXPECT_EQ(next().parts.at(0).view(), "a secret order");
  EXPECT_EQ(recorded.find("a secret order"), std::string::npos);

  // The message alone, once more on the connection it belongs to: | flags | size | MESSAGE ... |
  const std::size_t message = recorded.rfind("\x07MESSAGE");
  ASSERT_NE(message, std::string::npos);
  ASSERT_TRUE(forward.send(recorded.substr(message - 2)));
  EXPECT_TRUE(forward.is_closed_within(20'000));
  // All of it on a connection of its own.
  const RawTcp again(port);
  std::ignore = again.send(recorded);
  EXPECT_TRUE(again.is_closed_within(20'000));
  EXPECT_EQ(waiting(), 0U);
  EXPECT_EQ(listener_->stats().admitted, 1U);
  ::close(client);
  ::close(middle);
}

TEST_F(ListenerTest, EndpointsAreWrittenAsTheyWereForLibzmq) {
  for (const char* endpoint : {"tcp://127.0.0.1:0", "tcp://127.0.0.1:*", "tcp://*:*"}) {
    EXPECT_TRUE(listen_on(endpoint)) << endpoint;
  }
  for (const char* endpoint : {"", "127.0.0.1:80", "tcp://127.0.0.1", "tcp://:80",
                               "tcp://127.0.0.1:70000", "tcp://127.0.0.1:x", "tcp://192.0.2.1:0"}) {
    const auto listening = listen_on(endpoint);
    ASSERT_FALSE(listening) << endpoint;
    EXPECT_EQ(listening.error().code, ErrorCode::kInvalidArgument) << endpoint;
  }
}

}  // namespace
}  // namespace farside::bus
