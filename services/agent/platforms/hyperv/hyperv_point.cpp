#include "services/agent/platforms/hyperv/hyperv_point.h"

#include <fmt/format.h>

#include <algorithm>

#include "common/base/log.h"

namespace farside::agent::hyperv {

Result<std::unique_ptr<Point>> HypervPoint::begin(const Place& place, const VirtualMachine& vm,
                                                  const PointRequest& request) {
  Checkpoints& checkpoints = place.checkpoints;
  FARSIDE_TRY(checkpoints.settle(request.vm_id));
  std::optional<msg::TrackedPoint> since;
  if (!request.since.empty()) {
    FARSIDE_ASSIGN(since, checkpoints.find(request.vm_id, request.since));
    if (!since) {
      return fail(
          ErrorCode::kTrackingLost,
          fmt::format("VM '{}' has no reference point of token {}", vm.vm.name, request.since));
    }
  }
  const Time before = place.clock.now();  // The disks are frozen at some instant of the call.
  auto created = checkpoints.create(vm, request.token, request.app_consistent);
  if (!created && request.app_consistent && created.error().code == ErrorCode::kPlatform) {
    // A guest without integration services, or whose applications would not hold still.
    log::info("not_app_consistent", {{"vm", request.vm_id}, {"cause", created.error()}});
    created = checkpoints.create(vm, request.token, /*app_consistent=*/false);
  }
  FARSIDE_ASSIGN(Checkpoint checkpoint, std::move(created));
  std::unique_ptr<HypervPoint> point(new HypervPoint(place, std::move(checkpoint), before));
  const Status opened = point->open_disks(since ? &*since : nullptr);
  if (opened) {
    point->definition_ = {.platform = "hyperv", .shape = vm.vm};
    for (msg::Disk& shape : point->definition_.shape.disks) {
      for (const auto& disk : point->disks_) {
        if (disk->name() != shape.name) continue;
        shape.bytes = disk->bytes();
        shape.id = disk->id();
      }
    }
    point->definition_.shape.state = msg::PowerState::unknown;
    return point;
  }
  point->disks_.clear();
  point->is_ended_ = true;
  if (const Status dropped = checkpoints.drop(point->checkpoint_); !dropped) {
    log::warn("checkpoint_not_removed", {{"vm", request.vm_id}, {"error", dropped.error()}});
    place.leftovers.add(request.vm_id, dropped.error());
  }
  return fail(opened.error());
}

Status HypervPoint::open_disks(const msg::TrackedPoint* since) {
  for (const VhdxDisk& shape : checkpoint_.disks) {
    FARSIDE_ASSIGN(auto disk, VhdxFrozenDisk::open(place_.shares, shape));
    if (since != nullptr) {
      const auto tracked =
          std::ranges::find(since->disks, disk->disk_id(), &msg::TrackedDisk::disk_id);
      if (tracked == since->disks.end()) {
        return fail(ErrorCode::kTrackingLost,
                    fmt::format("disk '{}' was not there at token {}", shape.path, since->token));
      }
      const wsman::ChangesQuestion question{
          .path = shape.path, .since = tracked->change_id, .disk_bytes = disk->bytes()};
      FARSIDE_ASSIGN(auto changes, place_.host.changed_ranges(question));
      disk->set_changes(std::move(changes));
    }
    disks_.push_back(std::move(disk));
  }
  return {};
}

Status HypervPoint::end(bool drops_older) {
  if (is_ended_) return {};
  disks_.clear();  // The files are about to be merged.
  const Status kept = place_.checkpoints.keep(checkpoint_, drops_older);
  if (!kept) {
    why_ = kept.error();
    return kept;
  }
  is_ended_ = true;
  return {};
}

HypervPoint::~HypervPoint() {
  if (is_ended_) return;
  disks_.clear();
  place_.leftovers.add(checkpoint_.vm, why_);  // Only now: nobody else is at work on it any more.
}

}  // namespace farside::agent::hyperv
