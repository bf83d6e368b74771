#include "services/agent/platforms/libvirt/domain_jobs.h"

#include <fmt/core.h>
#include <libvirt/virterror.h>

#include <array>
#include <chrono>

#include "services/agent/platforms/deadline.h"
#include "services/agent/platforms/libvirt/image_file.h"
#include "services/agent/platforms/libvirt/prerequisites.h"

namespace farside::agent::libvirt {
namespace {

constexpr std::chrono::seconds kEndMax(45);  // libvirt may stand for 30 s: see starting_guests.h.
constexpr std::chrono::seconds kAbortEvery(4);
constexpr const char* kWait = "wait until it ends; replication goes on by itself";

struct JobStats {
  int type = VIR_DOMAIN_JOB_NONE;
  int operation = VIR_DOMAIN_JOB_OPERATION_UNKNOWN;
};

Result<JobStats> job_stats(virDomainPtr domain) {
  JobStats stats;
  virTypedParameterPtr parameters = nullptr;
  int count = 0;
  if (virDomainGetJobStats(domain, &stats.type, &parameters, &count, 0) != 0) {
    auto error = libvirt_error(fmt::format("jobs of VM '{}'", name_of(domain)));
    if (error.error().code == ErrorCode::kBusy) return error;
    const auto active = is_active(domain);
    if (active && !*active) return JobStats{};
    // See half_begun.h, which mends it where the driver is ours.
    if (error.error().what.contains("backup job data missing")) {
      error.error().advice =
          "libvirt lost its record of a backup job when its daemon was killed: power the VM off "
          "and "
          "on, or stop the daemon, write async='none' into <job> of /run/libvirt/qemu/" +
          name_of(domain) + ".xml, and start it";
    }
    return error;
  }
  virTypedParamsGetInt(parameters, count, VIR_DOMAIN_JOB_OPERATION, &stats.operation);
  virTypedParamsFree(parameters, count);
  return stats;
}

bool is_under_way(const JobStats& stats) {
  return stats.type == VIR_DOMAIN_JOB_BOUNDED || stats.type == VIR_DOMAIN_JOB_UNBOUNDED;
}

const char* text_of(int operation) {
  switch (operation) {
    case VIR_DOMAIN_JOB_OPERATION_START:
      return "start";
    case VIR_DOMAIN_JOB_OPERATION_SAVE:
      return "save";
    case VIR_DOMAIN_JOB_OPERATION_RESTORE:
      return "restore";
    case VIR_DOMAIN_JOB_OPERATION_MIGRATION_IN:
      return "incoming migration";
    case VIR_DOMAIN_JOB_OPERATION_MIGRATION_OUT:
      return "migration";
    case VIR_DOMAIN_JOB_OPERATION_SNAPSHOT:
      return "snapshot";
    case VIR_DOMAIN_JOB_OPERATION_SNAPSHOT_REVERT:
      return "return to a snapshot";
    case VIR_DOMAIN_JOB_OPERATION_DUMP:
      return "memory dump";
    case VIR_DOMAIN_JOB_OPERATION_BACKUP:
      return "backup";
    default:
      return "job";
  }
}

const char* text_of_block_job(int type) {
  switch (type) {
    case VIR_DOMAIN_BLOCK_JOB_TYPE_PULL:
      return "block pull";
    case VIR_DOMAIN_BLOCK_JOB_TYPE_COPY:
      return "block copy";
    case VIR_DOMAIN_BLOCK_JOB_TYPE_COMMIT:
    case VIR_DOMAIN_BLOCK_JOB_TYPE_ACTIVE_COMMIT:
      return "block commit";
    case VIR_DOMAIN_BLOCK_JOB_TYPE_BACKUP:
      return "backup";
    default:
      return "block job";
  }
}

}  // namespace

std::string uuid_of(virDomainPtr domain) {
  std::array<char, VIR_UUID_STRING_BUFLEN> uuid{};
  virDomainGetUUIDString(domain, uuid.data());
  return uuid.data();
}

std::string name_of(virDomainPtr domain) {
  const char* name = virDomainGetName(domain);
  return name == nullptr ? "?" : name;
}

Result<bool> is_active(virDomainPtr domain) {
  const int active = virDomainIsActive(domain);
  if (active >= 0) return active == 1;
  return libvirt_error(fmt::format("state of VM '{}'", name_of(domain)));
}

int run_of(virDomainPtr domain) {
  // The handle knows the number that it was made with.
  const DomainHandle now(
      virDomainLookupByUUIDString(virDomainGetConnect(domain), uuid_of(domain).c_str()));
  return now ? static_cast<int>(virDomainGetID(now.get())) : -1;
}

Result<bool> has_backup_of_ours(virDomainPtr domain, const std::string& scratch_dir) {
  char* text = virDomainBackupGetXMLDesc(domain, 0);
  if (text == nullptr) {
    if (libvirt_error_number() == VIR_ERR_NO_DOMAIN_BACKUP) return false;
    auto error = libvirt_error(fmt::format("backup job of VM '{}'", name_of(domain)));
    const auto active = is_active(domain);
    if (active && !*active) return false;
    return error;
  }
  // The files of its job are named by the VM.
  if (take_text(text).contains(scratch_dir + "/" + uuid_of(domain))) return true;
  return fail(ErrorCode::kBusy,
              fmt::format("another tool's backup of VM '{}' is under way", name_of(domain)), kWait);
}

Status end_backup_of_ours(virDomainPtr domain, const std::string& scratch_dir) {
  FARSIDE_ASSIGN(bool is_ours, has_backup_of_ours(domain, scratch_dir));
  std::string words;
  // To abort takes the VM's lock, for which libvirt waits as well to note the end: it is rarely
  // asked for twice.  To look takes none.
  for (const Deadline deadline(kEndMax); is_ours && !deadline.passed();) {
    words = virDomainAbortJob(domain) == 0 ? "" : libvirt_error(", abort").error().what;
    for (const Deadline until_again(kAbortEvery); is_ours && until_again.pause();) {
      const auto again = has_backup_of_ours(domain, scratch_dir);
      // What is there now is somebody else's: ours has ended.
      if (!again && again.error().code != ErrorCode::kBusy) return fail(again.error());
      is_ours = again.value_or(false);
    }
  }
  if (!is_ours) return {};
  return fail(ErrorCode::kTimeout,
              fmt::format("libvirt has not ended the backup job of VM '{}' within {} s{}",
                          name_of(domain), kEndMax.count(), words),
              "it is tried again; should it stay for minutes, restart libvirt's daemon: guests run "
              "on, and replication goes on by itself");
}

Result<bool> has_job(virDomainPtr domain) {
  FARSIDE_ASSIGN(const JobStats stats, job_stats(domain));
  return is_under_way(stats);
}

Status refuse_snapshots(virDomainPtr domain) {
  virDomainSnapshotPtr* list = nullptr;
  const int count = virDomainListAllSnapshots(domain, &list, 0);
  if (count < 0) return libvirt_error(fmt::format("snapshots of VM '{}'", name_of(domain)));
  std::string names;
  for (int i = 0; i < count; ++i) {
    names += fmt::format("{}'{}'", i == 0 ? "" : ", ", virDomainSnapshotGetName(list[i]));
    virDomainSnapshotFree(list[i]);
  }
  std::free(list);
  if (count == 0) return {};
  return fail(
      ErrorCode::kBusy,
      fmt::format("VM '{}' has the snapshot {}, which excludes change tracking", name_of(domain),
                  names),
      fmt::format("delete it (`virsh snapshot-delete {} NAME`); replication then goes on by "
                  "itself",
                  name_of(domain)));
}

Status refuse_writers(virDomainPtr domain, const DomainShape& shape) {
  FARSIDE_ASSIGN(const bool active, is_active(domain));
  if (active) return {};
  for (const DiskShape& disk : shape.disks) {
    if (!disk.is_writable_disk || !has_writer(disk.path)) continue;
    const std::string holder = lock_holder(disk.path);
    return fail(ErrorCode::kBusy,
                fmt::format("VM '{}' is off, and {} is written to by {}", shape.vm.name, disk.path,
                            holder.empty() ? "another program" : holder),
                kWait);
  }
  return {};
}

Status refuse_jobs(virDomainPtr domain, const DomainShape& shape) {
  FARSIDE_ASSIGN(const JobStats stats, job_stats(domain));
  if (is_under_way(stats)) {
    return fail(ErrorCode::kBusy,
                fmt::format("another tool's {} of VM '{}' is under way", text_of(stats.operation),
                            shape.vm.name),
                kWait);
  }
  for (const DiskShape& disk : shape.disks) {
    if (!disk.is_writable_disk) continue;
    virDomainBlockJobInfo job{};
    const int jobs = virDomainGetBlockJobInfo(domain, disk.name.c_str(), &job, 0);
    if (jobs < 0) {
      return libvirt_error(fmt::format("jobs of disk {} of VM '{}'", disk.name, shape.vm.name));
    }
    if (jobs > 0) {
      return fail(ErrorCode::kBusy,
                  fmt::format("a {} of disk {} of VM '{}' is under way",
                              text_of_block_job(job.type), disk.name, shape.vm.name),
                  kWait);
    }
  }
  return {};
}

Status refuse_saved(virDomainPtr domain) {
  const int saved = virDomainHasManagedSaveImage(domain, 0);
  if (saved < 0) return libvirt_error(fmt::format("saved state of VM '{}'", name_of(domain)));
  if (saved == 0) return {};
  return fail(ErrorCode::kConflict,
              fmt::format("VM '{}' is saved: its memory would not go along", name_of(domain)),
              "start it, so that it can be shut down; or drop what was saved with `virsh "
              "managedsave-remove`");
}

}  // namespace farside::agent::libvirt
