// A point of a VM on a Hyper-V host: a recovery checkpoint, whose disks are read over SMB.
#pragma once

#include <memory>
#include <vector>

#include "services/agent/platforms/hyperv/checkpoints.h"
#include "services/agent/platforms/hyperv/frozen_disk.h"
#include "services/agent/platforms/leftovers.h"
#include "services/agent/platforms/platform.h"

namespace farside::agent::hyperv {

class HypervPoint final : public Point {
 public:
  struct Place {  // Outlives the point.
    Host& host;
    Checkpoints& checkpoints;
    Shares& shares;
    Leftovers& leftovers;  // Gets what could not be ended.
    const Clock& clock;
  };
  // Errors: see Platform::create_point.
  static Result<std::unique_ptr<Point>> begin(const Place& place, const VirtualMachine& vm,
                                              const PointRequest& request);
  ~HypervPoint() override;
  HypervPoint(const HypervPoint&) = delete;
  HypervPoint& operator=(const HypervPoint&) = delete;

  std::int64_t captured_at_micros() const override { return captured_at_.micros; }
  bool is_app_consistent() const override { return checkpoint_.is_app_consistent; }
  const std::vector<std::unique_ptr<FrozenDisk>>& disks() override { return disks_; }
  const msg::VmDefinition& definition() const override { return definition_; }
  bool is_lost() override { return false; }  // Nothing but its end takes a checkpoint away.
  Status close() override { return end(/*drops_older=*/true); }
  Status abandon() override { return end(/*drops_older=*/false); }

 private:
  HypervPoint(const Place& place, Checkpoint checkpoint, Time captured_at)
      : place_(place), checkpoint_(std::move(checkpoint)), captured_at_(captured_at) {}
  Status open_disks(const msg::TrackedPoint* since);
  Status end(bool drops_older);

  Place place_;
  Checkpoint checkpoint_;
  Time captured_at_;
  bool is_ended_ = false;
  Error why_{.code = ErrorCode::kPlatform, .what = "a checkpoint was not ended", .advice = ""};
  std::vector<std::unique_ptr<FrozenDisk>> disks_;
  msg::VmDefinition definition_;
};

}  // namespace farside::agent::hyperv
