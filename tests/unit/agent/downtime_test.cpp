// What a planned failover asks of both ends, in its order: all that costs as much as the disks are
// large happens while the VM runs.
#include <gtest/gtest.h>

#include <filesystem>

#include "common/base/file.h"
#include "tests/unit/agent/two_hosts.h"

namespace farside::agent {
namespace {

using replica::kBlockBytes;

class DowntimeTest : public TwoHosts {
 protected:
  void SetUp() override {
    TwoHosts::SetUp();
    for (std::uint64_t at = 0; at < 3 * kMib; at += kBlockBytes) {
      write("vda", at, static_cast<char>('a' + at / kBlockBytes % 26));
    }
    write("vdb", kMib, 'z');
    ASSERT_TRUE(prepare());
    point();
    write("vda", 5 * kBlockBytes, '1');  // In a segment at the target.
    point();
  }

  void write(const std::string& disk, std::uint64_t at, char c) {
    ASSERT_TRUE(here_.write(kVm, disk, at, std::string(kBlockBytes, c)));
  }
  std::string replica_file(const std::string& name) const {
    return folder_ / "storage/farside-replicas/" + std::string(kItem) + "/" + name;
  }
  std::string hashes() const { return folder_ / "pending/" + std::string(kItem) + ".hashes"; }
  static void flip(const std::string& path, std::uint64_t at) {
    const auto file = File::open_to_write(path).value();
    std::string byte(1, '\0');
    ASSERT_TRUE(file.read_at(at, byte));
    byte[0] = static_cast<char>(byte[0] ^ 1);
    ASSERT_TRUE(file.write_at(at, byte));
  }

