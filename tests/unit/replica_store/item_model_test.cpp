// A replica against a plain model of it: after any sequence of deltas, interruptions, dropped
// points, pins, folding in slices and restarts, every kept point reads as the model says.
#include <gtest/gtest.h>

#include <algorithm>
#include <map>

#include "services/agent/replica_store/digest.h"
#include "tests/support/temp_folder.h"
#include "tests/unit/replica_store/writes.h"

namespace farside::replica {
namespace {

using Disks = std::vector<std::string>;

class ItemModel : public testing::TestWithParam<std::uint64_t> {
 protected:
  ItemModel() : random_(GetParam()) {
    limits_.segment_bytes = 1 + random_.below(8) * kBlockBytes;
    limits_.flush_bytes = 1 + random_.below(6) * kBlockBytes;
    limits_.reserve_bytes = 1;
    for (const auto& disk : shape_) state_.emplace_back(disk.bytes, '\0');
    open();
  }

  void open() {
    item_.reset();
    auto opened = Item::open(folder_ / "item", "web", shape_, limits_);
    if (!opened) throw std::runtime_error(opened.error().what);
    item_ = std::move(*opened);
  }

  // One delta, perhaps with interruptions, as a source would send it: after each of them it asks
  // what is there and sends the rest.
  void delta() {
    Disks next = state_;
    std::vector<std::map<std::uint32_t, std::string>> wanted(shape_.size());
    for (std::uint64_t n = random_.below(12); n > 0; --n) {
      const std::uint64_t disk = random_.below(shape_.size());
      const auto block = static_cast<std::uint32_t>(random_.below(blocks_of(shape_[disk].bytes)));
      const std::string plain = content(random_, length_of(shape_[disk].bytes, block));
      wanted[disk][block] = plain;
      next[disk].replace(std::size_t{block} * kBlockBytes, plain.size(), plain);
    }
    const std::string cycle = std::to_string(random_.next());
    for (int attempt = 0; attempt < 20; ++attempt) {
      const auto begun = item_->begin_delta({.cycle = cycle, .epoch = 1});
      ASSERT_TRUE(begun) << begun.error().what;
      std::uint64_t total = 0;
      for (std::size_t disk = 0; disk < wanted.size(); ++disk) {
        const BlockSet there = item_->staged(static_cast<std::uint16_t>(disk)).value();
        for (const auto& [block, plain] : wanted[disk]) {
          ++total;
          if (there.has(block) && !random_.chance(0.1)) continue;
          Writes writes;
          writes.add(static_cast<std::uint16_t>(disk), block, plain,
                     static_cast<int>(random_.below(2)));
          ASSERT_TRUE(item_->append(writes.list()));
          if (attempt < 5 && random_.chance(0.1)) goto interrupted;
        }
      }
      {
        const auto point = item_->commit_delta(
            {.captured_at = ++now_, .attempt = cycle, .epoch = 1, .blocks = total});
        ASSERT_TRUE(point) << point.error().what;
        state_ = next;
        kept_[point->seq] = state_;
        return;
      }
    interrupted:
      if (random_.chance(0.5)) open();
    }
    FAIL() << "the delta never ended";
  }

  void drop() {
    std::vector<std::uint64_t> victims;
    for (const auto& [seq, disks] : kept_) {
      const bool pinned = std::ranges::any_of(pins_, [&](auto& pin) { return pin.second == seq; });
      if (seq == verified_) continue;  // Held.
      if (seq != kept_.rbegin()->first && !pinned && random_.chance(0.4)) victims.push_back(seq);
    }
    ASSERT_TRUE(item_->drop_points(victims));
    for (const std::uint64_t seq : victims) kept_.erase(seq);
  }

  void rewind() {
    if (kept_.empty()) return;
    auto chosen = kept_.begin();
    std::advance(chosen, static_cast<std::ptrdiff_t>(random_.below(kept_.size())));
    if (std::ranges::any_of(pins_, [&](auto& pin) { return pin.second > chosen->first; })) return;
    ASSERT_TRUE(item_->rewind(chosen->first));
    state_ = chosen->second;
    kept_.erase(std::next(chosen), kept_.end());
    if (!kept_.contains(verified_)) verified_ = 0;
  }

  void pin_or_unpin() {
    if (!pins_.empty() && random_.chance(0.5)) {
      ASSERT_TRUE(item_->unpin(pins_.begin()->first));
      pins_.erase(pins_.begin());
    } else if (!kept_.empty() && pins_.size() < 3) {
      auto chosen = kept_.begin();
      std::advance(chosen, static_cast<std::ptrdiff_t>(random_.below(kept_.size())));
      const std::string view = "v" + std::to_string(random_.next());
      ASSERT_TRUE(item_->pin(view, chosen->first));
      pins_[view] = chosen->first;
    }
  }

  void check_reads(const PointReader* frozen, std::uint64_t seq) {
    for (std::size_t disk = 0; disk < shape_.size(); ++disk) {
      const auto number = static_cast<std::uint16_t>(disk);
      std::string all(shape_[disk].bytes, '?');
      const Status read =
          frozen != nullptr ? frozen->read(number, seq, 0, all) : item_->read(number, seq, 0, all);
      ASSERT_TRUE(read) << read.error().what;
      ASSERT_TRUE(all == kept_[seq][disk]) << "point " << seq << " disk " << disk;
    }
  }

