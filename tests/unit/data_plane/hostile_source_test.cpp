// A source whose key is good and whose intentions are not: what it can take of the target.
#include <gmock/gmock.h>

#include <zmq.hpp>

#include "common/bus/budget.h"
#include "services/agent/data_plane/bulk_dialogue.h"
#include "services/agent/data_plane/channel.h"
#include "services/agent/data_plane/frames.h"
#include "services/agent/data_plane/point_rate.h"
#include "services/agent/replica_store/layout.h"
#include "tests/support/curve_dealer.h"
#include "tests/support/raw_tcp.h"
#include "tests/unit/data_plane/two_ends.h"

namespace farside::data {
namespace {

class HostileSource : public TwoEnds {
 protected:
  Channel channel() {
    auto opened = Channel::open(context_, {.endpoint = receiver_->endpoint(),
                                           .target_key = target_keys_.public_key,
                                           .keys = source_keys_,
                                           .silent_s = 60});
    EXPECT_TRUE(opened);
    return std::move(*opened);
  }
  static msg::DataFrame open_delta(const std::string& item, const std::string& cycle) {
    return frame(msg::OpenDelta{.item = item,
                                .epoch = 1,
                                .cycle = cycle,
                                .disks = {{.name = "vda", .bytes = 64 * replica::kBlockBytes + 512},
                                          {.name = "vdb", .bytes = 10 * replica::kBlockBytes}}});
  }
  // The next answer, or the refusal that ends the session.
  static Result<msg::DataFrame> answer(Channel& channel) {
    for (int i = 0; i < 300; ++i) {
      FARSIDE_ASSIGN(auto received, channel.receive(100));
      if (received) return std::move(received->frame);
    }
    return fail(ErrorCode::kTimeout, "no answer");
  }
  Result<msg::DeltaOpened> open(Channel& channel, const std::string& item = "web") {
    FARSIDE_TRY(channel.send(open_delta(item, "cycle")));
    FARSIDE_ASSIGN(auto frame, answer(channel));
    const auto* const opened = std::get_if<msg::DeltaOpened>(&frame.value);
    if (opened == nullptr) return fail(ErrorCode::kConflict, "not opened");
    return *opened;
  }

