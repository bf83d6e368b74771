#include "services/agent/platforms/libvirt/backup_point.h"

#include <fmt/core.h>
#include <libvirt/libvirt-qemu.h>
#include <libvirt/virterror.h>

#include <algorithm>
#include <chrono>
#include <cstdlib>
#include <filesystem>
#include <nlohmann/json.hpp>
#include <system_error>

#include "common/base/log.h"
#include "services/agent/platforms/deadline.h"
#include "services/agent/platforms/libvirt/definition.h"
#include "services/agent/platforms/libvirt/nbd_disk.h"
#include "services/agent/platforms/libvirt/power.h"

namespace farside::agent::libvirt {
namespace {

using std::chrono::milliseconds;
using std::chrono::seconds;

constexpr milliseconds kWatchPeriod(500);
constexpr seconds kEndSeconds(20);
constexpr int kGuestAgentSeconds = 10;

std::string uuid_of(virDomainPtr domain) {
  char uuid[VIR_UUID_STRING_BUFLEN] = {};
  virDomainGetUUIDString(domain, uuid);
  return uuid;
}

std::string name_of(virDomainPtr domain) {
  const char* name = virDomainGetName(domain);
  return name == nullptr ? "?" : name;
}

// All our files of this domain begin with this.
std::string prefix_of(virDomainPtr domain, const BackupPlace& place) {
  return place.scratch_dir + "/" + uuid_of(domain);
}

void remove_files(virDomainPtr domain, const BackupPlace& place) {
  std::error_code error;
  const std::string prefix = uuid_of(domain);
  for (const auto& entry : std::filesystem::directory_iterator(place.scratch_dir, error)) {
    if (entry.path().filename().string().starts_with(prefix)) {
      std::error_code ignored;
      std::filesystem::remove(entry.path(), ignored);
    }
  }
}

std::uint64_t free_bytes(const std::string& folder) {
  std::error_code error;
  const auto space = std::filesystem::space(folder, error);
  return error ? 0 : space.available;
}

bool has_job(virDomainPtr domain) {
  virDomainJobInfo job;
  return virDomainGetJobInfo(domain, &job) == 0 && job.type != VIR_DOMAIN_JOB_NONE &&
         job.type != VIR_DOMAIN_JOB_COMPLETED;
}

// Removes bitmaps that libvirt does not want to touch any more, such as inconsistent ones.
void remove_bitmaps(virDomainPtr domain, const std::string& bitmap) {
  char* text = nullptr;
  if (virDomainQemuMonitorCommand(domain, R"({"execute":"query-named-block-nodes"})", &text, 0) !=
      0) {
    return;
  }
  const auto reply = nlohmann::json::parse(take_text(text), nullptr, /*allow_exceptions=*/false);
  if (!reply.is_object() || !reply.contains("return") || !reply["return"].is_array()) return;
  for (const auto& node : reply["return"]) {
    if (!node.is_object() || !node.contains("dirty-bitmaps")) continue;
    for (const auto& each : node["dirty-bitmaps"]) {
      if (each.value("name", "") != bitmap) continue;
      const nlohmann::json command = {
          {"execute", "block-dirty-bitmap-remove"},
          {"arguments", {{"node", node.value("node-name", "")}, {"name", bitmap}}}};
      char* answer = nullptr;
      virDomainQemuMonitorCommand(domain, command.dump().c_str(), &answer, 0);
      take_text(answer);
    }
  }
}

Status delete_checkpoint(virDomainPtr domain, virDomainCheckpointPtr checkpoint) {
  if (virDomainCheckpointDelete(checkpoint, 0) == 0) return {};
  if (libvirt_error_number() == VIR_ERR_NO_DOMAIN_CHECKPOINT) return {};
  const Error error = libvirt_error("delete it").error();
  const std::string name = virDomainCheckpointGetName(checkpoint);
  log::info("checkpoint_broken", {{"vm", name_of(domain)}, {"checkpoint", name}, {"error", error}});
  if (virDomainCheckpointDelete(checkpoint, VIR_DOMAIN_CHECKPOINT_DELETE_METADATA_ONLY) != 0) {
    return libvirt_error(fmt::format("delete checkpoint {} of VM '{}'", name, name_of(domain)));
  }
  remove_bitmaps(domain, name);
  return {};
}

// Freezes the guest's file systems for as long as it lives.
class Quiesce {
 public:
  Quiesce(virDomainPtr domain, const BackupPlace& place) : domain_(domain), place_(place) {
    const std::string id = uuid_of(domain);
    if (!place.quiesced.add(id)) return;  // Without the mark a crash would leave it frozen.
    virDomainAgentSetResponseTimeout(domain, kGuestAgentSeconds, 0);
    is_frozen_ = virDomainFSFreeze(domain, nullptr, 0, 0) >= 0;
    if (is_frozen_) return;
    log::warn("guest_not_quiesced",
              {{"vm", name_of(domain)}, {"error", libvirt_error("freeze").error()}});
    // It may have frozen and not answered in time.
    virDomainFSThaw(domain, nullptr, 0, 0);
    (void)place.quiesced.remove(id);
  }
  Quiesce(const Quiesce&) = delete;
  Quiesce& operator=(const Quiesce&) = delete;

