// A point of a domain that is off: its images are read where they lie, without a domain, and only
// if they changed since the token that is asked about.
//
// Whoever starts the VM meanwhile does so at once: nothing is held that QEMU would wait for or
// refuse to start with.  The point is lost then, which is seen from the files themselves (no
// writer, nothing about them has changed), so that no call to libvirt stands between a look and the
// truth.
#pragma once

#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "services/agent/platforms/libvirt/backup_point.h"

namespace farside::agent::libvirt {

class OffPoint final : public Point {
 public:
  // What the point's `since` means: the record of a token taken while the VM was off, if it is one,
  // and the checkpoint that counts changes since then, if there is any.
  struct Since {
    std::optional<OffToken> token;
    std::string base;
  };

  // `place` outlives the point.  Errors: see Platform::create_point; kBusy (somebody writes).
  static Result<std::unique_ptr<Point>> begin(virDomainPtr domain, const DomainShape& shape,
                                              const PointRequest& request, const Since& since,
                                              const Networks& networks, BackupPlace& place);

  std::int64_t captured_at_micros() const override { return captured_at_.micros; }
  bool is_app_consistent() const override { return false; }
  const std::vector<std::unique_ptr<FrozenDisk>>& disks() override { return disks_; }
  const msg::VmDefinition& definition() const override { return definition_; }
  bool is_lost() override;
  Error loss() override;
  Status close() override;
  Status abandon() override;

 private:
  OffPoint(std::string vm_id, std::string name, BackupPlace& place);
  Status open_disks(const DomainShape& shape, const PointRequest& request, const Since& since);

  const std::string vm_id_;
  const std::string name_;
  BackupPlace& place_;
  Time captured_at_;
  OffToken token_;  // Its own, with the state of the files at its instant.
  bool is_lost_ = false;
  bool is_ended_ = false;
  std::vector<std::unique_ptr<FrozenDisk>> disks_;
  msg::VmDefinition definition_;
};

}  // namespace farside::agent::libvirt
