// P2 and P8 on a volume that forgets all that was not synced: whatever was acknowledged before the
// power went is there when it comes back, whole.  The power goes at random operations; a failure
// prints the seed.  FARSIDE_DURABILITY_SEEDS=N runs N seeds instead of two.
#include <gmock/gmock.h>

#include <algorithm>
#include <charconv>
#include <cstdlib>
#include <filesystem>
#include <map>
#include <set>
#include <sstream>

#include "common/base/file.h"
#include "common/store/rocks_store.h"
#include "services/agent/data_plane/pending_map.h"
#include "services/agent/data_plane/shipment.h"
#include "services/agent/data_plane/shipper.h"
#include "services/agent/platforms/libvirt/off_tokens.h"
#include "services/agent/platforms/libvirt/qcow2_header.h"
#include "services/agent/platforms/marks.h"
#include "services/agent/replica_store/replica_store.h"
#include "tests/integration/durability/history.h"
#include "tests/integration/durability/subject_process.h"
#include "tests/support/cut_disk/cut_disk.h"
#include "tests/support/memory_vm.h"
#include "tests/unit/data_plane/two_ends.h"

namespace farside::durability {
namespace {

using Words = std::vector<std::string>;

Words split(const std::string& line) {
  std::istringstream in(line);
  Words words;
  for (std::string word; in >> word;) words.push_back(word);
  return words;
}

// 0 if it is none, as may be on a volume that lies.
std::uint64_t number(const std::string& word) {
  std::uint64_t value = 0;
  std::from_chars(word.data(), word.data() + word.size(), value);
  return value;
}

// What a subject has said, and what is wrong with the volume in view of that; "" if nothing is.
class Oracle {
 public:
  virtual ~Oracle() = default;
  virtual void hear(const Words& words) = 0;
  virtual std::string check(const std::string& folder) = 0;
};

// ---- the oracles

class ReplicaOracle final : public Oracle {
 public:
  explicit ReplicaOracle(std::uint64_t seed) : seed_(seed) {}

  void hear(const Words& words) override {
    if (words[0] == "created") is_created_ = true;
    if (words[0] == "point") points_.insert(number(words[1]));
    if (words[0] == "pinned") pins_[words[1]] = number(words[2]);
    if (words[0] == "unpinning") pins_.erase(words[1]);
    if (words[0] != "dropping") return;
    for (std::size_t i = 1; i < words.size(); ++i) points_.erase(number(words[i]));
  }

  std::string check(const std::string& folder) override {
    if (!is_created_) return {};
    const auto store = replica::ReplicaStore::open(folder + "/replicas", limits());
    if (!store) return "store: " + to_text(store.error());
    const auto item = (*store)->find("web");
    if (!item) return "replica: " + to_text(item.error());
    std::set<std::uint64_t> there;
    for (const auto& point : (*item)->points()) there.insert(point.seq);
    for (const std::uint64_t seq : points_) {
      if (!there.contains(seq)) return "point " + std::to_string(seq) + " is gone";
    }
    newest_ = std::max(newest_, points_.empty() ? 0 : *points_.rbegin());
    if ((*item)->newest().seq < newest_) return "the newest point is gone";
    // Those that were not acknowledged, or were being dropped, are whole if they are there.
    for (const std::uint64_t seq : there) {
      if (const std::string wrong = check_point(**item, seq); !wrong.empty()) return wrong;
    }
    for (const auto& [view, seq] : pins_) {
      if (const std::string wrong = check_pin(**item, view, seq); !wrong.empty()) return wrong;
    }
    const auto scrubbed = (*item)->scrub("", 1'000'000);
    if (!scrubbed) return "scrub: " + to_text(scrubbed.error());
    return scrubbed->mismatches.empty() ? "" : "scrub: " + scrubbed->mismatches.front();
  }

 private:
  std::string check_point(replica::Item& item, std::uint64_t seq) const {
    const std::string which = "point " + std::to_string(seq) + ": ";
    const auto wanted = state(seed_, seq);
    const auto digest = item.digest_at(seq);
    if (!digest) return which + to_text(digest.error());
    if (*digest != durability::digest(wanted)) return which + "another digest";
    for (std::uint16_t disk = 0; disk < disks().size(); ++disk) {
      std::string bytes(disks()[disk].bytes, '?');
      const auto read = item.read(disk, seq, 0, bytes);
      if (!read) return which + to_text(read.error());
      if (bytes != wanted[disk]) return which + "other bytes on disk " + disks()[disk].name;
    }
    const auto defined = item.definition_at(seq);
    if (!defined) return which + to_text(defined.error());
    return *defined == definition(seed_, seq) ? "" : which + "another definition";
  }

