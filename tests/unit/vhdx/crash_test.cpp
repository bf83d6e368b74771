// The power fails at any call, and unflushed writes are lost in part and out of order: what was
// flushed is there, each other sector is as it was or as it became, and nothing else appears.
#include <gtest/gtest.h>

#include <map>
#include <set>

#include "tests/unit/vhdx/disks.h"
#include "tests/unit/vhdx/failing_disk.h"

namespace farside::agent::vhdx {
namespace {

using farside::test::FailingDisk;
using test::Bytes;
using test::Share;

constexpr std::uint64_t kSector = 512;

// Each write of a sector fills it with a number of its own; 0 are zeros.
std::string filled(std::uint64_t number, std::uint64_t sectors) {
  std::string out(sectors * kSector, '\0');
  for (std::uint64_t s = 0; s < sectors; ++s) {
    for (std::size_t at = 0; at < kSector; at += 8) {
      store(out, s * kSector + at, number == 0 ? 0 : number + s);
    }
  }
  return out;
}

// What each sector may hold; a sector that is not listed holds what the parent has.
class Model final {
 public:
  explicit Model(std::uint64_t base) : base_(base) {}

  void written(std::uint64_t first, std::uint64_t sectors, std::uint64_t number) {
    for (std::uint64_t s = 0; s < sectors; ++s) {
      auto& versions = may_[first + s];
      if (versions.empty()) versions.push_back(base_);
      versions.push_back(number == 0 ? 0 : number + s);
    }
  }
  void flushed() {
    for (auto& [sector, versions] : may_) versions.assign(1, versions.back());
  }
  // What was found after a crash stays so.
  void found(std::uint64_t sector, std::uint64_t number) {
    if (may_.contains(sector)) may_[sector].assign(1, number);
  }
  bool allows(std::uint64_t sector, std::uint64_t number) const {
    const auto versions = may_.find(sector);
    if (versions == may_.end()) return number == base_;
    return std::ranges::find(versions->second, number) != versions->second.end();
  }
  bool knows(std::uint64_t sector) const { return may_.contains(sector); }
  const std::map<std::uint64_t, std::vector<std::uint64_t>>& sectors() const { return may_; }

