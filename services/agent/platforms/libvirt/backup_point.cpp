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

#include "common/base/folder.h"
#include "common/base/log.h"
#include "services/agent/platforms/libvirt/definition.h"
#include "services/agent/platforms/libvirt/domain_jobs.h"
#include "services/agent/platforms/libvirt/image_file.h"
#include "services/agent/platforms/libvirt/nbd_disk.h"
#include "services/agent/platforms/libvirt/qcow2_header.h"
#include "services/agent/platforms/libvirt/qemu_folder.h"

namespace farside::agent::libvirt {
namespace {

using std::chrono::milliseconds;
using std::chrono::seconds;

constexpr milliseconds kWatchPeriod(500);
constexpr int kGuestAgentSeconds = 10;

constexpr const char* kSockets = "/nbd";

// All our files of this domain begin with this.
std::string prefix_of(const std::string& vm_id, const BackupPlace& place) {
  return place.scratch_dir + "/" + vm_id;
}

std::uint64_t free_bytes(const std::string& folder) {
  std::error_code error;
  const auto space = std::filesystem::space(folder, error);
  return error ? 0 : space.available;
}

nlohmann::json ask_qemu(virDomainPtr domain, const nlohmann::json& command) {
  char* text = nullptr;
  if (virDomainQemuMonitorCommand(domain, command.dump().c_str(), &text, 0) != 0) return {};
  return nlohmann::json::parse(take_text(text), nullptr, /*allow_exceptions=*/false);
}

// Removes bitmaps that libvirt does not want to touch any more, such as inconsistent ones.  Where
// they are is tried, not asked: the list that says it also describes the images (scratch_images.h).
void remove_bitmaps(virDomainPtr domain, const std::string& bitmap) {
  const auto reply =
      ask_qemu(domain, {{"execute", "query-blockstats"}, {"arguments", {{"query-nodes", true}}}});
  if (!reply.is_object() || !reply.contains("return") || !reply["return"].is_array()) return;
  for (const auto& node : reply["return"]) {
    if (!node.is_object()) continue;
    const auto name = node.find("node-name");
    if (name == node.end() || !name->is_string()) continue;
    if (!name->get<std::string>().ends_with("-format")) continue;
    ask_qemu(domain, {{"execute", "block-dirty-bitmap-remove"},
                      {"arguments", {{"node", *name}, {"name", bitmap}}}});
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
  Quiesce(virDomainPtr domain, BackupPlace& place) : domain_(domain), place_(place) {
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
      // Tried again until it is; the point is only crash consistent.
      const Error error = libvirt_error("thaw its file systems").error();
      log::error("guest_not_thawed", {{"vm", name_of(domain_)}, {"error", error}});
      place_.leftovers.add(uuid_of(domain_), error);
      return false;
    }
    (void)place_.quiesced.remove(uuid_of(domain_));
    return true;
  }

  ~Quiesce() { thaw(); }

 private:
  virDomainPtr domain_;
  BackupPlace& place_;
  bool is_frozen_ = false;
};

Status let_qemu_in(const BackupPlace& place) {
  FARSIDE_ASSIGN(const auto user, place.session.qemu_user());
  const int levels = levels_within(place.scratch_dir, place.own_folder);
  FARSIDE_TRY(make_qemu_folder(place.scratch_dir, user, levels));
  return make_qemu_drop(place.scratch_dir + kSockets, user);
}

// Between libvirt's look at the disks and QEMU's.
bool was_resized(const Error& error) {
  return error.what.contains("Bitmaps are of different sizes");
}

}  // namespace

std::string socket_of(const std::string& vm_id, const std::string& scratch_dir) {
  return scratch_dir + kSockets + "/" + vm_id;
}

std::vector<std::string> folders_of(const BackupPlace& place) {
  return {place.scratch_dir, place.scratch_dir + kSockets};
}

void remove_files(const std::string& vm_id, const BackupPlace& place) {
  for (const std::string& folder : folders_of(place)) {
    std::error_code error;
    for (const auto& entry : entries_of(folder, error)) {
      if (entry.filename().string().starts_with(vm_id)) {
        std::error_code ignored;
        std::filesystem::remove(entry, ignored);
      }
    }
  }
}

Status end_backup(virDomainPtr domain, const BackupPlace& place) {
  FARSIDE_TRY(end_backup_of_ours(domain, place.scratch_dir));
  remove_files(uuid_of(domain), place);
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

BackupPoint::BackupPoint(std::string vm_id, std::string token, BackupPlace& place)
    : vm_id_(std::move(vm_id)), token_(std::move(token)), place_(place) {}

BackupPoint::~BackupPoint() = default;

Result<std::unique_ptr<Point>> BackupPoint::begin(virDomainPtr domain, const DomainShape& shape,
                                                  const PointRequest& request,
                                                  const std::string& base, const Networks& networks,
                                                  BackupPlace& place) {
  const std::uint64_t free = free_bytes(place.scratch_dir);
  if (free < place.reserve_bytes) {
    return fail(ErrorCode::kNoSpace,
                fmt::format("{} has {} MiB free, less than the {} MiB kept in reserve",
                            place.scratch_dir, free >> 20U, place.reserve_bytes >> 20U),
                "free space there, or set another scratch directory");
  }
  FARSIDE_TRY(end_backup(domain, place));
  FARSIDE_TRY(let_qemu_in(place));
  // A repeated request: the checkpoint of the first attempt is merged into the one before it.
  const std::string name = kCheckpointPrefix + request.token;
  if (const CheckpointHandle same{virDomainCheckpointLookupByName(domain, name.c_str(), 0)}) {
    FARSIDE_TRY(delete_checkpoint(domain, same.get()));
  } else if (libvirt_error_number() != VIR_ERR_NO_DOMAIN_CHECKPOINT) {
    return libvirt_error(fmt::format("checkpoints of VM '{}'", shape.vm.name));
  }
  std::unique_ptr<BackupPoint> point(new BackupPoint(request.vm_id, request.token, place));
  FARSIDE_TRY(point->capture(domain, shape, request, base));
  if (auto connected = point->connect(domain, shape, base, networks); !connected) {
    (void)point->abandon();
    return fail(std::move(connected).error());
  }
  point->watch_ = std::jthread([raw = point.get()](std::stop_token stop) { raw->watch(stop); });
  return point;
}

// A folder on the way that QEMU may not pass says nothing but that.
void BackupPoint::explain_denial(Error& error) const {
  if (!error.what.contains("Permission denied")) return;
  const auto user = place_.session.qemu_user();
  if (!user || !*user) return;
  if (const auto entry = check_entry(place_.scratch_dir, **user); !entry) {
    error.what += "; " + entry.error().what;
    error.advice = entry.error().advice;
  }
}

Status BackupPoint::capture(virDomainPtr domain, const DomainShape& shape,
                            const PointRequest& request, const std::string& base) {
  const std::string prefix = prefix_of(vm_id_, place_);
  const BackupDescription backup{.since = base.empty() ? "" : kCheckpointPrefix + base,
                                 .checkpoint = kCheckpointPrefix + request.token,
                                 .socket = socket_of(vm_id_, place_.scratch_dir),
                                 .scratch_prefix = prefix};
  const std::string backup_xml = write_backup(backup, shape.disks);
  const std::string checkpoint_xml = write_checkpoint(backup, shape.disks);
  if (!backup.since.empty()) {
    const CheckpointHandle since(virDomainCheckpointLookupByName(domain, backup.since.c_str(), 0));
    if (!since) {
      if (libvirt_error_number() != VIR_ERR_NO_DOMAIN_CHECKPOINT) {
        return libvirt_error(fmt::format("checkpoint {} of VM '{}'", backup.since, shape.vm.name));
      }
      return fail(ErrorCode::kTrackingLost,
                  fmt::format("VM '{}' has no checkpoint {}", shape.vm.name, backup.since));
    }
    const std::string text =
        take_text(virDomainCheckpointGetXMLDesc(since.get(), VIR_DOMAIN_CHECKPOINT_XML_NO_DOMAIN));
    if (text.empty()) return libvirt_error("describe checkpoint " + backup.since);
    FARSIDE_ASSIGN(const auto document, XmlDocument::parse(text));
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

  for (const DiskShape& disk : shape.disks) {
    if (!disk.is_writable_disk) continue;
    const auto header = read_qcow2_header(disk.path);
    if (!header) return fail(header.error().in(disk.path));
    FARSIDE_TRY(place_.scratch.create(scratch_file(backup, disk.name), header->bytes, disk.path));
  }

  std::unique_ptr<Quiesce> quiesce;
  if (request.app_consistent && shape.has_guest_agent) {
    quiesce = std::make_unique<Quiesce>(domain, place_);
  }
  // Taken before: the point is at least as new as it says.
  captured_at_ = place_.clock.now();
  if (virDomainBackupBegin(domain, backup_xml.c_str(), checkpoint_xml.c_str(),
                           VIR_DOMAIN_BACKUP_BEGIN_REUSE_EXTERNAL) != 0) {
    auto error = libvirt_error(fmt::format("freeze the disks of VM '{}'", shape.vm.name));
    explain_denial(error.error());
    if (was_resized(error.error())) {
      error.error().code = ErrorCode::kBusy;
      error.error().advice = "a disk was resized in that moment; the next point has its new size";
    }
    quiesce.reset();
    // It may have begun all the same, and only the answer got lost.
    if (const auto ended = end_backup(domain, place_); !ended) {
      place_.leftovers.add(vm_id_, ended.error());
    }
    return error;
  }
  is_app_consistent_ = quiesce != nullptr && quiesce->thaw();
  return {};
}

Status BackupPoint::connect(virDomainPtr domain, const DomainShape& shape, const std::string& base,
                            const Networks& networks) {
  FARSIDE_ASSIGN(definition_, capture_definition(domain, networks, /*with_nvram=*/true));
  for (const DiskShape& disk : shape.disks) {
    if (!disk.is_writable_disk) continue;
    FARSIDE_ASSIGN(auto frozen,
                   NbdDisk::connect({.socket = socket_of(vm_id_, place_.scratch_dir),
                                     .name = disk.name,
                                     .id = disk.id,
                                     .bitmap = base.empty() ? "" : "backup-" + disk.name}));
    for (msg::Disk& each : definition_.shape.disks) {
      if (each.name == disk.name) each.bytes = frozen->bytes();
    }
    disks_.push_back(std::move(frozen));
  }
  return {};
}

// QEMU serves the point without libvirt, and ends the connections as soon as it does not hold it
// any more.
bool BackupPoint::is_lost() {
  const std::lock_guard lock(mutex_);
  if (!loss_ && std::ranges::any_of(disks_, [](const auto& disk) {
        return static_cast<const NbdDisk&>(*disk).is_closed();
      })) {
    loss_ = Error{.code = ErrorCode::kUnavailable,
                  .what =
                      "the VM was turned off, or its backup job ended by somebody, while its "
                      "point was read",
                  .advice = ""};
  }
  return loss_.has_value();
}

Error BackupPoint::loss() {
  const std::lock_guard lock(mutex_);
  return loss_.value_or(Error{});
}

void BackupPoint::watch(const std::stop_token& stop) {
  std::unique_lock lock(mutex_);
  while (!woken_.wait_for(lock, stop, kWatchPeriod, [&] { return stop.stop_requested(); })) {
    if (free_bytes(place_.scratch_dir) >= place_.reserve_bytes) continue;
    loss_ = Error{.code = ErrorCode::kNoSpace,
                  .what = fmt::format("{} is nearly full", place_.scratch_dir),
                  .advice = "give the agent's scratch_dir more room"};
    log::error("point_lost", {{"vm", vm_id_}, {"error", *loss_}});
    lock.unlock();
    const auto domain = place_.session.find(vm_id_);
    const auto ended = domain ? end_backup(domain->get(), place_) : Status(fail(domain.error()));
    if (!ended) place_.leftovers.add(vm_id_, ended.error());
    return;
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
  const auto ended = [&]() -> Status {
    const auto domain = place_.session.find(vm_id_);
    if (!domain) {
      if (domain.error().code != ErrorCode::kNotFound) return fail(domain.error());
      remove_files(vm_id_, place_);
      return {};
    }
    FARSIDE_ASSIGN(const bool active, is_active(domain->get()));
    if (!active) {
      remove_files(vm_id_, place_);
      return {};
    }
    const auto without = end_backup(domain->get(), place_);
    // Another tool's job can only be there after ours has gone.
    if (!without && without.error().code != ErrorCode::kBusy) return without;
    if (drop_older) {
      FARSIDE_TRY(drop_checkpoints(domain->get(), token_));
      FARSIDE_TRY(place_.off_tokens.remove(vm_id_));
    }
    return {};
  }();
  if (!ended) {
    place_.leftovers.add(vm_id_, ended.error());
    return ended;
  }
  is_ended_ = true;
  return {};
}

}  // namespace farside::agent::libvirt