  zmq::context_t context_;
};

// Each would stay in index and memory for as long as the policy keeps every point.
TEST_F(HostileSource, PointsWithNothingInThemHaveAPace) {
  constexpr int kMany = PointRate::kAtOnce + 300;
  Error refused;
  for (int i = 0; i < kMany && refused.what.empty(); ++i) {
    Channel hostile = channel();
    const std::string cycle = "c" + std::to_string(i);
    ASSERT_TRUE(hostile.send(open_delta("web", cycle)));
    if (const auto opened = answer(hostile); !opened) {
      refused = opened.error();
      continue;
    }
    ASSERT_TRUE(hostile.send(frame(msg::FinishDelta{.attempt = cycle})));
    const auto committed = answer(hostile);
    ASSERT_TRUE(committed) << to_text(committed.error());
    ASSERT_TRUE(std::holds_alternative<msg::DeltaCommitted>(committed->value))
        << i << msg::to_text(*committed);
  }

  EXPECT_EQ(refused.code, ErrorCode::kBusy) << refused.what;
}

// 0.7 MB that would be 1 GiB.
TEST_F(HostileSource, ABatchOfMoreBlocksThanASourceSendsIsRefusedUnpacked) {
  Channel hostile = channel();
  ASSERT_TRUE(open(hostile));
  msg::BlockBatch bomb{.disk = 0, .blocks = {}};
  for (std::uint32_t i = 0; i <= kBatchBlocksMax; ++i) {
    bomb.blocks.push_back(
        {.block = i, .stored = 1, .codec = static_cast<std::uint8_t>(replica::Codec::kZstd)});
  }
  std::string payload(bomb.blocks.size(), 'x');
  ASSERT_TRUE(hostile.send(frame(std::move(bomb)), std::move(payload)));

  const auto refused = answer(hostile);
  ASSERT_FALSE(refused);
  EXPECT_EQ(refused.error().code, ErrorCode::kTooLarge) << refused.error().what;
}

TEST_F(HostileSource, AHeadOfManyMegabytesIsNotDecoded) {
  Channel hostile = channel();
  ASSERT_TRUE(open(hostile));
  const std::uint64_t before = receiver_->figures().refused;
  msg::BlockBatch bomb{.disk = 0, .blocks = {}};
  bomb.blocks.resize(100'000);
  ASSERT_TRUE(hostile.send(frame(std::move(bomb))));
  for (int i = 0; i < 1'000 && receiver_->figures().refused == before; ++i) usleep(10'000);
  EXPECT_EQ(receiver_->figures().refused, before + 1);
}

// One key cannot take the places of all others.
TEST_F(HostileSource, ASourceHasSoManySessionsAndOthersHaveTheirs) {
  for (std::size_t i = 0; i <= kSessionsPerSourceMax; ++i) {
    ASSERT_TRUE(receiver_->allow("item" + std::to_string(i), source_keys_.public_key, 1));
  }
  std::vector<Channel> sessions;
  std::uint64_t windows = 0;
  for (std::size_t i = 0; i < kSessionsPerSourceMax; ++i) {
    sessions.push_back(channel());
    const auto opened = open(sessions.back(), "item" + std::to_string(i));
    ASSERT_TRUE(opened) << opened.error().what;
    EXPECT_GE(opened->window_bytes, kWindowBytesMin);
    windows += opened->window_bytes;
  }
  EXPECT_LE(windows, 2 * bus::kPeerBytesMax);
  Channel further = channel();
  const auto refused = open(further, "item" + std::to_string(kSessionsPerSourceMax));
  ASSERT_FALSE(refused);
  EXPECT_EQ(refused.error().code, ErrorCode::kUnavailable);

  const bus::CurveKeys other = bus::generate_keys().value();
  ASSERT_TRUE(receiver_->allow("other", other.public_key, 1));
  auto theirs = Channel::open(context_, {.endpoint = receiver_->endpoint(),
                                         .target_key = target_keys_.public_key,
                                         .keys = other,
                                         .silent_s = 60});
  ASSERT_TRUE(theirs);
  EXPECT_TRUE(open(*theirs, "other"));
}

TEST_F(HostileSource, AnItemHasOneSessionThatHoldsAPlace) {
  Channel first = channel();
  ASSERT_TRUE(open(first));
  Channel second = channel();
  ASSERT_TRUE(open(second));

  // Although it says nothing more.
  const auto ended = answer(first);
  ASSERT_FALSE(ended);
  EXPECT_EQ(ended.error().code, ErrorCode::kConflict);
  for (int i = 0; i < 1'000 && receiver_->figures().sessions > 1; ++i) usleep(10'000);
  EXPECT_EQ(receiver_->figures().sessions, 1U);
}

TEST_F(HostileSource, ASourceThatReadsNoAnswersIsCutOff) {
  initial();
  zmq::socket_t deaf = test::curve_dealer(context_, source_keys_, target_keys_.public_key);
  deaf.set(zmq::sockopt::rcvhwm, 1);
  deaf.connect(receiver_->endpoint());
  const auto say = [&](const msg::DataFrame& what) {
    std::ignore = deaf.send(zmq::buffer(msg::encode(what)), zmq::send_flags::none);
  };
  say(open_delta("web", "cycle"));
  // Each question gets a bitmap of 1 MiB.
  for (int i = 0; i < 400; ++i) {
    say(frame(msg::AskStaged{.disk = 0, .first = 0, .count = kBitmapBatchMax}));
  }
  const std::uint64_t before = receiver_->figures().refused;
  for (int i = 0; i < 2'000 && receiver_->figures().refused == before; ++i) usleep(10'000);
  EXPECT_GT(receiver_->figures().refused, before);
}

// On the port beside CURVE nobody is held for longer, or for more bytes, than it takes to see that
// he has no session.
TEST_F(HostileSource, BulkOfNobodysSessionIsNotTaken) {
  const std::string endpoint = receiver_->endpoint();
  Channel mine = channel();
  const auto opened = open(mine);
  ASSERT_TRUE(opened);
  ASSERT_NE(opened->sealed_port, 0);
  const std::string beside = "tcp://127.0.0.1:" + std::to_string(opened->sealed_port);

  const test::RawTcp stranger(beside);
  std::ignore = stranger.send(bulk_hello(opened->sealed_session + 1) + std::string(65'536, 'x'));
  EXPECT_TRUE(stranger.is_closed_within(20'000));

  // Who saw the session's number on the wire can end that session, and nothing else.
  const test::RawTcp thief(beside);
  ASSERT_TRUE(thief.send(bulk_hello(opened->sealed_session) + bulk_lengths(40, 1024)));
  ASSERT_TRUE(thief.send(std::string(40 + 1024, 'x')));
  const auto ended = answer(mine);
  ASSERT_FALSE(ended);
  EXPECT_EQ(ended.error().code, ErrorCode::kForbidden);
  EXPECT_TRUE(cycle("", ShipMode::kEverything));
}

}  // namespace
}  // namespace farside::data