 private:
  std::uint64_t base_;
  std::map<std::uint64_t, std::vector<std::uint64_t>> may_;
};

// The number in a sector; none: it was torn, or is not of any write.
std::optional<std::uint64_t> number_in(std::string_view sector) {
  const auto number = load<std::uint64_t>(sector, 0);
  for (std::size_t at = 8; at < kSector; at += 8) {
    if (load<std::uint64_t>(sector, at) != number) return std::nullopt;
  }
  return number;
}

struct Plan {
  std::uint64_t disk_bytes;
  bool has_parent;
  std::uint64_t base;    // What the parent holds everywhere.
  std::uint64_t spread;  // Writes begin at multiples of so many sectors.
  std::uint64_t longest;
  int crashes;
  std::uint64_t calls;  // At most, until the power fails.
  double flush;         // How likely, after each write.
  double fail_in_flush;
};

constexpr std::uint64_t kBase = 0xBA5E;

void check(Share& share, Bytes& bytes, Model& model, std::uint64_t disk_bytes) {
  auto chain = Chain::open(test::open(bytes), share.opener());
  ASSERT_TRUE(chain) << to_text(chain.error());
  const auto look = [&](std::uint64_t first, std::uint64_t sectors) {
    std::string data(sectors * kSector, '?');
    const Status read = (*chain)->read_at(first * kSector, data);
    ASSERT_TRUE(read) << to_text(read.error());
    for (std::uint64_t s = 0; s < sectors; ++s) {
      const auto number = number_in(std::string_view(data).substr(s * kSector, kSector));
      ASSERT_TRUE(number) << "sector " << first + s << " is torn";
      ASSERT_TRUE(model.allows(first + s, *number)) << "sector " << first + s << ": " << *number;
      model.found(first + s, *number);
    }
  };
  if (disk_bytes <= 16 * kMiB) {
    look(0, disk_bytes / kSector);
    return;
  }
  for (const auto& [sector, versions] : model.sectors()) look(sector, 1);
  const auto extents = (*chain)->allocated();
  ASSERT_TRUE(extents) << to_text(extents.error());
  for (const Extent& extent : *extents) {
    if (!extent.is_zero) look(extent.offset / kSector, extent.length / kSector);
  }
}

void crash_again_and_again(const Plan& plan, std::uint64_t seed) {
  SCOPED_TRACE("seed " + std::to_string(seed));
  SeededRandom random(seed);
  Share share;
  share.create("base.vhdx", {.disk_bytes = plan.disk_bytes, .block_bytes = kBlockBytesMin});
  if (plan.base != 0) {
    auto base = share.write("base.vhdx");
    ASSERT_TRUE(base->write_at(0, [&] {
      std::string all(plan.disk_bytes, '\0');
      for (std::size_t at = 0; at < all.size(); at += 8) store(all, at, plan.base);
      return all;
    }()));
    ASSERT_TRUE(base->close());
  }
  if (plan.has_parent) {
    share.create_child("disk.vhdx", "base.vhdx");
  } else {
    share.files["disk.vhdx"] = share.files["base.vhdx"];
  }
  FailingDisk disk(share.files["disk.vhdx"], random);
  Model model(plan.base);
  std::uint64_t number = 1'000'000;
  for (int crash = 0; crash < plan.crashes; ++crash) {
    // A flush is where things may come in a wrong order; a few right after opening are the replay.
    disk.fail_after(random.below(plan.calls));
    if (random.chance(0.6)) disk.fail_after_flushes(random.below(random.chance(0.5) ? 5 : 20));
    auto image = WritableImage::open(disk.open(), HasNoChildren{}, random);
    if (!image) {
      ASSERT_TRUE(disk.has_failed()) << to_text(image.error());
    }
    while (image && !disk.has_failed()) {
      const std::uint64_t places = plan.disk_bytes / kSector / plan.spread;
      const std::uint64_t first = random.below(places) * plan.spread;
      const std::uint64_t most = std::min(plan.disk_bytes / kSector - first,
                                          random.chance(0.2) ? plan.longest : std::uint64_t{8});
      const std::uint64_t count = 1 + random.below(most);
      Status done;
      if (random.chance(0.25)) {
        // Often whole blocks, which give back space.
        const std::uint64_t block = kMiB / kSector;
        const bool whole = random.chance(0.7);
        const std::uint64_t from = whole ? first / block * block : first;
        const std::uint64_t length = whole ? block : count;
        model.written(from, length, 0);
        done = (*image)->zero(from * kSector, length * kSector);
      } else {
        model.written(first, count, number);
        done = (*image)->write_at(first * kSector, filled(number, count));
        number += count;
      }
      if (done && random.chance(plan.flush)) {
        if (random.chance(plan.fail_in_flush)) disk.fail_after_flushes(random.below(9));
        done = (*image)->flush();
        if (done) model.flushed();
      }
      if (done && random.chance(0.03)) {
        if (random.chance(0.7)) disk.fail_after_flushes(random.below(6));  // In the middle of it.
        done = (*image)->close();
        if (done) model.flushed();
        if (done) break;
      }
      if (!done) {
        ASSERT_TRUE(disk.has_failed()) << to_text(done.error());
      }
    }
    image = fail(ErrorCode::kCancelled, "gone");
    Bytes left = disk.restart();
    ASSERT_NO_FATAL_FAILURE(check(share, left, model, plan.disk_bytes)) << "crash " << crash;
    // A second reader, which replays the log into the file, must find the very same.
    if (random.chance(0.3)) {
      auto again = WritableImage::open(test::open(left), HasNoChildren{}, random);
      ASSERT_TRUE(again) << to_text(again.error());
      ASSERT_NO_FATAL_FAILURE(check(share, left, model, plan.disk_bytes)) << "crash " << crash;
    }
  }
}

void crash_for_seeds(const Plan& plan, std::uint64_t seeds) {
  for (std::uint64_t seed = 1; seed <= seeds; ++seed) {
    crash_again_and_again(plan, seed);
    if (testing::Test::HasFailure()) return;
  }
}

TEST(CrashTest, ADynamicDiskKeepsWhatWasFlushed) {
  crash_for_seeds({.disk_bytes = 8 * kMiB,
                   .has_parent = false,
                   .base = 0,
                   .spread = 1,
                   .longest = 3000,
                   .crashes = 8,
                   .calls = 400,
                   .flush = 0.2,
                   .fail_in_flush = 0.05},
                  15);
}

TEST(CrashTest, ADifferencingDiskKeepsWhatWasFlushed) {
  crash_for_seeds({.disk_bytes = 8 * kMiB,
                   .has_parent = true,
                   .base = kBase,
                   .spread = 1,
                   .longest = 3000,
                   .crashes = 8,
                   .calls = 400,
                   .flush = 0.2,
                   .fail_in_flush = 0.05},
                  15);
}

// Nearly each write falls into another log sector of the BAT, so that one entry does not hold all
// that changed.
TEST(CrashTest, ALargeDiskKeepsWhatWasFlushed) {
  crash_for_seeds({.disk_bytes = 256 * (1024 * kMiB),
                   .has_parent = false,
                   .base = 0,
                   .spread = 512 * kMiB / kSector,
                   .longest = 16,
                   .crashes = 8,
                   .calls = 2500,
                   .flush = 0.005,
                   .fail_in_flush = 0.7},
                  2);
}

TEST(CrashTest, ALargeDifferencingDiskKeepsWhatWasFlushed) {
  crash_for_seeds({.disk_bytes = 64 * (1024 * kMiB),
                   .has_parent = true,
                   .base = 0,
                   .spread = 32 * kMiB / kSector,
                   .longest = 16,
                   .crashes = 8,
                   .calls = 2500,
                   .flush = 0.005,
                   .fail_in_flush = 0.7},
                  2);
}

// One history, on a differencing disk of 64 GiB: so many log sectors change that they take several
// entries.  Returns when it ends, or when the power fails.
void write_far_and_wide(FailingDisk& disk, Model& model, SeededRandom& random) {
  const std::uint64_t place = 128 * kMiB / kSector;
  std::uint64_t number = 1'000'000;
  auto image = WritableImage::open(disk.open(), HasNoChildren{}, random);
  if (!image) return;
  const auto write = [&](std::uint64_t sector) {
    model.written(sector, 3, number);
    const Status done = (*image)->write_at(sector * kSector, filled(number, 3));
    number += 3;
    return done.has_value();
  };
  const auto flush = [&] {
    const bool done = (*image)->flush().has_value();
    if (done) model.flushed();
    return done;
  };
  for (std::uint64_t i = 0; i < 480; i += 70) {
    if (!write(i * place)) return;
  }
  if (!flush()) return;
  for (std::uint64_t i = 0; i < 480; i += 2) {
    if (!write(i * place + 8)) return;
  }
  if (!flush()) return;
  for (std::uint64_t i = 0; i < 512; i += 20) {
    model.written(i * place, kMiB / kSector, 0);
    if (!(*image)->zero(i * place * kSector, kMiB)) return;
  }
  for (std::uint64_t i = 1; i < 512; i += 50) {
    if (!write(i * place)) return;
  }
  if (!write(500 * place)) return;  // The first in its chunk.
  if ((*image)->close()) model.flushed();
}

TEST(CrashTest, EveryFlushOfAHistoryMayBeTheOneThatFails) {
  Share share;
  share.create("base.vhdx", {.disk_bytes = 64 * (1024 * kMiB), .block_bytes = kBlockBytesMin});
  share.create_child("disk.vhdx", "base.vhdx");
  bool has_failed = true;
  std::uint64_t flushes = 0;
  for (; has_failed; ++flushes) {
    SeededRandom random(flushes);
    FailingDisk disk(share.files["disk.vhdx"], random);
    Model model(0);
    disk.fail_after_flushes(flushes);
    write_far_and_wide(disk, model, random);
    has_failed = disk.has_failed();
    for (int restart = 0; restart < 12; ++restart) {  // What is lost differs each time.
      FailingDisk again = disk;
      Model found = model;
      Bytes left = again.restart();
      ASSERT_NO_FATAL_FAILURE(check(share, left, found, 64 * (1024 * kMiB)))
          << "flush " << flushes << ", restart " << restart;
    }
  }
  EXPECT_GT(flushes, 12u);
}

}  // namespace
}  // namespace farside::agent::vhdx
