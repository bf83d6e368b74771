// A source and a target in one process, over real sockets on loopback with CURVE.
#include <gtest/gtest.h>

#include <unistd.h>
#include <cstring>

#include <filesystem>
#include <fstream>
#include <thread>

#include "common/base/clip.h"
#include "common/base/clock.h"
#include "services/agent/data_plane/frames.h"
#include "services/agent/data_plane/receiver.h"
#include "services/agent/data_plane/shipment.h"
#include "services/agent/data_plane/shipper.h"
#include "tests/support/colliding_blocks.h"
#include "tests/unit/data_plane/two_ends.h"

namespace farside::data {
namespace {

using replica::kBlockBytes;
using DataPlaneTest = TwoEnds;

TEST_F(DataPlaneTest, AnInitialCopyAndDeltasAreEqualToTheSource) {
  fill(1);
  initial();
  expect_equal();

  for (std::uint64_t seed = 2; seed < 6; ++seed) {
    fill(seed);
    const auto shipped = cycle(token_);
    ASSERT_TRUE(shipped) << shipped.error().what;
    EXPECT_EQ(shipped->point.seq, seed);
    EXPECT_EQ(shipped->point.captured_at, point_->captured_at);
    expect_equal();
  }
}

TEST_F(DataPlaneTest, BulkGoesBesideCurveAndASmallDeltaDoesNot) {
  window_ =
      std::uint64_t{2} << 20U;  // Far less than the disk: the answer about the way comes first.
  start_target();
  ASSERT_TRUE(receiver_->allow("web", source_keys_.public_key, 1));
  SeededRandom random(7);
  std::string noise(std::size_t{40} << 20U, '\0');
  for (std::size_t at = 0; at < noise.size(); at += 8) {
    const std::uint64_t value = random.next();
    std::memcpy(&noise[at], &value, sizeof value);
  }
  vm_.disks[0] = std::move(noise);

  initial();

  expect_equal();
  const std::uint64_t sealed = receiver_->figures().sealed_batches;
  EXPECT_GT(sealed, 10U);
  EXPECT_EQ(receiver_->figures().refused, 0U);

  vm_.write(0, 0, "x");
  ASSERT_TRUE(cycle(token_));
  expect_equal();
  EXPECT_EQ(receiver_->figures().sealed_batches, sealed);
}

TEST_F(DataPlaneTest, AWayThatIsBlockedIsNotWaitedFor) {
  const ShipRequest asked = request("x", "", ShipMode::kEverything);
  zmq::context_t context;
  auto channel = Channel::open(context, {.endpoint = asked.endpoint,
                                         .target_key = asked.target_key,
                                         .keys = asked.keys,
                                         .silent_s = 60});
  ASSERT_TRUE(channel);

  ASSERT_TRUE(channel->open_sealed({.sealed_port = 1,  // Nobody listens there.
                                    .sealed_session = 1,
                                    .sealed_key = Seal::make_key().value()}));

  EXPECT_TRUE(channel->receive(300));
  EXPECT_FALSE(channel->is_sealed_ready());
}

// An event of a connection whose session has just ended must not stop those that follow: libzmq
// reports it on the one thread that moves all bytes, and waits until it is taken.
TEST_F(DataPlaneTest, SessionsThatEndWhileTheyAreRefusedDoNotStopTheNext) {
  receiver_->forbid("web");
  const ShipRequest asked = request("x", "", ShipMode::kEverything);
  const ChannelOptions options{.endpoint = asked.endpoint,
                               .target_key = asked.target_key,
                               .keys = asked.keys,
                               .silent_s = 10};
  auto context = std::make_unique<zmq::context_t>();
  for (int i = 0; i < 1'500; ++i) {
    auto channel = Channel::open(*context, options);
    ASSERT_TRUE(channel) << i;
    std::ignore = channel->receive(i % 4);  // Ends before, while and after it is refused.
  }

  ASSERT_TRUE(receiver_->allow("web", source_keys_.public_key, 1));
  auto channel = Channel::open(*context, options);
  ASSERT_TRUE(channel);
  ASSERT_TRUE(channel->send(frame(msg::FinishDelta{})));
  const auto answer = channel->receive(60'000);

  // Not "silent": the target tells that no session is open.
  ASSERT_FALSE(answer);
  EXPECT_EQ(answer.error().what, "the session is not open here");
  if (answer.error().what != "the session is not open here") {
    std::ignore = context.release();  // Its thread would be waited for, for ever.
  }
}

TEST_F(DataPlaneTest, ADeltaReadsAndSendsOnlyWhatChanged) {
  fill(1);
  initial();
  vm_.write(0, 5 * kBlockBytes + 700, "x");
  vm_.write(1, 3 * kBlockBytes, std::string(kBlockBytes, '\0'));

  const auto shipped = cycle(token_);

  ASSERT_TRUE(shipped) << shipped.error().what;
  EXPECT_LE(shipped->blocks_sent, 2U);
  EXPECT_LE(point_->read_bytes(), 2 * kBlockBytes);
  expect_equal();
}

TEST_F(DataPlaneTest, ZerosAreKnownWithoutReadingThem) {
  vm_.write(0, 0, std::string(40 * kBlockBytes, 'x'));
  initial();
  EXPECT_EQ(point_->read_bytes(), 40U * kBlockBytes);
  vm_.write(0, 0, std::string(30 * kBlockBytes, '\0'));

  const auto shipped = cycle(token_);

  ASSERT_TRUE(shipped) << shipped.error().what;
  EXPECT_EQ(shipped->zero_blocks, 30U);
  EXPECT_EQ(point_->read_bytes(), 0U);
  expect_equal();
}

TEST_F(DataPlaneTest, AnEmptyDeltaIsStillAPointInTime) {
  initial();

  const auto shipped = cycle(token_);

  ASSERT_TRUE(shipped) << shipped.error().what;
  EXPECT_EQ(shipped->point.seq, 2U);
  EXPECT_EQ(shipped->blocks_sent, 0U);
}

TEST_F(DataPlaneTest, ABrokenAttemptIsResumedAndNothingIsSentTwice) {
  for (std::uint64_t i = 0; i < 64; ++i) {
    vm_.write(0, i * kBlockBytes, std::string(kBlockBytes, static_cast<char>('0' + i)));
  }
  const std::string first = "a" + std::to_string(++attempts_);
  auto broken = vm_.point(first, "");
  broken->disk(0).fails_after_bytes = 48 * kBlockBytes;
  ASSERT_FALSE(shipper_.ship(*broken, request(first, "", ShipMode::kEverything)));
  EXPECT_EQ(shipper_.pending("web").value().attempt, first);
  vm_.write(0, 2 * kBlockBytes, "changed meanwhile");

  start_target();  // The target dies too.
  ASSERT_TRUE(receiver_->allow("web", source_keys_.public_key, 1));
  const auto shipped = cycle(first, ShipMode::kEverything);

  ASSERT_TRUE(shipped) << shipped.error().what;
  EXPECT_TRUE(shipped->resumed);
  EXPECT_LT(shipped->blocks_sent, 50U);
  expect_equal();
  EXPECT_FALSE(shipper_.pending("web").value().is_unfinished());
}

TEST_F(DataPlaneTest, AResyncMovesOnlyWhatDiffers) {
  fill(1);
  initial();
  vm_.write(0, 7 * kBlockBytes, std::string(kBlockBytes, 'n'));
  vm_.write(1, 0, std::string(2 * kBlockBytes, '\0'));

  const auto shipped = cycle("", ShipMode::kResync);

  ASSERT_TRUE(shipped) << shipped.error().what;
  EXPECT_TRUE(shipped->resynced);
  EXPECT_LE(shipped->blocks_sent, 3U);
  expect_equal();
}

// A guest that knows how blocks are hashed cannot make a comparison pass over what differs.
TEST_F(DataPlaneTest, BlocksMadeToCollideAreFoundToDiffer) {
  const auto [one, other] = test::colliding_blocks();
  vm_.write(0, 0, one);
  initial();
  vm_.write(0, 0, other);

  const auto shipped = cycle("", ShipMode::kResync);

  ASSERT_TRUE(shipped) << shipped.error().what;
  EXPECT_EQ(shipped->blocks_sent, 1U);
  expect_equal();
}

TEST_F(DataPlaneTest, ABrokenResyncIsResumedByComparingAgain) {
  for (std::uint64_t i = 0; i < 64; ++i) {
    vm_.write(0, i * kBlockBytes, std::string(kBlockBytes, static_cast<char>('0' + i)));
  }
  const std::string first = "a" + std::to_string(++attempts_);
  auto broken = vm_.point(first, "");
  broken->disk(0).fails_after_bytes = 48 * kBlockBytes;
  ASSERT_FALSE(shipper_.ship(*broken, request(first, "", ShipMode::kResync)));
  vm_.write(0, 0, "changed meanwhile");

  const auto shipped = cycle("", ShipMode::kResync);

  ASSERT_TRUE(shipped) << shipped.error().what;
  EXPECT_LT(shipped->blocks_sent, 60U);
  expect_equal();
}

TEST_F(DataPlaneTest, AFullCopyOntoAnOlderReplicaClearsWhatIsGone) {
  vm_.write(0, 0, std::string(10 * kBlockBytes, 'x'));
  initial();
  vm_.write(0, 0, std::string(5 * kBlockBytes, '\0'));

  const auto shipped = cycle("", ShipMode::kEverything);

  ASSERT_TRUE(shipped) << shipped.error().what;
  EXPECT_TRUE(shipped->resynced);
  expect_equal();
}

TEST_F(DataPlaneTest, ALostAckIsRecognised) {
  fill(1);
  initial();
  fill(2);
  // The delta becomes a point, but the source never hears of it: what it keeps is as before.
  const std::string attempt = "a" + std::to_string(++attempts_);
  auto point = vm_.point(attempt, token_);
  ASSERT_TRUE(shipper_.ship(*point, request(attempt, token_, ShipMode::kChanged)));
  std::vector<PendingDisk> changed;
  for (std::size_t i = 0; i < 2; ++i) {
    BlockSet all(replica::blocks_of(vm_.disks[i].size()));
    all.add_range(0, all.size());
    changed.push_back(
        {.name = i == 0 ? "vda" : "vdb", .bytes = vm_.disks[i].size(), .needed = all});
  }
  ASSERT_TRUE(PendingMap(folder_ / "source/web.pending")
                  .save(first_attempt("lost", attempt, token_, 1, changed)));
  vm_.write(0, 0, "after it");

  const auto shipped = cycle(attempt);

  ASSERT_TRUE(shipped) << shipped.error().what;
  EXPECT_EQ(shipped->point.seq, 3U);
  EXPECT_EQ(shipped->blocks_sent, 1U);
  expect_equal();
}

TEST_F(DataPlaneTest, ACallerThatDiedBeforeNotingASuccessFindsItAgain) {
  fill(1);
  initial();
  fill(2);
  ASSERT_TRUE(cycle(token_));
  fill(3);

  const auto shipped = cycle(shipper_.pending("web").value().attempt, ShipMode::kEverything);

  ASSERT_TRUE(shipped) << shipped.error().what;
  EXPECT_FALSE(shipped->resynced);
  EXPECT_EQ(shipped->point.seq, 3U);
  expect_equal();
}

TEST_F(DataPlaneTest, ChangesThatDoNotCountFromTheReplicasPointAreNotApplied) {
  fill(1);
  initial();
  fill(2);
  ASSERT_TRUE(cycle(token_));
  const std::string newer = token_;
  ASSERT_TRUE(store_->find("web").value()->rewind(1));  // The target was set back.
  fill(3);

  const auto shipped = cycle(newer);

  ASSERT_FALSE(shipped);
  EXPECT_EQ(shipped.error().code, ErrorCode::kTrackingLost);
  ASSERT_TRUE(cycle("", ShipMode::kResync));
  expect_equal();
}

TEST_F(DataPlaneTest, AStrangerIsNotLetIn) {
  fill(1);
  source_keys_ = bus::generate_keys().value();

  const auto shipped = cycle("", ShipMode::kEverything);

  ASSERT_FALSE(shipped);
  EXPECT_EQ(shipped.error().code, ErrorCode::kForbidden) << shipped.error().what;
  EXPECT_GE(receiver_->figures().strangers, 1U);
  EXPECT_FALSE(store_->find("web"));
}

TEST_F(DataPlaneTest, AKnownSourceMayNotTouchTheItemOfAnother) {
  const bus::CurveKeys other = bus::generate_keys().value();
  ASSERT_TRUE(receiver_->allow("db", other.public_key, 1));
  initial();
  auto point = vm_.point("x", "");
  ShipRequest foreign = request("x", "", ShipMode::kEverything);
  foreign.keys = other;

  const auto shipped = shipper_.ship(*point, foreign);

  ASSERT_FALSE(shipped);
  EXPECT_EQ(shipped.error().code, ErrorCode::kForbidden);
  EXPECT_EQ(store_->find("web").value()->newest().seq, 1U);
}

TEST_F(DataPlaneTest, ATargetWithAnotherKeyIsNotBelieved) {
  auto point = vm_.point("x", "");
  ShipRequest wrong = request("x", "", ShipMode::kEverything);
  wrong.target_key = bus::generate_keys().value().public_key;
  wrong.silent_s = 1;

  const auto shipped = shipper_.ship(*point, wrong);

  ASSERT_FALSE(shipped);
  EXPECT_EQ(shipped.error().code, ErrorCode::kUnavailable);
}

TEST_F(DataPlaneTest, ADeposedSourceIsRefused) {
  fill(1);
  initial();
  ASSERT_TRUE(receiver_->allow("web", source_keys_.public_key, 2));

  const auto shipped = cycle(token_);

  ASSERT_FALSE(shipped);
  EXPECT_EQ(shipped.error().code, ErrorCode::kStaleEpoch);
  EXPECT_EQ(receiver_->allow("web", source_keys_.public_key, 1).error().code,
            ErrorCode::kStaleEpoch);
}

TEST_F(DataPlaneTest, AfterForbidNothingIsTaken) {
  fill(1);
  initial();

  receiver_->forbid("web");
  const auto shipped = cycle(token_);

  ASSERT_FALSE(shipped);
  EXPECT_EQ(shipped.error().code, ErrorCode::kForbidden);
  EXPECT_EQ(store_->find("web").value()->newest().seq, 1U);
}

TEST_F(DataPlaneTest, AFullVolumePausesAndThenGoesOnWhereItWas) {
  std::atomic<std::uint64_t> free = 1ULL << 40U;
  std::atomic<int> asked = 0;
  limits_.free_bytes = [&](const std::string&) { return ++asked > 2 ? free.load() : 1ULL << 40U; };
  start_target();
  ASSERT_TRUE(receiver_->allow("web", source_keys_.public_key, 1));
  for (std::uint64_t i = 0; i < 64; ++i) {
    vm_.write(0, i * kBlockBytes, std::string(kBlockBytes, static_cast<char>('0' + i)));
  }
  free = 0;

  const auto full = cycle("", ShipMode::kEverything);
  const std::string attempt = "a" + std::to_string(attempts_);
  free = 1ULL << 40U;
  const auto shipped = cycle(attempt, ShipMode::kEverything);

  ASSERT_FALSE(full);
  EXPECT_EQ(full.error().code, ErrorCode::kNoSpace);
  EXPECT_FALSE(full.error().advice.empty());
  ASSERT_TRUE(shipped) << shipped.error().what;
  EXPECT_TRUE(shipped->resumed);
  EXPECT_LT(shipped->blocks_sent, 64U);
  expect_equal();
}

TEST_F(DataPlaneTest, ADamagedBlockIsRefusedBeforeItCounts) {
  initial();
  auto point = vm_.point("x", token_);
  const ShipRequest asked = request("x", token_, ShipMode::kChanged);
  zmq::context_t context;
  auto channel = Channel::open(context, {.endpoint = asked.endpoint,
                                         .target_key = asked.target_key,
                                         .keys = asked.keys,
                                         .silent_s = 60});
  ASSERT_TRUE(channel);
  PackPool pool(1);
  const std::function<void(const Progress&)> nobody;
  Shipment shipment(*point, asked, *channel, pool, nobody);
  ASSERT_TRUE(shipment.open("cycle", false));
  Guess guess;
  Packed packed = pack({.plain = std::string(kBlockBytes, 'x')}, guess);
  packed.payload.back() = static_cast<char>(packed.payload.back() ^ 1);
  ASSERT_TRUE(channel->send(frame(std::move(packed.batch)), std::move(packed.payload)));

  const auto answer = channel->receive(10'000);

  ASSERT_FALSE(answer);
  EXPECT_EQ(answer.error().code, ErrorCode::kCorrupt);
  EXPECT_EQ(store_->find("web").value()->staged(0).value().count(), 0U);
}

TEST_F(DataPlaneTest, ASourceThatIgnoresItsCreditIsCutOff) {
  initial();
  const ShipRequest asked = request("x", token_, ShipMode::kChanged);
  auto point = vm_.point("x", token_);
  zmq::context_t context;
  auto channel = Channel::open(context, {.endpoint = asked.endpoint,
                                         .target_key = asked.target_key,
                                         .keys = asked.keys,
                                         .silent_s = 60});
  ASSERT_TRUE(channel);
  PackPool pool(1);
  const std::function<void(const Progress&)> nobody;
  Shipment shipment(*point, asked, *channel, pool, nobody);
  ASSERT_TRUE(shipment.open("cycle", false));
  // Raw noise: much more than the window, as fast as it goes; the target hashes and writes it.
  std::string noise(16 * kBlockBytes, '\0');
  SeededRandom random(1);
  for (char& c : noise) c = static_cast<char>(random.next());
  Guess guess;
  const Packed packed = pack(
      {.plain = noise, .level = 0, .hash = replica::BlockHash::with_key(kHashKey).value()}, guess);
  for (int i = 0; i < 200; ++i) {
    ASSERT_TRUE(channel->send(frame(packed.batch), packed.payload));
  }

  Result<std::optional<Received>> answer = std::nullopt;
  for (int i = 0; i < 1000 && answer; ++i) answer = channel->receive(1000);

  ASSERT_FALSE(answer);
  EXPECT_EQ(answer.error().code, ErrorCode::kForbidden) << answer.error().what;
}

TEST_F(DataPlaneTest, ANewerSessionEndsTheOlderOneOfTheSameItem) {
  initial();
  const ShipRequest asked = request("x", token_, ShipMode::kChanged);
  auto point = vm_.point("x", token_);
  zmq::context_t context;
  const ChannelOptions options{.endpoint = asked.endpoint,
                               .target_key = asked.target_key,
                               .keys = asked.keys,
                               .silent_s = 60};
  auto old_channel = Channel::open(context, options);
  auto new_channel = Channel::open(context, options);
  PackPool pool(1);
  const std::function<void(const Progress&)> nobody;
  Shipment old_one(*point, asked, *old_channel, pool, nobody);
  Shipment new_one(*point, asked, *new_channel, pool, nobody);
  ASSERT_TRUE(old_one.open("cycle", false));
  ASSERT_TRUE(new_one.open("cycle", false));
  Guess guess;
  Packed packed = pack({.plain = std::string(kBlockBytes, 'x')}, guess);
  ASSERT_TRUE(old_channel->send(frame(std::move(packed.batch)), std::move(packed.payload)));

  const auto answer = old_channel->receive(10'000);

  ASSERT_FALSE(answer);
  EXPECT_EQ(answer.error().code, ErrorCode::kConflict);
  EXPECT_TRUE(new_one.finish(0)) << "nothing of the older session was staged";
}

TEST_F(DataPlaneTest, ASessionLivesAsLongAsItsSourcePingsAndEndsWithIt) {
  idle_s_ = 1;
  start_target();
  ASSERT_TRUE(receiver_->allow("web", source_keys_.public_key, 1));
  initial();
  const ShipRequest asked = request("x", token_, ShipMode::kChanged);
  auto point = vm_.point("x", token_);
  zmq::context_t context;
  auto channel = Channel::open(context, {.endpoint = asked.endpoint,
                                         .target_key = asked.target_key,
                                         .keys = asked.keys,
                                         .silent_s = 60});
  ASSERT_TRUE(channel);
  PackPool pool(1);
  const std::function<void(const Progress&)> nobody;
  Shipment shipment(*point, asked, *channel, pool, nobody);
  ASSERT_TRUE(shipment.open("cycle", false));

  // Reading for longer than a session may idle, with nothing to send but pings.
  const auto until = std::chrono::steady_clock::now() + std::chrono::milliseconds(2500);
  while (std::chrono::steady_clock::now() < until) {
    ASSERT_TRUE(channel->send(frame(msg::DataPing{})));
    ASSERT_TRUE(channel->receive(100));
  }
  EXPECT_TRUE(shipment.finish(0));

  while (receiver_->figures().sessions > 0) usleep(10'000);  // Bounded by the test's deadline.
}

TEST_F(DataPlaneTest, ASessionEndsWithTheTargetThatKnewIt) {
  initial();
  const ShipRequest asked = request("x", token_, ShipMode::kChanged);
  auto point = vm_.point("x", token_);
  zmq::context_t context;
  auto channel = Channel::open(context, {.endpoint = asked.endpoint,
                                         .target_key = asked.target_key,
                                         .keys = asked.keys,
                                         .silent_s = 600});
  ASSERT_TRUE(channel);
  PackPool pool(1);
  const std::function<void(const Progress&)> nobody;
  Shipment shipment(*point, asked, *channel, pool, nobody);
  ASSERT_TRUE(shipment.open("cycle", false));

  start_target(asked.endpoint);
  ASSERT_TRUE(receiver_->allow("web", source_keys_.public_key, 1));

  Result<std::optional<Received>> heard = std::nullopt;
  for (int i = 0; heard && i < 300; ++i) heard = channel->receive(100);
  ASSERT_FALSE(heard) << "it waits for an answer that will not come";
  EXPECT_EQ(heard.error().code, ErrorCode::kUnavailable);
}

TEST_F(DataPlaneTest, APingWithoutASessionIsRefused) {
  const ShipRequest asked = request("x", "", ShipMode::kChanged);
  zmq::context_t context;
  auto channel = Channel::open(context, {.endpoint = asked.endpoint,
                                         .target_key = asked.target_key,
                                         .keys = asked.keys,
                                         .silent_s = 60});
  ASSERT_TRUE(channel);
  ASSERT_TRUE(channel->send(frame(msg::DataPing{})));

  const auto heard = channel->receive(30'000);

  ASSERT_FALSE(heard);
  EXPECT_EQ(heard.error().code, ErrorCode::kUnavailable);
}

TEST_F(DataPlaneTest, ASilentTargetIsAnErrorAndCancellingIsQuick) {
  fill(1);
  auto point = vm_.point("x", "");
  ShipRequest nowhere = request("x", "", ShipMode::kEverything);
  nowhere.endpoint = "tcp://127.0.0.1:1";
  nowhere.silent_s = 1;

  const auto silent = shipper_.ship(*point, nowhere);
  std::stop_source stop;
  stop.request_stop();
  nowhere.stop = stop.get_token();
  const auto cancelled = shipper_.ship(*point, nowhere);

  ASSERT_FALSE(silent);
  EXPECT_EQ(silent.error().code, ErrorCode::kUnavailable);
  ASSERT_FALSE(cancelled);
  EXPECT_EQ(cancelled.error().code, ErrorCode::kCancelled);
}

TEST_F(DataPlaneTest, ATargetIsDialledByTcpOnly) {
  fill(1);
  auto point = vm_.point("x", "");
  ShipRequest elsewhere = request("x", "", ShipMode::kEverything);
  for (const char* endpoint : {"", "ipc:///tmp/x", "inproc://x", "tcp://*:1", "tcp://a;b:1"}) {
    elsewhere.endpoint = endpoint;
    const auto shipped = shipper_.ship(*point, elsewhere);
    ASSERT_FALSE(shipped) << endpoint;
    EXPECT_EQ(shipped.error().code, ErrorCode::kInvalidArgument) << endpoint;
    EXPECT_TRUE(shipped.error().what.contains("is not an address to dial"));
  }
}

TEST_F(DataPlaneTest, AnItemThatIsNoNameOfAFileTouchesNone) {
  const std::string state = folder_ / "state-of-one";
  std::filesystem::create_directories(state);
  for (const char* end : {".pending", ".hashes"}) std::ofstream(folder_ / "x" + end) << "x";
  Shipper shipper(state, random_);
  fill(1);
  auto point = vm_.point("x", "");
  ShipRequest out = request("x", "", ShipMode::kEverything);
  out.item = "../x";

  const auto shipped = shipper.ship(*point, out);

  ASSERT_FALSE(shipped);
  EXPECT_EQ(shipped.error().code, ErrorCode::kForbidden);
  EXPECT_FALSE(shipper.forget("../x"));
  EXPECT_FALSE(shipper.pending("../x"));
  EXPECT_FALSE(shipper.digest("../x", *point, {}));
  for (const char* end : {".pending", ".hashes"}) {
    EXPECT_EQ(std::filesystem::file_size(folder_ / "x" + end), 1U) << end;
  }
}

TEST(Faults, TheTextsOfATargetHaveABound) {
  const std::string umlauts = [] {
    std::string text = "xx";
    while (text.size() < 4 * kReasonMax) text += "\u00fc";
    return text;
  }();

  const Error error = to_error({.code = 3, .what = std::string(4U << 20U, 'w'), .advice = umlauts});

  EXPECT_EQ(error.code, ErrorCode::kNotFound);
  EXPECT_EQ(error.what, std::string(kReasonMax - 3, 'w') + "...");
  EXPECT_EQ(error.advice, umlauts.substr(0, kReasonMax - 4) + "...") << "no half of a character";
  EXPECT_EQ(to_error({.code = 3, .what = "no", .advice = "go"}).what, "no");
}

TEST_F(DataPlaneTest, ALostPointEndsTheAttempt) {
  fill(1);
  auto point = vm_.point("x", "");
  point->lost = true;

  const auto shipped = shipper_.ship(*point, request("x", "", ShipMode::kEverything));

  ASSERT_FALSE(shipped);
  EXPECT_EQ(shipped.error().code, ErrorCode::kUnavailable);
}

TEST_F(DataPlaneTest, ProgressEndsAtTheTotal) {
  fill(1);
  auto point = vm_.point("x", "");
  Progress last;

  const auto shipped =
      shipper_.ship(*point, request("x", "", ShipMode::kEverything), [&](const Progress& progress) {
        EXPECT_GE(progress.done, last.done);
        last = progress;
      });

  ASSERT_TRUE(shipped) << shipped.error().what;
  EXPECT_EQ(last.done, last.total);
  EXPECT_EQ(last.total, shipped->guest_bytes);
  EXPECT_GT(last.wire, 0U);
}

// Either end breaks at any time, the guest writes on: in the end the replica is the source.
TEST_F(DataPlaneTest, RandomInterruptionsNeverMixStates) {
  for (std::uint64_t seed = 1; seed <= 6; ++seed) {
    SeededRandom random(seed);
    std::string since = token_;
    bool done = false;
    for (int attempt = 0; attempt < 30 && !done; ++attempt) {
      fill(random.next());
      const std::string name = "a" + std::to_string(++attempts_);
      point_ = vm_.point(name, since);
      if (attempt < 4) {
        point_->disk(random.below(2)).fails_after_bytes = 1 + random.below(40 * kBlockBytes);
      }
      const auto shipped = shipper_.ship(
          *point_,
          request(name, since, token_.empty() ? ShipMode::kEverything : ShipMode::kChanged));
      if (shipped) {
        token_ = name;
        done = true;
      } else {
        ASSERT_EQ(shipped.error().code, ErrorCode::kIo) << to_text(shipped.error());
        since = name;
        if (random.chance(0.5)) {
          start_target();
          ASSERT_TRUE(receiver_->allow("web", source_keys_.public_key, 1));
        }
      }
    }
    ASSERT_TRUE(done);
    for (std::size_t i = 0; i < 2; ++i) point_->disk(i).fails_after_bytes = 0;
    ASSERT_NO_FATAL_FAILURE(expect_equal()) << "seed " << seed;
  }
}

}  // namespace
}  // namespace farside::data
