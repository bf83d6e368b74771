// Our own part of a planned failover's down time, from the shutdown of the source to the view that
// the replica starts from, for disks with more and more data: the last delta, its digest, the look
// at its bytes, the epoch, and the served view.  Both ends are in this process, over loopback with
// all encryption; the source's disk is made up as it is read.  Prints one JSON object.
//
//   downtime_bench FOLDER [MiB of data, 100 4096 16384]...
#include <fmt/format.h>
#include <fmt/ranges.h>

#include <algorithm>
#include <cstdlib>
#include <cstring>
#include <deque>
#include <filesystem>
#include <map>
#include <optional>

#include "common/base/clock.h"
#include "common/base/random.h"
#include "services/agent/data_plane/receiver.h"
#include "services/agent/data_plane/shipper.h"
#include "services/agent/replica_store/replica_store.h"
#include "services/agent/view/views.h"

namespace farside {
namespace {

using replica::kBlockBytes;

constexpr int kRounds = 5;
constexpr std::uint64_t kDeltaBlocks = 64;
constexpr const char* kItem = "bench";

// Every block has been written so many times; its bytes follow from that.
struct Disk {
  std::uint64_t bytes = 0;
  std::map<std::uint64_t, std::uint64_t> written{};  // More than once.
};

class MadeUpDisk final : public agent::FrozenDisk {
 public:
  MadeUpDisk(const Disk& disk, std::optional<std::vector<std::uint64_t>> changed)
      : disk_(disk), changed_(std::move(changed)) {}

  const std::string& name() const override { return name_; }
  const std::string& id() const override { return id_; }
  std::uint64_t bytes() const override { return disk_.bytes; }
  Result<std::vector<agent::Extent>> changes() override {
    if (!changed_) return allocated();
    std::vector<agent::Extent> out;
    for (const std::uint64_t block : *changed_) {
      out.push_back({.offset = block * kBlockBytes, .length = kBlockBytes, .zero = false});
    }
    return out;
  }
  Result<std::vector<agent::Extent>> allocated() override {
    return std::vector<agent::Extent>{{.offset = 0, .length = disk_.bytes, .zero = false}};
  }
  Status read_async(std::uint64_t offset, std::uint64_t length, char* to, Done done) override {
    reads_.push_back([this, offset, length, to, done = std::move(done)] {
      for (std::uint64_t at = 0; at < length; at += kBlockBytes) {
        const std::uint64_t block = (offset + at) / kBlockBytes;
        const auto times = disk_.written.find(block);
        SeededRandom random(block * 1000 + (times == disk_.written.end() ? 0 : times->second));
        for (std::uint64_t i = 0; i < kBlockBytes; i += 8) {
          const std::uint64_t value = random.next();
          std::memcpy(to + at + i, &value, sizeof value);
        }
      }
      done({});
    });
    return {};
  }
  Status poll(int /*timeout_ms*/) override {
    for (const auto& read : std::exchange(reads_, {})) read();
    return {};
  }

 private:
  const Disk& disk_;
  std::optional<std::vector<std::uint64_t>> changed_;
  std::string name_ = "vda";
  std::string id_ = "serial:bench";
  std::deque<std::function<void()>> reads_;
};

class MadeUpPoint final : public agent::Point {
 public:
  explicit MadeUpPoint(std::unique_ptr<agent::FrozenDisk> disk) {
    disks_.push_back(std::move(disk));
  }
  std::int64_t captured_at_micros() const override { return 1; }
  bool is_app_consistent() const override { return false; }
  const std::vector<std::unique_ptr<agent::FrozenDisk>>& disks() override { return disks_; }
  const msg::VmDefinition& definition() const override { return definition_; }
  bool is_lost() override { return false; }
  Status close() override { return {}; }
  Status abandon() override { return {}; }

 private:
  std::vector<std::unique_ptr<agent::FrozenDisk>> disks_;
  msg::VmDefinition definition_;
};

class Bench final {
 public:
  Bench(const std::string& folder, std::uint64_t bytes) : folder_(folder), disk_{.bytes = bytes} {}

  // The initial replication, and one look at all bytes of the replica.
  Status prepare() {
    FARSIDE_ASSIGN(store_,
                   replica::ReplicaStore::open(folder_ + "/replicas",
                                               {.make_hash_key = replica::BlockHash::make_key}));
    FARSIDE_ASSIGN(receiver_,
                   data::Receiver::start({.endpoint = "tcp://127.0.0.1:*",
                                          .keys = target_,
                                          .open_item =
                                              [this](const std::string& item,
                                                     const std::vector<msg::ReplicaDisk>& disks) {
                                                return store_->create(item, disks);
                                              },
                                          .on_durable = {}},
                                         clock_));
    FARSIDE_TRY(receiver_->allow(kItem, source_.public_key, 1));
    FARSIDE_ASSIGN(const auto first, delta(std::nullopt));
    FARSIDE_ASSIGN(const auto item, store_->find(kItem));
    const auto began = now();
    FARSIDE_TRY(check(item->verify(first.seq, nobody), first.digest));
    whole = now() - began;
    verified_ = first.seq;
    return {};
  }

