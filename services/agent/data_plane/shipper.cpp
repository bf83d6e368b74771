#include "services/agent/data_plane/shipper.h"

#include <algorithm>
#include <filesystem>
#include <utility>

#include "common/base/file_name.h"
#include "common/base/log.h"
#include "services/agent/data_plane/shipment.h"
#include "services/agent/replica_store/block.h"

namespace farside::data {
namespace {

using replica::blocks_of;
using replica::kBlockBytes;

struct Plan {
  std::vector<PendingDisk> changed;  // Blocks that changed since `since`, or all allocated ones.
  std::vector<BlockSet> data;        // Of these, those that may hold anything but zeros.
};

// A block that only partly changed to zeros still has its other bytes: it must be read unless all
// that we know of it are zeros that cover it.
BlockSet data_among(const BlockSet& changed, const std::vector<agent::Extent>& changes,
                    std::uint64_t bytes) {
  BlockSet data = changed;
  for (const agent::Extent& extent : changes) {
    if (!extent.zero) continue;
    const std::uint64_t first = (extent.offset + kBlockBytes - 1) / kBlockBytes;
    const std::uint64_t end_byte = extent.offset + extent.length;
    const std::uint64_t end = end_byte == bytes ? blocks_of(end_byte) : end_byte / kBlockBytes;
    for (std::uint64_t block = first; block < end; ++block) data.remove(block);
  }
  return data;
}

Result<Plan> plan_of(agent::Point& point, bool whole) {
  Plan plan;
  for (const auto& disk : point.disks()) {
    FARSIDE_ASSIGN(const std::vector<agent::Extent> changes, disk->changes());
    plan.changed.push_back({.name = disk->name(),
                            .id = disk->id(),
                            .bytes = disk->bytes(),
                            .needed = touched(changes, disk->bytes(), false)});
    if (!whole) {
      plan.data.push_back(data_among(plan.changed.back().needed, changes, disk->bytes()));
      continue;
    }
    FARSIDE_ASSIGN(const std::vector<agent::Extent> allocated, disk->allocated());
    plan.data.push_back(touched(allocated, disk->bytes(), true));
  }
  return plan;
}

// What an earlier attempt did not bring over is read, whatever it holds: to ask for the allocation
// of whole disks costs more than the rest of a delta.
void read_what_is_left(Plan& plan, const Pending& pending) {
  for (std::size_t i = 0; i < plan.data.size(); ++i) {
    plan.data[i] |= pending.disks[i].needed - plan.changed[i].needed;
  }
}

std::vector<BlockSet> all_blocks(agent::Point& point) {
  std::vector<BlockSet> out;
  for (const auto& disk : point.disks()) {
    BlockSet all(blocks_of(disk->bytes()));
    all.add_range(0, all.size());
    out.push_back(std::move(all));
  }
  return out;
}

}  // namespace

Shipper::Shipper(std::string state_folder, Random& random, std::size_t pack_threads)
    : state_folder_(std::move(state_folder)), random_(random), pack_threads_(pack_threads) {}

PendingMap Shipper::map_of(const std::string& item) const {
  return PendingMap(state_folder_ + "/" + item + ".pending");
}

std::string Shipper::hashes_of(const std::string& item) const {
  return state_folder_ + "/" + item + ".hashes";
}

Result<Shipped> Shipper::ship(agent::Point& point, const ShipRequest& request,
                              const std::function<void(const Progress&)>& on_progress) {
  FARSIDE_TRY(check_file_name("item", request.item));
  const PendingMap map = map_of(request.item);
  FARSIDE_ASSIGN(Pending pending, map.load());
  const bool resumes = request.mode != ShipMode::kResync && pending.is_unfinished() &&
                       pending.epoch == request.epoch && !request.since.empty() &&
                       pending.attempt == request.since;
  bool compare = request.mode == ShipMode::kResync;
  const std::string last_attempt = resumes ? pending.attempt : std::string();
  FARSIDE_ASSIGN(Plan plan, plan_of(point, compare));
  KeptHashes hashes(hashes_of(request.item), point);

  std::string cycle = random_.uuid();
  if (compare) {
    hashes.begin_whole(cycle);
    FARSIDE_TRY(map.clear());  // Hashes tell more than it does.
  } else {
    pending =
        resumes ? next_attempt(std::move(pending), request.attempt, plan.changed)
                : first_attempt(cycle, request.attempt, request.since, request.epoch, plan.changed);
    cycle = pending.cycle;
    hashes.begin(pending, last_attempt, plan.changed);
    FARSIDE_TRY(map.save(pending));
    if (resumes) read_what_is_left(plan, pending);
  }

  FARSIDE_ASSIGN(Channel channel, Channel::open(context_, {.endpoint = request.endpoint,
                                                           .target_key = request.target_key,
                                                           .keys = request.keys,
                                                           .silent_s = request.silent_s}));
  PackPool pool(pack_threads_);
  Shipment shipment(point, request, channel, pool, on_progress, &hashes);
  FARSIDE_ASSIGN(msg::DeltaOpened opened, shipment.open(cycle, compare));

  if (resumes && opened.newest_attempt == last_attempt) {
    // The last attempt did become a point; only its acknowledgement was lost.
    pending =
        first_attempt(random_.uuid(), request.attempt, request.since, request.epoch, plan.changed);
    cycle = pending.cycle;
    hashes.rebase(cycle, pending.base);
    FARSIDE_TRY(map.save(pending));
    FARSIDE_ASSIGN(opened, shipment.open(cycle, false));
  }
  const bool fresh_copy = request.mode == ShipMode::kEverything && request.since.empty();
  if (fresh_copy && opened.newest.seq != 0) {
    // There is an older copy, so that what is not allocated here may be there.
    compare = true;
    FARSIDE_TRY(map.clear());
    hashes.begin_whole(cycle);
    FARSIDE_ASSIGN(plan, plan_of(point, true));
    FARSIDE_ASSIGN(opened, shipment.open(random_.uuid(), true));
  } else if (!compare && opened.newest_attempt != pending.base) {
    FARSIDE_TRY(map.clear());
    return fail(ErrorCode::kTrackingLost,
                "the replica of " + request.item + " is at point '" + opened.newest_attempt +
                    "', but the changes count from '" + pending.base + "'");
  }

  std::vector<BlockSet> staged;
  for (std::size_t i = 0; i < point.disks().size(); ++i) {
    const auto disk = static_cast<std::uint16_t>(i);
    BlockSet here(blocks_of(point.disks()[i]->bytes()));
    if (opened.staged_blocks > 0) {
      if (!compare) FARSIDE_TRY(shipment.unstage(disk, pending.disks[i].stale));
      FARSIDE_ASSIGN(here, shipment.staged(disk));
      if (!compare) {
        const BlockSet alien = here - pending.disks[i].needed;
        FARSIDE_TRY(shipment.unstage(disk, alien));
        here -= alien;
      }
    }
    staged.push_back(std::move(here));
  }
  if (!compare && opened.staged_blocks > 0) {
    for (PendingDisk& disk : pending.disks) disk.stale = BlockSet(disk.stale.size());
    FARSIDE_TRY(map.save(pending));
  }

  std::vector<BlockSet> to_send;
  if (compare) {
    to_send = all_blocks(point);
  } else {
    for (std::size_t i = 0; i < staged.size(); ++i) {
      to_send.push_back(still_to_send(pending.disks[i], staged[i]));
      if (!staged[i].empty()) shipment.shipped().resumed = true;
    }
  }
  shipment.shipped().resynced = compare;
  const Status sent = shipment.send(to_send, plan.data, compare);
  if (!sent) {
    if (sent.error().code != ErrorCode::kCancelled) shipment.drain();
    return fail(sent.error());
  }

  std::uint64_t total = 0;
  for (std::size_t i = 0; i < staged.size(); ++i) {
    total += compare ? (staged[i] | shipment.sent()[i]).count() : pending.disks[i].needed.count();
  }
  FARSIDE_ASSIGN(Shipped shipped, shipment.finish(total));
  shipped.delta_blocks = total;
  hashes.finish(request.attempt);
  // Kept until the next delta begins: whoever learns of this success may die before it is noted.
  FARSIDE_TRY(map.save(finished(cycle, request.attempt, request.epoch)));
  return shipped;
}

Result<std::string> Shipper::digest(const std::string& item, agent::Point& point,
                                    const DigestRequest& request,
                                    const std::function<void(const Progress&)>& on_progress) const {
  FARSIDE_TRY(check_file_name("item", item));
  return digest_by(hashes_of(item), point, request, on_progress);
}

Result<Pending> Shipper::pending(const std::string& item) const {
  FARSIDE_TRY(check_file_name("item", item));
  return map_of(item).load();
}

Status Shipper::forget(const std::string& item) const {
  FARSIDE_TRY(check_file_name("item", item));
  std::error_code error;
  std::filesystem::remove(hashes_of(item), error);
  if (error) return fail(from_errno(error.value(), "remove " + hashes_of(item)));
  return map_of(item).clear();
}

}  // namespace farside::data