  // True if nothing has been written by the guest's file systems in between.
  bool thaw() {
    if (!is_frozen_) return false;
    is_frozen_ = false;
    if (virDomainFSThaw(domain_, nullptr, 0, 0) < 0) {
      // Guests thaw by themselves after a while; then the point is only crash consistent.
      log::error("guest_not_thawed",
                 {{"vm", name_of(domain_)}, {"error", libvirt_error("thaw").error()}});
      return false;
    }
    (void)place_.quiesced.remove(uuid_of(domain_));
    return true;
  }

  ~Quiesce() { thaw(); }

 private:
  virDomainPtr domain_;
  const BackupPlace& place_;
  bool is_frozen_ = false;
};

}  // namespace

Status end_backup(virDomainPtr domain, const BackupPlace& place) {
  const std::string job = take_text(virDomainBackupGetXMLDesc(domain, 0));
  if (!job.empty()) {
    if (!job.contains(place.scratch_dir)) {
      return fail(ErrorCode::kConflict,
                  fmt::format("a backup of VM '{}' that is not ours is under way", name_of(domain)),
                  "wait until it ends, or abort it with `virsh domjobabort`");
    }
    const Deadline deadline(kEndSeconds);
    if (virDomainAbortJob(domain) != 0 && has_job(domain)) {
      return libvirt_error(fmt::format("end the backup job of VM '{}'", name_of(domain)));
    }
    while (!take_text(virDomainBackupGetXMLDesc(domain, 0)).empty()) {
      if (!deadline.pause()) {
        return fail(ErrorCode::kTimeout,
                    fmt::format("the backup job of VM '{}' does not end", name_of(domain)));
      }
    }
  }
  remove_files(domain, place);
  return {};
}

Status drop_checkpoints(virDomainPtr domain, const std::string& token_to_keep) {
  virDomainCheckpointPtr* list = nullptr;
  const int count = virDomainListAllCheckpoints(domain, &list, 0);
  if (count < 0) return libvirt_error(fmt::format("checkpoints of VM '{}'", name_of(domain)));
  std::vector<CheckpointHandle> checkpoints(list, list + count);
  std::free(list);
  const std::string keep = kCheckpointPrefix + token_to_keep;
  for (const CheckpointHandle& each : checkpoints) {
    const std::string name = virDomainCheckpointGetName(each.get());
    if (!name.starts_with(kCheckpointPrefix)) continue;
    if (!token_to_keep.empty() && name == keep) continue;
    FARSIDE_TRY(delete_checkpoint(domain, each.get()));
  }
  return {};
}

Status end_pause(virDomainPtr domain, const BackupPlace& place) {
  const std::string id = uuid_of(domain);
  if (!place.paused.has(id)) return {};
  int state = 0;
  if (virDomainGetState(domain, &state, nullptr, 0) == 0 && state == VIR_DOMAIN_PAUSED) {
    FARSIDE_TRY(turn_off(domain));
  }
  return place.paused.remove(id);
}

BackupPoint::BackupPoint(virDomainPtr domain, std::string token, const BackupPlace& place)
    : token_(std::move(token)), place_(place) {
  virDomainRef(domain);
  domain_.reset(domain);
}

BackupPoint::~BackupPoint() = default;

Result<std::unique_ptr<Point>> BackupPoint::begin(virDomainPtr domain, const DomainShape& shape,
                                                  const PointRequest& request,
                                                  const BackupPlace& place, const Clock& clock) {
  const std::uint64_t free = free_bytes(place.scratch_dir);
  if (free < place.reserve_bytes) {
    return fail(ErrorCode::kNoSpace,
                fmt::format("{} has {} MiB free, less than the {} MiB kept in reserve",
                            place.scratch_dir, free >> 20U, place.reserve_bytes >> 20U),
                "free space there, or set another scratch directory");
  }
  FARSIDE_TRY(end_backup(domain, place));
  // A repeated request: the checkpoint of the first attempt is merged into the one before it.
  const std::string name = kCheckpointPrefix + request.token;
  if (const CheckpointHandle same{virDomainCheckpointLookupByName(domain, name.c_str(), 0)}) {
    FARSIDE_TRY(delete_checkpoint(domain, same.get()));
  }
  std::unique_ptr<BackupPoint> point(new BackupPoint(domain, request.token, place));
  FARSIDE_TRY(point->capture(shape, request, clock));
  if (auto connected = point->connect(shape, request); !connected) {
    (void)point->abandon();
    return fail(std::move(connected).error());
  }
  point->watch_ = std::jthread([raw = point.get()](std::stop_token stop) { raw->watch(stop); });
  return point;
}

Status BackupPoint::capture(const DomainShape& shape, const PointRequest& request,
                            const Clock& clock) {
  const std::string prefix = prefix_of(domain_.get(), place_);
  const BackupDescription backup{
      .since = request.since.empty() ? "" : kCheckpointPrefix + request.since,
      .checkpoint = kCheckpointPrefix + request.token,
      .socket = prefix + ".nbd",
      .scratch_prefix = prefix};
  const std::string backup_xml = write_backup(backup, shape.disks);
  const std::string checkpoint_xml = write_checkpoint(backup, shape.disks);
  if (!backup.since.empty()) {
    const CheckpointHandle since(
        virDomainCheckpointLookupByName(domain_.get(), backup.since.c_str(), 0));
    if (!since) {
      return fail(ErrorCode::kTrackingLost,
                  fmt::format("VM '{}' has no checkpoint {}", shape.vm.name, backup.since));
    }
    FARSIDE_ASSIGN(const auto document, XmlDocument::parse(take_text(virDomainCheckpointGetXMLDesc(
                                            since.get(), VIR_DOMAIN_CHECKPOINT_XML_NO_DOMAIN))));
    const auto tracked = document.root().child("disks").children("disk");
    for (const DiskShape& disk : shape.disks) {
      const bool is_tracked = std::ranges::any_of(tracked, [&](const XmlNode& node) {
        return node.attribute("name") == disk.name && node.attribute("checkpoint") == "bitmap";
      });
      if (disk.is_writable_disk && !is_tracked) {
        return fail(ErrorCode::kTrackingLost,
                    fmt::format("disk {} of VM '{}' was added after checkpoint {}", disk.name,
                                shape.vm.name, backup.since));
      }
    }
  }

  std::unique_ptr<Quiesce> quiesce;
  if (request.app_consistent && shape.has_guest_agent) {
    quiesce = std::make_unique<Quiesce>(domain_.get(), place_);
  }
  // Taken before: the point is at least as new as it says.
  captured_at_ = clock.now();
  if (virDomainBackupBegin(domain_.get(), backup_xml.c_str(), checkpoint_xml.c_str(), 0) != 0) {
    auto error = libvirt_error(fmt::format("freeze the disks of VM '{}'", shape.vm.name));
    quiesce.reset();
    remove_files(domain_.get(), place_);
    return error;
  }
  is_app_consistent_ = quiesce != nullptr && quiesce->thaw();
  return {};
}

Status BackupPoint::connect(const DomainShape& shape, const PointRequest& request) {
  FARSIDE_ASSIGN(definition_, capture_definition(domain_.get(), place_.networks, true));
  for (const DiskShape& disk : shape.disks) {
    if (!disk.is_writable_disk) continue;
    FARSIDE_ASSIGN(auto frozen,
                   NbdDisk::connect({.socket = prefix_of(domain_.get(), place_) + ".nbd",
                                     .name = disk.name,
                                     .id = disk.id,
                                     .has_changes = !request.since.empty()}));
    for (msg::Disk& each : definition_.shape.disks) {
      if (each.name == disk.name) each.bytes = frozen->bytes();
    }
    disks_.push_back(std::move(frozen));
  }
  return {};
}

void BackupPoint::watch(const std::stop_token& stop) {
  std::unique_lock lock(mutex_);
  while (!woken_.wait_for(lock, stop, kWatchPeriod, [&] { return stop.stop_requested(); })) {
    const bool is_full = free_bytes(place_.scratch_dir) < place_.reserve_bytes;
    if (is_full) {
      log::error("point_lost", {{"vm", name_of(domain_.get())},
                                {"cause", "the scratch directory is nearly full"},
                                {"scratch", place_.scratch_dir}});
      (void)end_backup(domain_.get(), place_);
    }
    if (is_full || !has_job(domain_.get())) {
      is_lost_.store(true);
      return;
    }
  }
}

Status BackupPoint::close() {
  return end(/*drop_older=*/true);
}

Status BackupPoint::abandon() {
  return end(/*drop_older=*/false);
}

Status BackupPoint::end(bool drop_older) {
  if (is_ended_) return {};
  if (watch_.joinable()) {
    watch_.request_stop();
    watch_.join();
  }
  disks_.clear();  // libvirt waits for nobody, but QEMU closes the export once it is unused.
  if (virDomainIsActive(domain_.get()) == 1) {
    FARSIDE_TRY(end_backup(domain_.get(), place_));
    if (drop_older) FARSIDE_TRY(drop_checkpoints(domain_.get(), token_));
    FARSIDE_TRY(end_pause(domain_.get(), place_));
  } else {
    remove_files(domain_.get(), place_);
    FARSIDE_TRY(place_.paused.remove(uuid_of(domain_.get())));
  }
  is_ended_ = true;
  return {};
}

}  // namespace farside::agent::libvirt
