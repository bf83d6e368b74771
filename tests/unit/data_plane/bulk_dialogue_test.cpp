#include "services/agent/data_plane/bulk_dialogue.h"

#include <gtest/gtest.h>
#include <poll.h>
#include <sys/socket.h>

#include <cstring>

#include "common/bus/tcp_port.h"
#include "services/agent/data_plane/bulk_sender.h"

namespace farside::data {
namespace {

constexpr std::uint64_t kSession = 0x0102030405060708;

bus::Bytes bytes(std::string_view text) {
  bus::Bytes out(text.size());
  if (!text.empty()) std::memcpy(out.span().data(), text.data(), text.size());
  return out;
}

class BulkDialogueTest : public testing::Test {
 protected:
  BulkDialogue::Claim claim_ = [this](std::uint64_t session) -> std::optional<std::string> {
    if (session != kSession || std::exchange(claimed_, true)) return std::nullopt;
    return "key";
  };
  bool claimed_ = false;
  BulkDialogue dialogue_{claim_};
};

TEST_F(BulkDialogueTest, FramesOfASessionComeWhole) {
  EXPECT_EQ(dialogue_.needs(), 12U);
  EXPECT_TRUE(dialogue_.key().empty());
  ASSERT_TRUE(dialogue_.take(bytes(bulk_hello(kSession))));
  EXPECT_EQ(dialogue_.key(), "key");

  for (const std::string_view payload : {"payload", ""}) {
    EXPECT_EQ(dialogue_.needs(), 8U);
    ASSERT_TRUE(dialogue_.take(bytes(bulk_lengths(4, payload.size()))));
    EXPECT_EQ(dialogue_.needs(), 4U);
    auto taken = dialogue_.take(bytes("head"));
    ASSERT_TRUE(taken);
    if (!payload.empty()) {
      EXPECT_FALSE(taken->message);
      EXPECT_EQ(dialogue_.needs(), payload.size());
      taken = dialogue_.take(bytes(payload));
      ASSERT_TRUE(taken);
    }
    ASSERT_TRUE(taken->message);
    EXPECT_EQ(taken->message->at(0).view(), bulk_hello(kSession).substr(4));
    EXPECT_EQ(taken->message->at(1).view(), "head");
    EXPECT_EQ(taken->message->at(2).view(), payload);
  }
}

TEST_F(BulkDialogueTest, WhoNamesNoSessionIsAStranger) {
  const auto taken = dialogue_.take(bytes(bulk_hello(kSession + 1)));
  ASSERT_FALSE(taken);
  EXPECT_EQ(taken.error().code, ErrorCode::kUnauthorized);
}

TEST_F(BulkDialogueTest, ASessionHasOneConnection) {
  ASSERT_TRUE(dialogue_.take(bytes(bulk_hello(kSession))));
  BulkDialogue second(claim_);
  EXPECT_FALSE(second.take(bytes(bulk_hello(kSession))));
}

TEST_F(BulkDialogueTest, AnotherProtocolIsRefused) {
  const auto taken = dialogue_.take(bytes("GET / HTTP/1"));
  ASSERT_FALSE(taken);
  EXPECT_EQ(taken.error().code, ErrorCode::kCorrupt);
}

TEST_F(BulkDialogueTest, LengthsAreJudgedBeforeAnythingIsHeld) {
  ASSERT_TRUE(dialogue_.take(bytes(bulk_hello(kSession))));
  const std::vector<std::pair<std::size_t, std::size_t>> refused{
      {0, 1}, {kBulkHeadBytesMax + 1, 0}, {1, kBulkPayloadBytesMax + 1}, {~0U, ~0U}};
  for (const auto& [head, payload] : refused) {
    const auto taken = dialogue_.take(bytes(bulk_lengths(head, payload)));
    ASSERT_FALSE(taken);
    EXPECT_EQ(taken.error().code, ErrorCode::kTooLarge);
  }
}

TEST(BulkSenderTest, ALostConnectionIsNoticedWithNothingToSend) {
  const auto port = bus::listen_on("tcp://127.0.0.1:0");
  ASSERT_TRUE(port);
  const auto sender =
      BulkSender::open(bus::endpoint_of(port->get()), kSession, std::chrono::seconds(60));
  ASSERT_TRUE(sender);
  pollfd one{.fd = port->get(), .events = POLLIN, .revents = 0};
  ASSERT_EQ(::poll(&one, 1, 20'000), 1);
  Descriptor target(::accept(port->get(), nullptr, nullptr));
  ASSERT_TRUE(target);
  std::string hello(bulk_hello(kSession).size(), '\0');
  ASSERT_EQ(::recv(target.get(), hello.data(), hello.size(), MSG_WAITALL),
            static_cast<ssize_t>(hello.size()));
  EXPECT_EQ(hello, bulk_hello(kSession));
  EXPECT_FALSE((*sender)->is_broken());

  target.reset();

  for (int i = 0; i < 2'000 && !(*sender)->is_broken(); ++i) usleep(10'000);
  EXPECT_TRUE((*sender)->is_broken());
}

}  // namespace
}  // namespace farside::data
