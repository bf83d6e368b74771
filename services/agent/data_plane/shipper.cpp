#include "services/agent/data_plane/shipper.h"

#include <algorithm>
#include <utility>

#include "common/base/log.h"
#include "services/agent/data_plane/shipment.h"
#include "services/agent/replica_store/block.h"
#include "services/agent/replica_store/digest.h"

namespace farside::data {
namespace {

using replica::blocks_of;
using replica::kBlockBytes;

// The blocks that the extents touch; `only_data` leaves out those that read as zeros.
BlockSet touched(const std::vector<agent::Extent>& extents, std::uint64_t bytes, bool only_data) {
  BlockSet out(blocks_of(bytes));
  for (const agent::Extent& extent : extents) {
    if (extent.length == 0 || (only_data && extent.zero)) continue;
    out.add_range(extent.offset / kBlockBytes,
                  (extent.offset + extent.length - 1) / kBlockBytes + 1);
  }
  return out;
}

struct Plan {
  std::vector<PendingDisk> changed;  // Blocks that changed since `since`, or all allocated ones.
  std::vector<BlockSet> data;        // Blocks that may hold anything but zeros.
};

Result<Plan> plan_of(agent::Point& point, bool whole) {
  Plan plan;
  for (const auto& disk : point.disks()) {
    FARSIDE_ASSIGN(const std::vector<agent::Extent> changes, disk->changes());
    plan.changed.push_back({.name = disk->name(),
                            .id = disk->id(),
                            .bytes = disk->bytes(),
                            .needed = touched(changes, disk->bytes(), false)});
    if (!whole) {
      // A block that only partly changed to zeros still has its other bytes: it must be read
      // unless all that we know of it are zeros that cover it.
      BlockSet data = plan.changed.back().needed;
      for (const agent::Extent& extent : changes) {
        if (!extent.zero) continue;
        const std::uint64_t first = (extent.offset + kBlockBytes - 1) / kBlockBytes;
        const std::uint64_t end_byte = extent.offset + extent.length;
        const std::uint64_t end =
            end_byte == disk->bytes() ? blocks_of(end_byte) : end_byte / kBlockBytes;
        for (std::uint64_t block = first; block < end; ++block) data.remove(block);
      }
      plan.data.push_back(std::move(data));
      continue;
    }
    FARSIDE_ASSIGN(const std::vector<agent::Extent> allocated, disk->allocated());
    plan.data.push_back(touched(allocated, disk->bytes(), true));
  }
  return plan;
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

Result<Shipped> Shipper::ship(agent::Point& point, const ShipRequest& request,
                              const std::function<void(const Progress&)>& on_progress) {
  const PendingMap map = map_of(request.item);
  FARSIDE_ASSIGN(Pending pending, map.load());
  const bool resumes = request.mode != ShipMode::kResync && pending.is_unfinished() &&
                       pending.epoch == request.epoch && !request.since.empty() &&
                       pending.attempt == request.since;
  bool compare = request.mode == ShipMode::kResync;
  const std::string last_attempt = resumes ? pending.attempt : std::string();
  FARSIDE_ASSIGN(Plan plan, plan_of(point, resumes || compare));

  std::string cycle = random_.uuid();
  if (compare) {
    FARSIDE_TRY(map.clear());  // Hashes tell more than it does.
  } else {
    pending =
        resumes ? next_attempt(std::move(pending), request.attempt, plan.changed)
                : first_attempt(cycle, request.attempt, request.since, request.epoch, plan.changed);
    cycle = pending.cycle;
    FARSIDE_TRY(map.save(pending));
  }

  FARSIDE_ASSIGN(Channel channel, Channel::open(context_, {.endpoint = request.endpoint,
                                                           .target_key = request.target_key,
                                                           .keys = request.keys,
                                                           .silent_s = request.silent_s}));
  PackPool pool(pack_threads_);
  Shipment shipment(point, request, channel, pool, on_progress);
  FARSIDE_ASSIGN(msg::DeltaOpened opened, shipment.open(cycle, compare));

  if (resumes && opened.newest_attempt == last_attempt) {
    // The last attempt did become a point; only its acknowledgement was lost.
    pending =
        first_attempt(random_.uuid(), request.attempt, request.since, request.epoch, plan.changed);
    cycle = pending.cycle;
    FARSIDE_TRY(map.save(pending));
    FARSIDE_ASSIGN(opened, shipment.open(cycle, false));
  }
  const bool fresh_copy = request.mode == ShipMode::kEverything && request.since.empty();
  if (fresh_copy && opened.newest.seq != 0) {
    // There is an older copy, so that what is not allocated here may be there.
    compare = true;
    FARSIDE_TRY(map.clear());
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
  FARSIDE_ASSIGN(const Shipped shipped, shipment.finish(total));
  // Kept until the next delta begins: whoever learns of this success may die before it is noted.
  FARSIDE_TRY(map.save(finished(cycle, request.attempt, request.epoch)));
  return shipped;
}

Result<std::string> digest_of(agent::Point& point, std::stop_token stop,
                              const std::function<void(const Progress&)>& on_progress) {
  const auto& disks = point.disks();
  std::vector<std::vector<std::uint64_t>> hashes;
  std::vector<BlockSet> data;
  for (const auto& disk : disks) {
    const std::uint64_t blocks = blocks_of(disk->bytes());
    hashes.emplace_back(blocks, replica::zero_hash());
    FARSIDE_ASSIGN(const std::vector<agent::Extent> allocated, disk->allocated());
    data.push_back(touched(allocated, disk->bytes(), true));
  }
  Progress progress;
  for (const auto& blocks : data) progress.total += blocks.count() * kBlockBytes;
  // XXH3 outruns any disk: this thread is enough.
  BlockReader reader(point, data);
  while (!reader.is_done()) {
    if (stop.stop_requested()) return fail(ErrorCode::kCancelled, "the digest was stopped");
    FARSIDE_TRY(reader.advance(8, 20));
    while (const auto chunk = reader.take()) {
      progress.done += chunk->bytes.size();
      if (on_progress) on_progress(progress);
      for (std::size_t at = 0; at < chunk->bytes.size(); at += kBlockBytes) {
        hashes[chunk->disk][chunk->first + at / kBlockBytes] =
            replica::hash_of(std::string_view(chunk->bytes).substr(at, kBlockBytes));
      }
    }
  }
  std::vector<std::size_t> order(disks.size());
  for (std::size_t i = 0; i < order.size(); ++i) order[i] = i;
  std::ranges::sort(order, {}, [&](std::size_t i) { return disks[i]->name(); });
  replica::Digest digest;
  for (const std::size_t i : order) {
    digest.begin_disk(disks[i]->name(), disks[i]->bytes());
    for (const std::uint64_t hash : hashes[i]) digest.add(hash);
  }
  return digest.finish();
}

}  // namespace farside::data
