// A point of a running (or started and paused) domain: libvirt's pull-mode backup job.
//
// QEMU copies each block aside before the guest overwrites it, into scratch files.  When those run
// out of room, the guest would get the I/O error; a watch therefore ends the job, and loses the
// point, while there is still some left.
#pragma once

#include <atomic>
#include <condition_variable>
#include <memory>
#include <mutex>
#include <stop_token>
#include <string>
#include <thread>
#include <vector>

#include "common/base/clock.h"
#include "services/agent/platforms/libvirt/connection.h"
#include "services/agent/platforms/libvirt/domain_xml.h"
#include "services/agent/platforms/marks.h"
#include "services/agent/platforms/platform.h"

namespace farside::agent::libvirt {

// Checkpoints of ours are called this + token.
inline constexpr const char* kCheckpointPrefix = "farside-";

struct BackupPlace {
  std::string scratch_dir;
  std::uint64_t reserve_bytes = 0;  // A point is not begun, and ended, with less free than this.
  Networks networks;                // As definitions name them.
  Marks paused;                     // Domains that were off and that we started paused.
  Marks quiesced;                   // Domains whose file systems we froze.
};

// Ends a backup job of ours that is under way, and removes its files.  None: success.
Status end_backup(virDomainPtr domain, const BackupPlace& place);

// Deletes the checkpoints of ours, except that of `token_to_keep`.  The domain must be active.
Status drop_checkpoints(virDomainPtr domain, const std::string& token_to_keep);

// Turns a domain off that was started paused; does nothing if it has begun to run since.
Status end_pause(virDomainPtr domain, const BackupPlace& place);

class BackupPoint final : public Point {
 public:
  // `place` outlives the point; the domain is active.  Errors: see Platform::create_point.
  static Result<std::unique_ptr<Point>> begin(virDomainPtr domain, const DomainShape& shape,
                                              const PointRequest& request, const BackupPlace& place,
                                              const Clock& clock);
  ~BackupPoint() override;

  std::int64_t captured_at_micros() const override { return captured_at_.micros; }
  bool is_app_consistent() const override { return is_app_consistent_; }
  const std::vector<std::unique_ptr<FrozenDisk>>& disks() override { return disks_; }
  const msg::VmDefinition& definition() const override { return definition_; }
  bool is_lost() override { return is_lost_.load(); }
  Status close() override;
  Status abandon() override;

 private:
  BackupPoint(virDomainPtr domain, std::string token, const BackupPlace& place);
  Status capture(const DomainShape& shape, const PointRequest& request, const Clock& clock);
  Status connect(const DomainShape& shape, const PointRequest& request);
  Status end(bool drop_older);
  void watch(const std::stop_token& stop);

  DomainHandle domain_;
  std::string token_;
  const BackupPlace& place_;
  Time captured_at_;
  bool is_app_consistent_ = false;
  bool is_ended_ = false;
  std::vector<std::unique_ptr<FrozenDisk>> disks_;
  msg::VmDefinition definition_;

  // Set by the watch, read by the owner.
  std::atomic<bool> is_lost_ = false;
  std::mutex mutex_;
  std::condition_variable_any woken_;
  std::jthread watch_;
};

}  // namespace farside::agent::libvirt
