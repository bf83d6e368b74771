// A source and a target in one process, over real sockets on loopback with CURVE; the source's VM
// is in memory.
#pragma once

#include <gtest/gtest.h>

#include <algorithm>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "common/base/clock.h"
#include "common/base/random.h"
#include "services/agent/data_plane/receiver.h"
#include "services/agent/data_plane/shipper.h"
#include "services/agent/replica_store/replica_store.h"
#include "tests/support/memory_vm.h"
#include "tests/support/temp_folder.h"

namespace farside::data {

inline constexpr std::string_view kHashKey = "a key for hashes";

// By every block of the disks, each read anew.
inline std::string digest_from_scratch(agent::Point& point, std::string_view key = kHashKey) {
  const auto hash_of = replica::BlockHash::with_key(key).value();
  std::vector<replica::SummedDisk> disks;
  for (const auto& disk : point.disks()) {
    replica::Sum sum;
    for (std::uint64_t block = 0; block < replica::blocks_of(disk->bytes()); ++block) {
      std::string bytes(replica::kBlockBytes, '\0');
      const std::uint32_t length = replica::length_of(disk->bytes(), block);
      Status done = fail(ErrorCode::kInternal, "not read");
      EXPECT_TRUE(disk->read_async(block * replica::kBlockBytes, length, bytes.data(),
                                   [&](Status status) { done = std::move(status); }));
      EXPECT_TRUE(disk->poll(0));
      EXPECT_TRUE(done);
      sum += replica::term_of(block, hash_of(bytes));
    }
    disks.push_back({.name = disk->name(), .bytes = disk->bytes(), .sum = sum});
  }
  return replica::digest_of(std::move(disks));
}

class TwoEnds : public testing::Test {
 protected:
  void SetUp() override {
    vm_.add_disk("vda", 64 * replica::kBlockBytes + 512);
    vm_.add_disk("vdb", 10 * replica::kBlockBytes);
    limits_.reserve_bytes = 1;
    limits_.flush_bytes = 4 * replica::kBlockBytes;
    limits_.make_hash_key = [] { return std::string(kHashKey); };
    start_target();
    ASSERT_TRUE(receiver_->allow("web", source_keys_.public_key, 1));
  }
  void TearDown() override { receiver_.reset(); }

  void start_target(const std::string& endpoint = "tcp://127.0.0.1:*") {
    receiver_.reset();
    store_.reset();
    store_ = replica::ReplicaStore::open(folder_ / "replicas", limits_).value();
    auto started = Receiver::start(
        {.endpoint = endpoint,
         .keys = target_keys_,
         .window_bytes = window_,
         .idle_s = idle_s_,
         .open_item =
             [this](const std::string& item, const std::vector<msg::ReplicaDisk>& disks) {
               return store_->create(item, disks);
             },
         .on_durable = {}},
        clock_);
    ASSERT_TRUE(started) << started.error().what;
    receiver_ = std::move(*started);
  }

  ShipRequest request(const std::string& attempt, const std::string& since, ShipMode mode) {
    return {.item = "web",
            .epoch = 1,
            .endpoint = receiver_->endpoint(),
            .target_key = target_keys_.public_key,
            .keys = source_keys_,
            .attempt = attempt,
            .since = since,
            .mode = mode,
            .silent_s = 60};
  }

  // One attempt, as an agent makes it.
  Result<Shipped> cycle(const std::string& since, ShipMode mode = ShipMode::kChanged) {
    const std::string attempt = "a" + std::to_string(++attempts_);
    point_ = vm_.point(attempt, since);
    auto shipped = shipper_.ship(*point_, request(attempt, since, mode));
    if (shipped) token_ = attempt;
    return shipped;
  }
  void initial() {
    const auto shipped = cycle("", ShipMode::kEverything);
    ASSERT_TRUE(shipped) << shipped.error().what;
  }

  // What the hashes kept at the source say of its last point, reading nothing.
  Result<std::string> kept_digest() { return digest(0); }
  Result<std::string> digest(std::optional<std::uint64_t> reads) {
    return shipper_.digest("web", *point_,
                           {.attempt = token_, .hash_key = std::string(kHashKey), .reads = reads});
  }

  // The target's newest point is what the source's point was, by content and by digest.
  void expect_equal() {
    replica::Item& item = *store_->find("web").value();
    for (std::uint16_t disk = 0; disk < 2; ++disk) {
      std::string bytes(vm_.disks[disk].size(), '?');
      ASSERT_TRUE(item.read(disk, item.newest().seq, 0, bytes));
      ASSERT_TRUE(bytes == vm_.disks[disk]) << "disk " << disk;
    }
    const std::string digest = digest_from_scratch(*point_);
    EXPECT_EQ(item.digest_at(item.newest().seq).value(), digest);
    EXPECT_EQ(item.verify(item.newest().seq, [](auto, auto) { return Status(); }).value(), digest);
    EXPECT_EQ(kept_digest().value(), digest);
  }

  void fill(std::uint64_t seed) {
    SeededRandom random(seed);
    for (int i = 0; i < 60; ++i) {
      const std::uint64_t disk = random.below(2);
      const std::uint64_t sectors = vm_.disks[disk].size() / 512;
      const std::uint64_t at = random.below(sectors);
      const std::uint64_t length = 1 + random.below(std::min<std::uint64_t>(200, sectors - at));
      std::string bytes(length * 512, static_cast<char>(random.next()));
      if (random.chance(0.3)) {
        for (char& c : bytes) c = static_cast<char>(random.next());
      }
      vm_.write(disk, at * 512, bytes);
    }
  }

  test::TempFolder folder_;
  SystemClock clock_;
  SystemRandom random_;
  bus::CurveKeys source_keys_ = bus::generate_keys().value();
  bus::CurveKeys target_keys_ = bus::generate_keys().value();
  replica::Limits limits_;
  std::uint64_t window_ = std::uint64_t{4} << 20U;
  int idle_s_ = 60;
  std::unique_ptr<replica::ReplicaStore> store_;
  std::unique_ptr<Receiver> receiver_;
  test::MemoryVm vm_;
  std::unique_ptr<test::MemoryPoint> point_;
  Shipper shipper_{folder_ / "source", random_};
  std::string token_;  // Of the newest durable point.
  int attempts_ = 0;
};

}  // namespace farside::data