  std::string model_digest(const Disks& disks) const {
    std::vector<SummedDisk> sums;
    for (std::size_t disk = 0; disk < shape_.size(); ++disk) {
      sums.push_back({.name = shape_[disk].name, .bytes = shape_[disk].bytes, .sum = {}});
      for (std::uint64_t at = 0; at < disks[disk].size(); at += kBlockBytes) {
        std::string block = disks[disk].substr(at, kBlockBytes);
        block.resize(kBlockBytes);
        sums.back().sum += term_of(at / kBlockBytes, hash_of(block));
      }
    }
    return digest_of(std::move(sums));
  }

  // A point by all its bytes, and later ones by what came since; with deltas, folding and restarts
  // before, in between and after.
  void verify() {
    const auto nobody = [](std::uint64_t, std::uint64_t) { return Status(); };
    if (kept_.contains(verified_) && random_.chance(0.7)) {
      auto later = kept_.find(verified_);
      std::advance(later, 1 + static_cast<std::ptrdiff_t>(random_.below(kept_.size())) %
                                  std::max<std::ptrdiff_t>(1, std::distance(later, kept_.end())));
      if (later == kept_.end()) return;
      ASSERT_EQ(item_->verify_since(verified_, later->first, nobody).value(),
                model_digest(later->second));
      verified_ = later->first;
    } else if (!kept_.empty()) {
      auto chosen = kept_.begin();
      std::advance(chosen, static_cast<std::ptrdiff_t>(random_.below(kept_.size())));
      ASSERT_EQ(item_->verify(chosen->first, nobody).value(), model_digest(chosen->second));
      verified_ = chosen->first;
    }
  }

  void check() {
    ASSERT_EQ(item_->points().size(), kept_.size());
    for (const auto& [seq, disks] : kept_) {
      ASSERT_NO_FATAL_FAILURE(check_reads(nullptr, seq));
      ASSERT_EQ(item_->digest_at(seq).value(), model_digest(disks));
    }
    for (const auto& [view, seq] : pins_) {
      const auto index = store::RocksStore::open(folder_ / ("item/views/" + view + "/index"),
                                                 store::RocksStore::Mode::kReadOnly)
                             .value();
      const PointReader frozen(*index, folder_ / "item", stored(shape_), {});
      ASSERT_NO_FATAL_FAILURE(check_reads(&frozen, seq));
    }
    const auto scrub = item_->scrub("", 100'000).value();
    ASSERT_TRUE(scrub.mismatches.empty()) << scrub.mismatches[0];
  }

  SeededRandom random_;
  test::TempFolder folder_;
  Limits limits_;
  const std::vector<msg::ReplicaDisk> shape_{{.name = "vda", .bytes = 9 * kBlockBytes},
                                             {.name = "vdb", .bytes = 3 * kBlockBytes + 1024}};
  std::unique_ptr<Item> item_;
  Disks state_;
  std::map<std::uint64_t, Disks> kept_;
  std::map<std::string, std::uint64_t> pins_;
  std::uint64_t verified_ = 0;
  std::int64_t now_ = 0;
};

TEST_P(ItemModel, EveryKeptPointReadsAsItWas) {
  for (int step = 0; step < 50; ++step) {
    switch (random_.below(10)) {
      case 0:
        ASSERT_NO_FATAL_FAILURE(drop());
        break;
      case 1:
        ASSERT_NO_FATAL_FAILURE(pin_or_unpin());
        break;
      case 2:
        open();
        break;
      case 5:
        ASSERT_NO_FATAL_FAILURE(rewind());
        break;
      case 6:
        ASSERT_NO_FATAL_FAILURE(verify());
        break;
      case 3:
      case 4:
        ASSERT_TRUE(item_->consolidate(1 + random_.below(5)));
        break;
      default:
        ASSERT_NO_FATAL_FAILURE(delta());
        break;
    }
    if (step % 10 != 9) continue;
    ASSERT_NO_FATAL_FAILURE(check());
  }

  // In the end all space comes back: unpin, keep the newest only, fold everything.
  if (!kept_.empty()) {  // The point that was verified last is held.
    const auto nobody = [](std::uint64_t, std::uint64_t) { return Status(); };
    ASSERT_TRUE(item_->verify(kept_.rbegin()->first, nobody));
  }
  for (const auto& [view, seq] : pins_) ASSERT_TRUE(item_->unpin(view));
  pins_.clear();
  while (kept_.size() > 1) {
    ASSERT_TRUE(item_->drop_points({kept_.begin()->first}));
    kept_.erase(kept_.begin());
  }
  for (;;) {
    const auto more = item_->consolidate(3);
    ASSERT_TRUE(more) << more.error().what;
    if (!*more) break;
  }
  ASSERT_NO_FATAL_FAILURE(check());
  open();
  ASSERT_TRUE(item_->consolidate(1));
  if (item_->newest().seq > 1 && item_->points().front().seq > 1) {
    EXPECT_EQ(item_->usage().live_bytes, 0U) << "everything was folded";
    EXPECT_EQ(item_->usage().journal_bytes, 0U);
  }
}

INSTANTIATE_TEST_SUITE_P(Seeds, ItemModel, testing::Range<std::uint64_t>(1, 11));

}  // namespace
}  // namespace farside::replica
