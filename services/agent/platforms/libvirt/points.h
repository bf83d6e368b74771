// Points of the VMs of this host, their tokens, and the end of what is left of them.
//
// A token is a checkpoint of ours (a VM that ran), or a record in a file (one that was off).
//
// Owns: state_dir/{quiesced,forgotten,off}.  Thread: any; one at a time per VM.
#pragma once

#include <memory>
#include <string>

#include "services/agent/platforms/libvirt/backup_point.h"
#include "services/agent/platforms/libvirt/off_point.h"

namespace farside::agent::libvirt {

class Points {
 public:
  struct Where {
    std::string state_dir;
    std::string scratch_dir;
    std::string own_folder;  // See Options.
    std::uint64_t reserve_bytes = 0;
  };
  // `session` and `clock` outlive it.  Errors: kIo.
  static Result<std::unique_ptr<Points>> open(const Where& where, Session& session,
                                              const Clock& clock);

  // Before create(): ends what is left on the VM.  Errors: what could not be ended, and why.
  Status prepare(const std::string& vm_id, const Leftovers::CleanUp& clean_up);

  // Errors: see Platform::create_point.
  Result<std::unique_ptr<Point>> create(virDomainPtr domain, const DomainShape& shape,
                                        const PointRequest& request, const Networks& networks);

  // Drops all tokens.  Checkpoints of a VM that is off are dropped once it runs, and mean nothing
  // until then.
  Status forget(const std::string& vm_id);

  // Ends what a crash left on a VM.  Another tool's work is left alone.
  Status clean_up(virDomainPtr domain);

  // Files that belong to no VM.
  void remove_stray_files();

  // Called often: tries again to end what could not be ended so far.
  void sweep(const Leftovers::CleanUp& clean_up);

  Leftovers& leftovers() { return place_.leftovers; }
  void end_backup(virDomainPtr domain);

 private:
  Points(const Where& where, Session& session, const Clock& clock, Marks quiesced,
         OffTokens off_tokens, Marks forgotten)
      : place_{.session = session,
               .clock = clock,
               .scratch_dir = where.scratch_dir,
               .own_folder = where.own_folder,
               .reserve_bytes = where.reserve_bytes,
               .quiesced = std::move(quiesced),
               .off_tokens = std::move(off_tokens)},
        forgotten_(std::move(forgotten)) {}
  Result<std::unique_ptr<Point>> of_running(virDomainPtr domain, const DomainShape& shape,
                                            const PointRequest& request, const Networks& networks);
  Result<OffPoint::Since> resolve(virDomainPtr domain, const PointRequest& request);
  void remove_strays_in(const std::string& folder);
  Status check_disks(const OffToken& token, const DomainShape& shape);

  BackupPlace place_;
  Marks forgotten_;  // VMs whose checkpoints are to be dropped.
};

}  // namespace farside::agent::libvirt
