// What an agent's workers do for VMs that are replicated from this host.
//
// Owns: nothing durable but the shipper's pending maps and hashes.  Thread: any worker; one cycle
// per item.
#pragma once

#include <functional>
#include <map>
#include <mutex>
#include <stop_token>
#include <string>

#include "common/base/clock.h"
#include "common/reactor/effects.h"
#include "services/agent/data_plane/shipper.h"
#include "services/agent/platforms/platform.h"

namespace farside::agent {

using Report = std::function<void(msg::Progress)>;

class SourceWork final {
 public:
  SourceWork(Platform& platform, data::Shipper& shipper, bus::CurveKeys keys, const Clock& clock,
             Report report)
      : platform_(platform),
        shipper_(shipper),
        keys_(std::move(keys)),
        clock_(clock),
        report_(std::move(report)) {}

  Result<msg::Message> run(const msg::CheckSource& order);
  Result<msg::Message> run(const msg::RunCycle& job);
  Result<msg::Message> run(const msg::CancelCycle& job);
  Result<msg::Message> run(const msg::StopReplication& order);
  Result<msg::Message> run(const msg::ShutDownSource& order);
  Result<msg::Message> run(const msg::RestartSource& order);
  Result<msg::Message> run(const msg::FenceSource& order);
  Result<msg::Message> run(const msg::UnfenceSource& order);

  void cancel_all();

 private:
  struct Plan {  // How this attempt's point is taken and shipped.
    std::string since;
    data::ShipMode mode = data::ShipMode::kChanged;
  };
  Status start_again(const std::string& vm_id);
  Result<Plan> plan(const msg::SourceItem& source);
  Result<std::unique_ptr<Point>> take_point(const msg::RunCycle& job, Plan& plan);
  Result<std::string> digest_of(
      const msg::RunCycle& job, Point& point, const data::Shipped& shipped, std::stop_token stop,
      const std::function<void(const data::Progress&)>& on_progress) const;
  Result<msg::Message> cycle(const msg::RunCycle& job, std::stop_token stop);

  Platform& platform_;
  data::Shipper& shipper_;
  bus::CurveKeys keys_;
  const Clock& clock_;
  Report report_;

  struct Running {
    std::string attempt;
    std::stop_source stop;
  };

  std::mutex mutex_;                              // Of the three below.
  std::map<std::string, Running> cycles_;         // By item.
  std::map<std::string, std::string> cancelled_;  // Item -> an attempt that must not begin.
  bool stopping_ = false;
};

}  // namespace farside::agent
