// durability-subject WHAT FOLDER SEED: works in FOLDER as the product does, and tells on its
// standard output of everything that is acknowledged, one line each, until something fails.
//
//   item    deltas, points that are dropped, folded, pinned
//   target  a data port; tells its endpoint and keys, ends with its standard input
//   store   commits to a store of records
//   files   files that are replaced, folders that are made, marks of the platforms
#include <unistd.h>

#include <algorithm>
#include <cstdio>
#include <filesystem>
#include <string>

#include "common/base/clock.h"
#include "common/base/file.h"
#include "common/store/format_version.h"
#include "common/store/rocks_store.h"
#include "services/agent/data_plane/pending_map.h"
#include "services/agent/data_plane/receiver.h"
#include "services/agent/platforms/libvirt/off_tokens.h"
#include "services/agent/platforms/libvirt/overlay.h"
#include "services/agent/platforms/libvirt/qemu_folder.h"
#include "services/agent/platforms/marks.h"
#include "services/agent/replica_store/definition.h"
#include "services/agent/replica_store/replica_store.h"
#include "tests/integration/durability/history.h"

namespace farside::durability {
namespace {

constexpr std::uint64_t kStepsMax = 400;

void say(const std::string& line) {
  const std::string text = line + "\n";
  if (::write(STDOUT_FILENO, text.data(), text.size()) < 0) ::_exit(3);
}

std::string list(const std::vector<std::uint64_t>& numbers) {
  std::string out;
  for (const std::uint64_t each : numbers) out += " " + std::to_string(each);
  return out;
}

// ---- item

class Replicating {
 public:
  Replicating(replica::Item& item, std::uint64_t seed)
      : item_(item), seed_(seed), random_(seed ^ static_cast<std::uint64_t>(::getpid())) {}

  Status step() {
    switch (random_.below(10)) {
      case 0:
        return drop();
      case 1:
        return pin();
      case 2:
      case 3: {
        FARSIDE_ASSIGN(const bool more, item_.consolidate(1 + random_.below(4)));
        (void)more;
        return {};
      }
      default:
        return delta();
    }
  }

 private:
  Status delta() {
    const std::uint64_t newest = item_.newest().seq;
    const std::uint64_t number = newest + 1;  // No delta without its point.
    FARSIDE_ASSIGN(const auto packed, replica::pack_definition(definition(seed_, number)));
    if (!item_.has_definition(packed.digest)) {
      FARSIDE_TRY(item_.keep_definition(packed.digest, packed.packed));
    }
    const std::string cycle = "cycle-" + std::to_string(number);
    FARSIDE_TRY(item_.begin_delta({.cycle = cycle, .epoch = 1, .definition = packed.digest}));
    std::uint64_t blocks = 0;
    for (std::uint16_t disk = 0; disk < disks().size(); ++disk) {
      FARSIDE_ASSIGN(const auto there, item_.staged(disk));
      for (const auto& [block, plain] : durability::delta(seed_, number, disk)) {
        ++blocks;
        if (there.has(block)) continue;
        replica::Writes writes;
        writes.add(disk, block, plain);
        FARSIDE_TRY(item_.append(writes.list()));
      }
    }
    FARSIDE_ASSIGN(const auto point,
                   item_.commit_delta({.captured_at = static_cast<std::int64_t>(number),
                                       .arrived_at = static_cast<std::int64_t>(number),
                                       .attempt = cycle,
                                       .epoch = 1,
                                       .blocks = blocks}));
    say("point " + std::to_string(point.seq));
    return {};
  }

  Status drop() {
    std::vector<std::uint64_t> old;
    const auto pins = item_.pins();
    for (const auto& point : item_.points()) {
      const bool is_pinned =
          std::ranges::any_of(pins, [&](const auto& pin) { return pin.second == point.seq; });
      if (point.seq != item_.newest().seq && !is_pinned && random_.chance(0.4)) {
        old.push_back(point.seq);
      }
    }
    if (old.empty()) return {};
    say("dropping" + list(old));
    return item_.drop_points(old);
  }

  Status pin() {
    const auto pins = item_.pins();
    if (!pins.empty() && random_.chance(0.6)) {
      say("unpinning " + pins.begin()->first);
      return item_.unpin(pins.begin()->first);
    }
    const auto points = item_.points();
    if (points.empty() || pins.size() > 2) return {};
    const std::uint64_t seq = points[random_.below(points.size())].seq;
    const std::string view = "v" + std::to_string(random_.below(1'000'000));
    FARSIDE_TRY(item_.pin(view, seq));
    say("pinned " + view + " " + std::to_string(seq));
    return {};
  }