  std::string check_pin(replica::Item& item, const std::string& view, std::uint64_t seq) const {
    const std::string which = "view " + view + ": ";
    const auto pins = item.pins();
    if (!pins.contains(view) || pins.at(view) != seq) return which + "its point is not kept";
    // As an agent does when it serves the view again.
    if (const auto pinned = item.pin(view, seq); !pinned) return which + to_text(pinned.error());
    const auto index = store::RocksStore::open(item.folder() + "/views/" + view + "/index",
                                               store::RocksStore::Mode::kReadOnly);
    if (!index) return which + to_text(index.error());
    const replica::PointReader frozen(**index, item.folder(), replica::stored(disks()), {});
    const auto wanted = state(seed_, seq);
    for (std::uint16_t disk = 0; disk < disks().size(); ++disk) {
      std::string bytes(disks()[disk].bytes, '?');
      const auto read = frozen.read(disk, seq, 0, bytes);
      if (!read) return which + to_text(read.error());
      if (bytes != wanted[disk]) return which + "other bytes on disk " + disks()[disk].name;
    }
    return {};
  }

  const std::uint64_t seed_;
  bool is_created_ = false;
  std::set<std::uint64_t> points_;
  std::uint64_t newest_ = 0;
  std::map<std::string, std::uint64_t> pins_;
};

class StoreOracle final : public Oracle {
 public:
  explicit StoreOracle(std::uint64_t seed) : seed_(seed) {}

  void hear(const Words& words) override {
    if (words[0] == "commit") last_ = number(words[1]);
  }

  std::string check(const std::string& folder) override {
    if (last_ == 0) return {};
    const auto store = store::RocksStore::open(folder + "/data/state");
    if (!store) return to_text(store.error());
    const auto last = (*store)->get("last", "last");
    if (!last) return to_text(last.error());
    const std::uint64_t there = *last ? number(**last) : 0;
    // Of a commit that was under way all or nothing.
    if (there < last_ || there > last_ + 1) {
      return "the last commit is " + std::to_string(there) + ", not " + std::to_string(last_);
    }
    last_ = there;
    for (std::uint64_t each = there > 20 ? there - 19 : 1; each <= there; ++each) {
      const auto found = (*store)->get("record", std::to_string(each));
      if (!found) return to_text(found.error());
      if (*found != value(seed_, each)) return "record " + std::to_string(each) + " is wrong";
    }
    return {};
  }

 private:
  const std::uint64_t seed_;
  std::uint64_t last_ = 0;
};

class FilesOracle final : public Oracle {
 public:
  explicit FilesOracle(std::uint64_t seed) : seed_(seed) {}

  void hear(const Words& words) override {
    if (words[0] == "last") last_ = number(words[1]);
    if (words[0] == "token") token_ = number(words[1]);
    if (words[0] == "pending") pending_ = number(words[1]);
    if (words[0] == "file") files_[words[1]] = number(words[2]);
    if (words[0] == "overlay") overlays_.insert(words[1]);
    if (words[0] == "identity") identity_ = words[1];
    if (words[0] == "mark") {
      marked_.insert(words[1]);
      unmarked_.erase(words[1]);
    }
    if (words[0] == "unmarking") marked_.erase(words[1]);
    if (words[0] == "unmarked") unmarked_.insert(words[1]);
  }

  std::string check(const std::string& folder) override {
    if (last_ == 0) return {};
    const auto last = read_file(folder + "/last");
    if (!last) return to_text(last.error());
    if (number(*last) < last_) return "the last number is " + *last;
    for (const auto& [path, each] : files_) {
      const auto bytes = read_file(path);
      if (!bytes) return to_text(bytes.error());
      if (*bytes != value(seed_, each)) return path + " has other bytes";
    }
    if (!identity_.empty()) {
      const auto keys = bus::load_or_create_keys(folder + "/identity.key");
      if (!keys || keys->public_key != identity_) return "the identity is another";
    }
    for (const std::string& path : overlays_) {
      const auto header = agent::libvirt::read_qcow2_header(path);
      if (!header) return path + ": " + to_text(header.error());
      if (header->bytes != 1U << 20U || header->backing.empty()) return path + " is another image";
    }
    return check_platform(folder);
  }

