// What only ZmqBus has; the behaviour it shares with every bus is in tests/contract/bus.
#include "common/bus/zmq_bus.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <zmq.hpp>

namespace farside::bus {
namespace {

using testing::HasSubstr;

class ZmqBusTest : public testing::Test {
 protected:
  SystemClock clock_;
  CurveKeys keys_ = generate_keys().value();
};

TEST_F(ZmqBusTest, ATakenPortIsAClearError) {
  const auto first = ZmqBus::open({.keys = keys_, .listen = "tcp://127.0.0.1:0"}, clock_);
  ASSERT_TRUE(first) << first.error().what;

  const auto second = ZmqBus::open({.keys = keys_, .listen = (*first)->endpoint()}, clock_);

  ASSERT_FALSE(second);
  EXPECT_EQ(second.error().code, ErrorCode::kUnavailable);
  EXPECT_THAT(second.error().what, HasSubstr((*first)->endpoint()));
  EXPECT_THAT(second.error().what, HasSubstr("the port is in use"));
}

TEST_F(ZmqBusTest, AnEndpointThatMakesNoSenseIsAClearError) {
  const auto listening = ZmqBus::open({.keys = keys_, .listen = "127.0.0.1"}, clock_);
  ASSERT_FALSE(listening);
  EXPECT_EQ(listening.error().code, ErrorCode::kInvalidArgument);

  const auto bus = ZmqBus::open({.keys = keys_, .listen = ""}, clock_);
  ASSERT_TRUE(bus);
  const Status dialled = (*bus)->set_peer({.principal = "vault",
                                           .role = msg::Role::vault,
                                           .public_key = generate_keys()->public_key,
                                           .endpoint = "vault.example",
                                           .revoked = false,
                                           .site = ""});
  ASSERT_FALSE(dialled);
  EXPECT_EQ(dialled.error().code, ErrorCode::kInvalidArgument);
  EXPECT_THAT(dialled.error().what, HasSubstr("vault.example"));
}

TEST_F(ZmqBusTest, AKeyThatIsNoneIsRefused) {
  const auto bus = ZmqBus::open({.keys = keys_, .listen = ""}, clock_);
  ASSERT_TRUE(bus);
  const Status set = (*bus)->set_peer({.principal = "vault",
                                       .role = msg::Role::vault,
                                       .public_key = "short",
                                       .endpoint = "",
                                       .revoked = false,
                                       .site = ""});
  ASSERT_FALSE(set);
  EXPECT_EQ(set.error().code, ErrorCode::kInvalidArgument);
}

TEST_F(ZmqBusTest, APeerIsDialledByTcpOnly) {
  const auto bus = ZmqBus::open({.keys = keys_}, clock_);
  ASSERT_TRUE(bus);
  msg::Peer peer{.principal = "vault", .role = msg::Role::vault, .public_key = keys_.public_key};
  for (const char* endpoint :
       {"ipc:///tmp/x", "inproc://x", "tcp://*:1", "tcp://a;b:1", "tcp://a:0"}) {
    peer.endpoint = endpoint;
    const Status set = (*bus)->set_peer(peer);
    ASSERT_FALSE(set) << endpoint;
    EXPECT_EQ(set.error().code, ErrorCode::kInvalidArgument);
    EXPECT_TRUE(set.error().what.starts_with("dial vault: ")) << set.error().what;
  }
  peer.endpoint = "tcp://127.0.0.1:1";
  EXPECT_TRUE((*bus)->set_peer(peer));
}

TEST_F(ZmqBusTest, APlaintextClientGetsNothing) {
  const auto bus = ZmqBus::open({.keys = keys_, .listen = "tcp://127.0.0.1:0"}, clock_);
  ASSERT_TRUE(bus);
  zmq::context_t context;
  zmq::socket_t plain(context, zmq::socket_type::dealer);
  plain.set(zmq::sockopt::linger, 0);
  plain.set(zmq::sockopt::rcvtimeo, 300);
  plain.connect((*bus)->endpoint());
  plain.send(zmq::str_buffer("hello"), zmq::send_flags::dontwait);

  int frames = 0;
  for (int i = 0; i < 40; ++i) {
    ASSERT_TRUE((*bus)->poll(
        10, 10, {.on_frame = [&](const auto&, std::string_view) { ++frames; }, .on_peer = {}}));
  }

  zmq::message_t answer;
  EXPECT_FALSE(plain.recv(answer));
  EXPECT_EQ(frames, 0);
}

}  // namespace
}  // namespace farside::bus