  replica::Item& item_;
  const std::uint64_t seed_;
  SeededRandom random_;
};

Status run_item(const std::string& folder, std::uint64_t seed) {
  FARSIDE_ASSIGN(const auto store, replica::ReplicaStore::open(folder + "/replicas", limits()));
  FARSIDE_ASSIGN(const auto item, store->create("web", disks()));
  say("created");
  Replicating replicating(*item, seed);
  for (std::uint64_t step = 0; step < kStepsMax; ++step) FARSIDE_TRY(replicating.step());
  return {};
}

// ---- target

Status run_target(const std::string& folder) {
  FARSIDE_ASSIGN(const auto keys, bus::generate_keys());
  FARSIDE_ASSIGN(auto store, replica::ReplicaStore::open(folder + "/replicas", limits()));
  SystemClock clock;
  FARSIDE_ASSIGN(const auto receiver,
                 data::Receiver::start({.endpoint = "tcp://127.0.0.1:*",
                                        .keys = keys,
                                        .open_item =
                                            [&](const std::string& item,
                                                const std::vector<msg::ReplicaDisk>& wanted) {
                                              return store->create(item, wanted);
                                            },
                                        .on_durable = {}},
                                       clock));
  say("endpoint " + receiver->endpoint() + " " + keys.public_key);
  char line[256];
  while (std::fgets(line, sizeof line, stdin) != nullptr) {
    const std::string source(line, std::string_view(line).find('\n'));
    FARSIDE_TRY(receiver->allow("web", source, 1));
    say("allowed");
  }
  return {};
}

// ---- store

Status run_store(const std::string& folder, std::uint64_t seed) {
  const std::string path = folder + "/data/state";
  FARSIDE_TRY(store::claim_folder(path, {.kind = "durability", .version = 1}));
  FARSIDE_ASSIGN(auto store, store::RocksStore::open(path));
  FARSIDE_ASSIGN(const auto last, store->get("last", "last"));
  std::uint64_t number = last ? std::stoull(*last) : 0;
  for (std::uint64_t step = 0; step < kStepsMax; ++step) {
    ++number;
    store::Batch batch;
    batch.put("record", std::to_string(number), value(seed, number));
    if (number > 20) batch.erase("record", std::to_string(number - 20));
    batch.put("last", "last", std::to_string(number));
    FARSIDE_TRY(store->commit(batch));
    say("commit " + std::to_string(number));
  }
  return {};
}

// ---- files

Status make_overlay(const std::string& folder, std::uint64_t number) {
  const std::string place = folder + "/vms/" + std::to_string(number % 5);
  const std::string path = place + "/vda.qcow2";
  FARSIDE_TRY(agent::libvirt::make_qemu_folder(place, std::nullopt));
  FARSIDE_TRY(agent::libvirt::create_overlay({.name = "vda",
                                              .bytes = 1U << 20U,
                                              .overlay_path = path,
                                              .nbd_socket = folder + "/view",
                                              .nbd_export = "view"}));
  say("overlay " + path);
  return {};
}

Status run_files(const std::string& folder, std::uint64_t seed) {
  FARSIDE_ASSIGN(const auto marks, agent::Marks::open(folder + "/platform/fenced"));
  FARSIDE_ASSIGN(const auto tokens, agent::libvirt::OffTokens::open(folder + "/platform/off"));
  FARSIDE_ASSIGN(const auto keys, bus::load_or_create_keys(folder + "/identity.key"));
  say("identity " + keys.public_key);
  SeededRandom random(seed ^ static_cast<std::uint64_t>(::getpid()));
  std::uint64_t number = 0;
  if (const auto last = read_file(folder + "/last")) number = std::stoull(*last);
  for (std::uint64_t step = 0; step < kStepsMax; ++step) {
    const std::string name = std::to_string(++number);
    FARSIDE_TRY(replace_file(folder + "/last", name));
    say("last " + name);
    const std::string deep = folder + "/deep/" + std::to_string(number % 7) + "/" + name;
    FARSIDE_TRY(make_folders(deep));
    FARSIDE_TRY(replace_file(deep + "/file", value(seed, number)));
    say("file " + deep + "/file " + name);
    FARSIDE_TRY(marks.add(name));
    say("mark " + name);
    if (number > 3) {
      say("unmarking " + std::to_string(number - 3));
      FARSIDE_TRY(marks.remove(std::to_string(number - 3)));
      say("unmarked " + std::to_string(number - 3));
    }
    FARSIDE_TRY(tokens.replace_all("vm", {.token = name, .base = "base", .disks = {}}));
    say("token " + name);
    FARSIDE_TRY(data::PendingMap(folder + "/pending/web").save(data::finished("cycle", name, 1)));
    say("pending " + name);
    if (random.chance(0.1)) FARSIDE_TRY(make_overlay(folder, number));
  }
  return {};
}

Status run(const std::string& what, const std::string& folder, std::uint64_t seed) {
  if (what == "item") return run_item(folder, seed);
  if (what == "target") return run_target(folder);
  if (what == "store") return run_store(folder, seed);
  if (what == "files") return run_files(folder, seed);
  return fail(ErrorCode::kInvalidArgument, "no such subject");
}

}  // namespace
}  // namespace farside::durability

int main(int argc, char** argv) {
  if (argc != 4) return 2;
  const auto done = farside::durability::run(argv[1], argv[2], std::stoull(argv[3]));
  farside::durability::say(done ? "done" : "failed " + farside::to_text(done.error()));
  ::_exit(0);  // What is still in memory is not written: the power is off, or will be.
}