 private:
  std::string check_platform(const std::string& folder) const {
    const auto marks = agent::Marks::open(folder + "/platform/fenced");
    const auto tokens = agent::libvirt::OffTokens::open(folder + "/platform/off");
    if (!marks || !tokens) return "the platform's folders cannot be opened";
    for (const std::string& mark : marked_) {
      if (!marks->has(mark)) return "mark " + mark + " is gone";
    }
    for (const std::string& mark : unmarked_) {
      if (marks->has(mark)) return "mark " + mark + " is there again";
    }
    if (token_ != 0) {
      const auto same = tokens->find("vm", std::to_string(token_));
      const auto next = tokens->find("vm", std::to_string(token_ + 1));
      if (!same || !next || (!same->has_value() && !next->has_value())) return "the token is gone";
    }
    if (pending_ == 0) return {};
    const auto pending = data::PendingMap(folder + "/pending/web").load();
    if (!pending) return to_text(pending.error());
    const bool is_there = !pending->attempt.empty() && number(pending->attempt) >= pending_;
    return is_there ? "" : "the pending map is of attempt '" + pending->attempt + "'";
  }

  const std::uint64_t seed_;
  std::uint64_t last_ = 0;
  std::uint64_t token_ = 0;
  std::uint64_t pending_ = 0;
  std::map<std::string, std::uint64_t> files_;
  std::set<std::string> overlays_;
  std::string identity_;
  std::set<std::string> marked_;
  std::set<std::string> unmarked_;
};

std::unique_ptr<Oracle> oracle_of(const std::string& what, std::uint64_t seed) {
  if (what == "item") return std::make_unique<ReplicaOracle>(seed);
  if (what == "store") return std::make_unique<StoreOracle>(seed);
  return std::make_unique<FilesOracle>(seed);
}

// ---- histories of a subject

std::uint64_t seeds() {
  const char* wanted = std::getenv("FARSIDE_DURABILITY_SEEDS");
  return wanted == nullptr ? 2 : number(wanted);
}

class DurabilityTest : public testing::Test {
 protected:
  void SetUp() override {
    if (const std::string why = test::no_cut_disk(); !why.empty()) GTEST_SKIP() << why;
    mount();
  }

  void mount() {
    disk_.reset();
    auto mounted = test::CutDisk::mount();
    ASSERT_TRUE(mounted) << to_text(mounted.error());
    disk_ = std::move(*mounted);
  }

  // Lets the subject work until the power goes, or it is killed; then the volume forgets.
  // What went wrong; "" if nothing did.
  std::string work_and_cut(const std::string& what, std::uint64_t seed, Oracle& oracle,
                           Random& random) {
    // Some cuts fall into the beginning, that is into recovery from the cut before.
    const std::uint64_t operations = 1 + random.below(std::uint64_t{1} << (2 + random.below(9)));
    const bool by_kill = random.chance(0.2);
    disk_->power_off_after(by_kill ? 0 : operations);
    std::string failed = "ended without a word";
    std::uint64_t heard = 0;
    {
      Subject subject(what, disk_->path(), seed);
      while (const auto line = subject.next()) {
        const Words words = split(*line);
        if (words[0] == "failed") failed = *line;
        if (words[0] == "done") failed.clear();
        oracle.hear(words);
        if (by_kill && ++heard > operations / 8) {
          failed.clear();
          subject.kill();
          break;
        }
      }
      // It goes on while we read; what it said by its end counts.
      if (by_kill) {
        while (const auto line = subject.next()) oracle.hear(split(*line));
      }
    }
    if (!failed.empty() && !disk_->is_off()) return "without a cause it " + failed;
    // At times only the process ends, in the middle of anything, and the next one goes on from what
    // the volume would forget.
    if (random.chance(0.3)) {
      disk_->go_on();
      return {};
    }
    disk_->cut(random.chance(0.6), random.next());
    return oracle.check(disk_->path());
  }

  // The first thing that is wrong within so many cuts; "" if nothing is.
  std::string run(const std::string& what, std::uint64_t seed, int cuts) {
    SeededRandom random(seed);
    const auto oracle = oracle_of(what, seed);
    for (int cut = 1; cut <= cuts; ++cut) {
      const std::string wrong = work_and_cut(what, seed, *oracle, random);
      if (!wrong.empty()) return "cut " + std::to_string(cut) + ": " + wrong;
    }
    return {};
  }

  void expect_durable(const std::string& what, int cuts) {
    for (std::uint64_t seed = 1; seed <= seeds(); ++seed) {
      ASSERT_EQ(run(what, seed, cuts), "") << what << ", seed " << seed;
      mount();
    }
  }