  Result<msg::Message> verify(const msg::CycleDone& done, std::uint64_t since) {
    return target_.run(
        msg::VerifyPoint{
            .item = kItem, .seq = done.point.seq, .digest = done.digest, .since = since},
        "order/v");
  }
  // The steps before the shutdown; returns the point that was verified.
  std::uint64_t before_shutdown() {
    const auto synced = cycle(/*digest=*/true);
    EXPECT_TRUE(synced) << synced.error().what;
    const auto verified = verify(*synced, 0);
    EXPECT_TRUE(verified) << verified.error().what;
    write("vda", 7 * kBlockBytes, '7');  // It takes its time, and the guest goes on.
    const auto again = cycle(/*digest=*/true);
    EXPECT_TRUE(again) << again.error().what;
    EXPECT_TRUE(verify(*again, synced->point.seq));
    return again->point.seq;
  }
  void shut_down() {
    ASSERT_TRUE(source_.run(msg::ShutDownSource{.item = kItem, .vm = kVm, .deadline_seconds = 1}));
  }
  Result<msg::CycleDone> last_delta() { return cycle(/*digest=*/true, /*final=*/true); }
};

TEST_F(DowntimeTest, AfterTheShutdownTheSourceReadsNothingButTheLastDelta) {
  const auto verified = before_shutdown();
  write("vda", 0, 'L');
  write("vda", 9 * kBlockBytes, '\0');
  shut_down();
  const auto before = here_.frozen_bytes_read();

  const auto last = last_delta();

  ASSERT_TRUE(last) << last.error().what;
  EXPECT_EQ(here_.frozen_bytes_read() - before, kBlockBytes) << "zeros are known without reading";
  const auto checked = verify(*last, verified);
  ASSERT_TRUE(checked) << checked.error().what;
}

TEST_F(DowntimeTest, TheTargetReadsNothingButTheLastDeltaEither) {
  const auto verified = before_shutdown();
  write("vda", 0, 'L');
  shut_down();
  const auto last = last_delta();
  ASSERT_TRUE(last) << last.error().what;
  // Whatever is older is not looked at any more: not even that it is gone.
  std::filesystem::resize_file(replica_file("base-vda.raw"), 0);

  EXPECT_TRUE(verify(*last, verified));
  EXPECT_TRUE(verify(*last, verified)) << "its answer was lost";
  EXPECT_FALSE(verify(*last, 0)) << "all of it is";
}

TEST_F(DowntimeTest, AFlippedByteOfTheLastDeltaIsFound) {
  const auto verified = before_shutdown();
  write("vda", 0, 'L');
  shut_down();
  const auto last = last_delta();
  ASSERT_TRUE(last) << last.error().what;
  std::string newest;
  for (const auto& file : std::filesystem::directory_iterator(replica_file("segments"))) {
    newest = std::max(newest, file.path().string());
  }
  flip(newest, std::filesystem::file_size(newest) - 5);

  const auto checked = verify(*last, verified);

  ASSERT_FALSE(checked);
  EXPECT_EQ(checked.error().code, ErrorCode::kCorrupt);
}

TEST_F(DowntimeTest, AFlippedByteInTheBaseIsFoundBeforeTheShutdownAndMended) {
  const auto synced = cycle(/*digest=*/true);
  ASSERT_TRUE(synced) << synced.error().what;
  flip(replica_file("base-vda.raw"), 3 * kBlockBytes + 77);

  const auto found = verify(*synced, 0);

  ASSERT_FALSE(found);
  EXPECT_EQ(found.error().code, ErrorCode::kCorrupt);
  EXPECT_NE(found.error().what.find("block 3 of disk vda"), std::string::npos)
      << found.error().what;
  EXPECT_NE(found.error().advice.find("farside resync"), std::string::npos);
  source_item_.resync = true;
  before_shutdown();
}

TEST_F(DowntimeTest, AFlippedByteInASegmentIsFoundBeforeTheShutdown) {
  const auto synced = cycle(/*digest=*/true);
  ASSERT_TRUE(synced) << synced.error().what;
  for (const auto& file : std::filesystem::directory_iterator(replica_file("segments"))) {
    flip(file.path(), file.file_size() - 5);
  }

  const auto found = verify(*synced, 0);

  ASSERT_FALSE(found);
  EXPECT_NE(found.error().what.find("block 5 of disk vda"), std::string::npos)
      << found.error().what;
}

TEST_F(DowntimeTest, ADiskThatDiffersIsNamed) {
  auto synced = cycle(/*digest=*/true);
  ASSERT_TRUE(synced) << synced.error().what;
  const auto colon = synced->digest.find("vdb:") + 4;
  synced->digest[colon] = synced->digest[colon] == '0' ? '1' : '0';

  const auto found = verify(*synced, 0);

  ASSERT_FALSE(found);
  EXPECT_EQ(found.error().code, ErrorCode::kCorrupt);
  EXPECT_TRUE(found.error().what.ends_with("disks: vdb")) << found.error().what;
}

TEST_F(DowntimeTest, ASourceWithoutHashesReadsItsDisksWhileItsVmRunsAndNeverAfter) {
  std::filesystem::remove(hashes());
  shut_down();
  auto before = here_.frozen_bytes_read();
  const auto early = last_delta();
  ASSERT_FALSE(early);
  EXPECT_EQ(early.error().code, ErrorCode::kConflict);
  EXPECT_EQ(here_.frozen_bytes_read(), before);
  ASSERT_TRUE(source_.run(msg::RestartSource{.item = kItem, .vm = kVm, .start = true}));

  const auto verified = before_shutdown();
  EXPECT_GT(here_.frozen_bytes_read() - before, 3 * kMib);
  write("vda", 0, 'L');
  shut_down();
  before = here_.frozen_bytes_read();
  const auto last = last_delta();

  ASSERT_TRUE(last) << last.error().what;
  EXPECT_EQ(here_.frozen_bytes_read() - before, kBlockBytes);
  EXPECT_TRUE(verify(*last, verified));
}

TEST_F(DowntimeTest, TrackingThatIsLostInTheShutdownIsNoReasonToReadAllOfIt) {
  before_shutdown();
  shut_down();
  here_.lose_tracking(kVm);
  const auto before = here_.frozen_bytes_read();

  const auto lost = last_delta();
  source_item_.resync = true;  // As the core notes it.
  const auto again = last_delta();

  EXPECT_FALSE(lost);
  ASSERT_FALSE(again);
  EXPECT_EQ(again.error().code, ErrorCode::kConflict);
  EXPECT_EQ(here_.frozen_bytes_read(), before);
}

TEST_F(DowntimeTest, ALastDeltaThatBreaksIsResumedWithoutReadingMore) {
  const auto verified = before_shutdown();
  for (std::uint64_t block = 0; block < 16; ++block) write("vda", block * kBlockBytes, 'L');
  shut_down();
  receiver_->forbid(kItem);
  ASSERT_FALSE(last_delta());
  const auto broken = "t-" + std::to_string(attempts_);
  ASSERT_TRUE(receiver_->allow(kItem, source_keys_.public_key, 1));
  const auto before = here_.frozen_bytes_read();

  const auto last = last_delta();

  ASSERT_TRUE(last) << last.error().what << broken;
  EXPECT_LE(here_.frozen_bytes_read() - before, 16 * kBlockBytes);
  EXPECT_TRUE(verify(*last, verified));
}

TEST_F(DowntimeTest, ThePointThatWasVerifiedStaysUntilTheLastOneWas) {
  const auto verified = before_shutdown();
  ASSERT_TRUE(target_.run(msg::ItemSettings{.item = kItem, .epoch = 1, .policy = {}}));
  point();
  maintain({.item = kItem});  // Of a policy that keeps the newest only.

  const auto points = target_.open_item(kItem, {}).value()->points();

  ASSERT_EQ(points.size(), 2U);
  EXPECT_EQ(points.front().seq, verified);
}

}  // namespace
}  // namespace farside::agent
