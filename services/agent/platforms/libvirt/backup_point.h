// A point of a running domain: libvirt's pull-mode backup job.
//
// QEMU copies each block aside before the guest overwrites it, into scratch files.  When those run
// out of room, the guest would get the I/O error; a watch therefore ends the job, and loses the
// point, while there is still some left.
#pragma once

#include <condition_variable>
#include <memory>
#include <mutex>
#include <optional>
#include <stop_token>
#include <string>
#include <thread>
#include <vector>

#include "common/base/clock.h"
#include "services/agent/platforms/leftovers.h"
#include "services/agent/platforms/libvirt/domain_xml.h"
#include "services/agent/platforms/libvirt/off_tokens.h"
#include "services/agent/platforms/libvirt/scratch_images.h"
#include "services/agent/platforms/libvirt/session.h"
#include "services/agent/platforms/marks.h"
#include "services/agent/platforms/platform.h"

namespace farside::agent::libvirt {

// Checkpoints of ours are called this + token.
inline constexpr const char* kCheckpointPrefix = "farside-";

// What all points of a host share.
struct BackupPlace {
  Session& session;
  const Clock& clock;
  std::string scratch_dir;
  std::string own_folder;           // See Options.
  std::uint64_t reserve_bytes = 0;  // A point is not begun, and ended, with less free than this.
  Marks quiesced;                   // Domains whose file systems we froze.
  OffTokens off_tokens;
  ScratchImages scratch{};
  Leftovers leftovers{};
};

// Where QEMU listens while a point of that VM is open: in a folder of its own, in which it may make
// files.  Where the scratch images lie it may not, or it could put something else in their place
// that libvirt then gives to it.
std::string socket_of(const std::string& vm_id, const std::string& scratch_dir);

// All that holds files of points.
std::vector<std::string> folders_of(const BackupPlace& place);

// Ends a backup job of ours that is under way, and removes its files.  None: success.  Errors:
// kBusy (another tool's is).
Status end_backup(virDomainPtr domain, const BackupPlace& place);

// Removes the files of a domain that no job of ours uses any more.
void remove_files(const std::string& vm_id, const BackupPlace& place);

// Deletes the checkpoints of ours, except that of `token_to_keep`.  The domain must be active.
Status drop_checkpoints(virDomainPtr domain, const std::string& token_to_keep);

class BackupPoint final : public Point {
 public:
  // `place` outlives the point; the domain is active.  `base` is the token of the checkpoint since
  // which changes are told, empty for everything.  Errors: see Platform::create_point.
  static Result<std::unique_ptr<Point>> begin(virDomainPtr domain, const DomainShape& shape,
                                              const PointRequest& request, const std::string& base,
                                              const Networks& networks, BackupPlace& place);
  ~BackupPoint() override;

  std::int64_t captured_at_micros() const override { return captured_at_.micros; }
  bool is_app_consistent() const override { return is_app_consistent_; }
  const std::vector<std::unique_ptr<FrozenDisk>>& disks() override { return disks_; }
  const msg::VmDefinition& definition() const override { return definition_; }
  bool is_lost() override;
  Error loss() override;
  Status close() override;
  Status abandon() override;

 private:
  BackupPoint(std::string vm_id, std::string token, BackupPlace& place);
  void explain_denial(Error& error) const;
  Status capture(virDomainPtr domain, const DomainShape& shape, const PointRequest& request,
                 const std::string& base);
  Status connect(virDomainPtr domain, const DomainShape& shape, const std::string& base,
                 const Networks& networks);
  Status end(bool drop_older);
  void watch(const std::stop_token& stop);

  // Not the domain: a point outlives the connection it began on.
  const std::string vm_id_;
  const std::string token_;
  BackupPlace& place_;
  Time captured_at_;
  bool is_app_consistent_ = false;
  bool is_ended_ = false;
  std::vector<std::unique_ptr<FrozenDisk>> disks_;
  msg::VmDefinition definition_;

  std::mutex mutex_;
  std::optional<Error> loss_;  // Set by the watch.
  std::condition_variable_any woken_;
  std::jthread watch_;
};

}  // namespace farside::agent::libvirt