  // What a failover does after the VM has been shut down; what comes before is not counted.
  Status round() {
    FARSIDE_ASSIGN(const auto item, store_->find(kItem));
    FARSIDE_ASSIGN(const auto again, delta(write()));
    FARSIDE_TRY(check(item->verify_since(verified_, again.seq, nobody), again.digest));
    const auto changed = write();

    const auto down = now();
    FARSIDE_ASSIGN(const auto last, delta(changed));
    const auto sent = now();
    FARSIDE_TRY(check(item->verify_since(again.seq, last.seq, nobody), last.digest));
    const auto looked_at = now();
    FARSIDE_TRY(item->raise_epoch(1));
    FARSIDE_TRY(views_.open(*item, "failover", last.seq));
    const auto viewed = now();
    // What a platform without views writes into the VM's own disk.
    FARSIDE_TRY(item->for_each_above_base(0, last.seq, [](auto, auto, auto) { return Status(); }));
    const auto up = now();

    seconds.push_back(up - down);
    parts = fmt::format("[{:.3f},{:.3f},{:.3f},{:.3f}]", sent - down, looked_at - sent,
                        viewed - looked_at, up - viewed);
    FARSIDE_TRY(views_.close(*item, "failover"));
    verified_ = last.seq;
    return {};
  }

  std::vector<double> seconds;
  std::string parts;  // Of the last round: last delta, look at it, view, delta.
  double whole = 0;

 private:
  struct Told {
    std::uint64_t seq = 0;
    std::string digest;
  };

  static Status nobody(std::uint64_t /*done*/, std::uint64_t /*total*/) { return {}; }
  static Status check(const Result<std::string>& found, const std::string& digest) {
    if (!found) return fail(found.error());
    if (*found == digest) return {};
    return fail(ErrorCode::kCorrupt, "the digests differ");
  }
  double now() const { return static_cast<double>(clock_.monotonic().count()) / 1e6; }

  std::vector<std::uint64_t> write() {
    std::vector<std::uint64_t> blocks;
    for (std::uint64_t i = 0; i < kDeltaBlocks; ++i) {
      blocks.push_back(random_.below(disk_.bytes / kBlockBytes));
      ++disk_.written[blocks.back()];
    }
    std::ranges::sort(blocks);
    const auto twice = std::ranges::unique(blocks);
    blocks.erase(twice.begin(), twice.end());
    return blocks;
  }

  Result<Told> delta(std::optional<std::vector<std::uint64_t>> changed) {
    const bool is_first = !changed;
    MadeUpPoint point(std::make_unique<MadeUpDisk>(disk_, std::move(changed)));
    const std::string attempt = "p" + std::to_string(++points_);
    FARSIDE_ASSIGN(const auto shipped,
                   shipper_.ship(point, {.item = kItem,
                                         .epoch = 1,
                                         .endpoint = receiver_->endpoint(),
                                         .target_key = target_.public_key,
                                         .keys = source_,
                                         .attempt = attempt,
                                         .since = is_first ? "" : token_,
                                         .mode = is_first ? data::ShipMode::kEverything
                                                          : data::ShipMode::kChanged}));
    token_ = attempt;
    FARSIDE_ASSIGN(auto digest, shipper_.digest(kItem, point,
                                                {.attempt = attempt,
                                                 .hash_key = shipped.hash_key,
                                                 .reads = shipped.delta_blocks}));
    return Told{.seq = shipped.point.seq, .digest = std::move(digest)};
  }

  std::string folder_;
  Disk disk_;
  SystemClock clock_;
  SystemRandom ids_;
  SeededRandom random_{1};
  bus::CurveKeys source_ = bus::generate_keys().value();
  bus::CurveKeys target_ = bus::generate_keys().value();
  std::unique_ptr<replica::ReplicaStore> store_;
  std::unique_ptr<data::Receiver> receiver_;
  data::Shipper shipper_{folder_ + "/source", ids_};
  replica::Views views_{folder_ + "/run", ""};
  std::string token_;
  int points_ = 0;
  std::uint64_t verified_ = 0;
};

// Round after round with all sizes in turn: what else the machine does then meets all alike.
int run(const std::string& folder, const std::vector<std::uint64_t>& sizes) {
  std::vector<std::unique_ptr<Bench>> benches;
  Status done;
  for (const std::uint64_t mib : sizes) {
    benches.push_back(std::make_unique<Bench>(folder + "/" + std::to_string(mib), mib << 20U));
    if (done) done = benches.back()->prepare();
  }
  for (int round = 0; round < kRounds && done; ++round) {
    for (const auto& bench : benches) {
      if (done) done = bench->round();
    }
  }
  if (!done) {
    fmt::print(stderr, "downtime_bench: {}\n", to_text(done.error()));
    return 1;
  }
  std::vector<double> medians;
  std::vector<double> wholes;
  std::vector<std::string> parts;
  for (const auto& bench : benches) {
    std::ranges::sort(bench->seconds);
    medians.push_back(bench->seconds[kRounds / 2]);
    wholes.push_back(bench->whole);
    parts.push_back(bench->parts);
  }
  std::vector<double> ratios;
  for (const double median : medians) ratios.push_back(median / medians.front());
  fmt::print(
      "{{\"bench\":\"downtime\",\"mebibytes\":[{}],\"deltaBlocks\":{},\"rounds\":{},"
      "\"secondsP50\":[{:.3f}],\"vsSmallest\":[{:.2f}],\"deltaVerifyViewSeconds\":[{}],"
      "\"wholeVerificationSeconds\":[{:.3f}]}}\n",
      fmt::join(sizes, ","), kDeltaBlocks, kRounds, fmt::join(medians, ","), fmt::join(ratios, ","),
      fmt::join(parts, ","), fmt::join(wholes, ","));
  return 0;
}

}  // namespace
}  // namespace farside

int main(int argc, char** argv) {
  if (argc < 2) {
    fmt::print(stderr, "usage: downtime_bench FOLDER [MiB]...\n");
    return 2;
  }
  std::vector<std::uint64_t> sizes;
  for (int i = 2; i < argc; ++i) sizes.push_back(std::strtoull(argv[i], nullptr, 10));
  if (sizes.empty()) sizes = {100, 4096, 16384};
  return farside::run(argv[1], sizes);
}