  std::unique_ptr<test::CutDisk> disk_;
};

TEST_F(DurabilityTest, AcknowledgedPointsOutliveThePower) {
  expect_durable("item", 15);
}

TEST_F(DurabilityTest, CommittedRecordsOutliveThePower) {
  expect_durable("store", 25);
}

TEST_F(DurabilityTest, ReplacedFilesFoldersAndMarksOutliveThePower) {
  expect_durable("files", 15);
}

// A volume that says it synced and did not must be found out, or the tests above show nothing.
TEST_F(DurabilityTest, AVolumeThatLiesIsFoundOut) {
  const std::vector<std::pair<std::string, std::string>> lies{
      {"item", "names"}, {"item", ".seg"},         {"item", "base-"},  {"item", ".log"},
      {"item", ".sst"},  {"item", "definitions/"}, {"store", "names"}, {"store", ".log"},
      {"store", ".sst"}, {"files", "names"},       {"files", "/file"}, {"files", "/last"},
      {"files", "/web"}, {"files", ".json"},       {"files", ".qcow2"}};
  for (const auto& [what, lie] : lies) {
    disk_->lie_about(lie);

    EXPECT_NE(run(what, 1, 60), "") << what << " on a volume that lies about " << lie;

    mount();
  }
}

// ---- a source and its target, whose volume it is

class TargetTest : public DurabilityTest {
 protected:
  void fill(Random& random) {
    for (std::uint64_t n = 1 + random.below(8); n > 0; --n) {
      const std::uint64_t disk = random.below(2);
      const std::uint64_t at = random.below(vm_.disks[disk].size() / 512);
      const std::uint64_t room = vm_.disks[disk].size() - at * 512;
      const std::uint64_t length = std::min(room, 512 * (1 + random.below(200)));
      vm_.write(disk, at * 512, replica::content(random, static_cast<std::uint32_t>(length)));
    }
  }

  // Ships points until the power goes; keeps in mind what was acknowledged.
  void ship_until_off(Random& random, std::uint64_t points_max) {
    Subject target("target", disk_->path(), 1);
    target.tell(keys_.public_key);
    const auto words = split(target.next().value_or("failed"));
    if (words[0] != "endpoint" || target.next() != "allowed") return;
    for (std::uint64_t n = 0; n < points_max; ++n) {
      fill(random);
      const std::string attempt = "a" + std::to_string(++attempts_);
      // As an agent does it: source_work.cpp.
      const auto pending = shipper_.pending("web");
      ASSERT_TRUE(pending) << to_text(pending.error());
      auto mode = tracked_.empty() ? data::ShipMode::kEverything : data::ShipMode::kChanged;
      std::string since = pending->cycle.empty() ? tracked_ : pending->attempt;
      if (is_lost_) {
        mode = data::ShipMode::kResync;
        since.clear();
      }
      const auto point = vm_.point(attempt, since);
      const auto shipped = shipper_.ship(*point, {.item = "web",
                                                  .epoch = 1,
                                                  .endpoint = words[1],
                                                  .target_key = words[2],
                                                  .keys = keys_,
                                                  .attempt = attempt,
                                                  .since = since,
                                                  .mode = mode,
                                                  .silent_s = 20});
      if (!shipped) {
        is_lost_ = is_lost_ || shipped.error().code == ErrorCode::kTrackingLost;
        return;
      }
      is_lost_ = false;
      tracked_ = attempt;
      digests_[shipped->point.seq] = data::digest_from_scratch(*point, "");
    }
  }

  std::string check() const {
    if (digests_.empty()) return {};
    const auto store = replica::ReplicaStore::open(disk_->path() + "/replicas", limits());
    if (!store) return to_text(store.error());
    const auto item = (*store)->find("web");
    if (!item) return to_text(item.error());
    for (const auto& [seq, wanted] : digests_) {
      const auto digest = (*item)->digest_at(seq);
      if (!digest) return to_text(digest.error());
      if (*digest != wanted) return "point " + std::to_string(seq) + " is another";
    }
    const auto scrubbed = (*item)->scrub("", 1'000'000);
    if (!scrubbed) return to_text(scrubbed.error());
    return scrubbed->mismatches.empty() ? "" : scrubbed->mismatches.front();
  }

  bus::CurveKeys keys_ = bus::generate_keys().value();
  test::MemoryVm vm_;
  test::TempFolder source_;
  SystemRandom chance_;
  data::Shipper shipper_{source_ / "pending", chance_};
  std::string tracked_;  // Token of the newest durable point.
  bool is_lost_ = false;
  int attempts_ = 0;
  std::map<std::uint64_t, std::string> digests_;
};

TEST_F(TargetTest, APointThatASourceWasToldOfOutlivesThePower) {
  for (const auto& disk : disks()) vm_.add_disk(disk.name, disk.bytes);
  SeededRandom random(seeds());
  for (std::uint64_t cut = 1; cut <= 10 * seeds(); ++cut) {
    disk_->power_off_after(1 + random.below(std::uint64_t{1} << (3 + random.below(7))));
    ship_until_off(random, 30);
    disk_->cut(random.chance(0.6), random.next());
    ASSERT_EQ(check(), "") << "cut " << cut << " of " << seeds() << " seeds";
  }
  EXPECT_FALSE(digests_.empty());
}

}  // namespace
}  // namespace farside::durability
