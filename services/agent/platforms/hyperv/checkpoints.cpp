#include "services/agent/platforms/hyperv/checkpoints.h"

#include <fmt/format.h>

#include <algorithm>
#include <cctype>

#include "common/base/log.h"
#include "common/wsman/wmi_path.h"

namespace farside::agent::hyperv {
namespace {

using wsman::Instance;
using wsman::Value;

constexpr std::uint16_t kRecovery = 32768;
constexpr std::uint8_t kAppConsistent = 1;
constexpr std::uint8_t kCrashConsistent = 2;
constexpr std::uint8_t kCopyBackup = 2;  // The guest's own backups do not notice it.

std::string plain_guid(std::string text) {
  std::erase_if(text, [](char c) { return c == '{' || c == '}'; });
  std::ranges::transform(text, text.begin(), [](unsigned char c) { return std::tolower(c); });
  return text;
}

wsman::Reference snapshot_service() {
  return wsman::service("Msvm_VirtualSystemSnapshotService");
}

wsman::Reference settings_of(const std::string& id) {
  return setting_of("Msvm_VirtualSystemSettingData", id);
}

wsman::Reference point_of(const std::string& id) {
  return setting_of("Msvm_VirtualSystemReferencePoint", id);
}

std::vector<std::string> ids_of(const std::vector<Instance>& instances) {
  std::vector<std::string> ids;
  for (const Instance& one : instances) ids.push_back(one.text("InstanceID"));
  return ids;
}

}  // namespace

Result<std::vector<Instance>> Checkpoints::checkpoints_of(const std::string& guid) {
  return host_.query(
      fmt::format("SELECT * FROM Msvm_VirtualSystemSettingData WHERE VirtualSystemType='{}' AND "
                  "VirtualSystemIdentifier='{}'",
                  kBackupCheckpoint, guid));
}

Result<std::vector<Instance>> Checkpoints::points_of(const std::string& guid) {
  return host_.associators(system_of(guid), "Msvm_ReferencePointOfVirtualSystem",
                           "Msvm_VirtualSystemReferencePoint");
}

// The checkpoint that was asked for: the recorded one, or the one that was not there before.
Result<std::optional<std::string>> Checkpoints::find_ours(const std::string& guid,
                                                          const msg::OpenCheckpoint& open) {
  FARSIDE_ASSIGN(const auto all, checkpoints_of(guid));
  for (const Instance& one : all) {
    const std::string id = one.text("InstanceID");
    const bool is_ours = open.checkpoint.empty()
                             ? std::ranges::find(open.others, id) == open.others.end()
                             : id == open.checkpoint;
    if (is_ours) return std::optional(id);
  }
  return std::optional<std::string>();
}

Result<Checkpoint> Checkpoints::create(const VirtualMachine& vm, const std::string& token,
                                       bool app_consistent) {
  FARSIDE_ASSIGN(auto tracking, tracking_.load(vm.vm.id));
  FARSIDE_ASSIGN(const auto before, checkpoints_of(vm.guid));
  FARSIDE_ASSIGN(const auto points, points_of(vm.guid));
  tracking.open = {
      .token = token, .others = ids_of(before), .checkpoint = {}, .other_points = ids_of(points)};
  FARSIDE_TRY(tracking_.save(tracking));

  const Instance settings{
      .class_name = "Msvm_VirtualSystemSnapshotSettingData",
      .properties = {
          {"ConsistencyLevel", Value::u8(app_consistent ? kAppConsistent : kCrashConsistent)},
          {"GuestBackupType", Value::u8(kCopyBackup)},
          {"IgnoreNonSnapshottableDisks", Value::flag(false)}}};
  const auto made = host_.call(snapshot_service(), "CreateSnapshot",
                               {{"AffectedSystem", Value::reference(system_of(vm.guid))},
                                {"SnapshotSettings", Value::embedded(settings)},
                                {"SnapshotType", Value::u16(kRecovery)}});
  const auto found = find_ours(vm.guid, tracking.open);
  if (!made || !found || !*found) {
    // What is there after all goes: nobody knows at which instant it froze the disks.
    if (found && *found) FARSIDE_TRY(destroy_checkpoint(**found));
    // A call without an answer may yet make one: then settle() looks for it.
    const bool is_over = made || (made.error().code != ErrorCode::kTimeout &&
                                  made.error().code != ErrorCode::kUnavailable);
    if (found && is_over) {
      tracking.open = {};
      FARSIDE_TRY(tracking_.save(tracking));
    }
    if (!made) return fail(made.error().in("checkpoint of VM '" + vm.vm.name + "'"));
    if (!found) return fail(found.error());
    return fail(ErrorCode::kPlatform,
                "the host made a checkpoint of VM '" + vm.vm.name + "' and does not show it");
  }
  tracking.open.checkpoint = **found;
  FARSIDE_TRY(tracking_.save(tracking));
  FARSIDE_ASSIGN(const auto parts, host_.parts(**found));
  FARSIDE_ASSIGN(const auto now, checkpoints_of(vm.guid));
  Checkpoint checkpoint{.vm = vm.vm.id,
                        .guid = vm.guid,
                        .id = **found,
                        .token = token,
                        .is_app_consistent = false,
                        .disks = read_disks(parts)};
  for (const Instance& one : now) {
    if (one.text("InstanceID") != checkpoint.id) continue;
    checkpoint.is_app_consistent =
        one.number_or("ConsistencyLevel", kCrashConsistent) == kAppConsistent;
  }
  return checkpoint;
}

Status Checkpoints::keep(const Checkpoint& checkpoint, bool drops_older) {
  FARSIDE_ASSIGN(auto tracking, tracking_.load(checkpoint.vm));
  if (tracking.open.token != checkpoint.token) return {};  // Ended already.
  // Settings for the reference point are left out: hosts refuse them.
  const auto converted =
      host_.call(snapshot_service(), "ConvertToReferencePoint",
                 {{"AffectedSnapshot", Value::reference(settings_of(checkpoint.id))}});
  FARSIDE_ASSIGN(const auto after, points_of(checkpoint.guid));
  msg::TrackedPoint point{.token = checkpoint.token};
  for (const Instance& one : after) {
    const std::string id = one.text("InstanceID");
    const auto& others = tracking.open.other_points;
    if (std::ranges::find(others, id) != others.end()) continue;
    const auto disks = one.texts("VirtualDiskIdentifiers");
    const auto changes = one.texts("ResilientChangeTrackingIdentifiers");
    point.reference_point = id;
    for (std::size_t i = 0; i < std::min(disks.size(), changes.size()); ++i) {
      point.disks.push_back({.disk_id = plain_guid(disks[i]), .change_id = changes[i]});
    }
  }
  if (point.reference_point.empty()) {
    FARSIDE_ASSIGN(const auto still, find_ours(checkpoint.guid, tracking.open));
    if (still && !converted) return fail(converted.error().in("end a checkpoint"));
    // It is gone, and left nothing to count changes from: the next point compares hashes.
    log::warn("checkpoint_lost", {{"vm", checkpoint.vm}, {"checkpoint", checkpoint.id}});
    if (still) FARSIDE_TRY(destroy_checkpoint(checkpoint.id));
    tracking.open = {};
    return tracking_.save(tracking);
  }
  if (drops_older) {
    for (const auto& older : tracking.points) tracking.dropped.push_back(older.reference_point);
    tracking.points.clear();
  }
  std::erase_if(tracking.points, [&](const msg::TrackedPoint& one) {
    if (one.token != checkpoint.token) return false;
    tracking.dropped.push_back(one.reference_point);  // Of an earlier request with that token.
    return true;
  });
  tracking.points.push_back(std::move(point));
  tracking.open = {};
  FARSIDE_TRY(tracking_.save(tracking));
  return remove_dropped(tracking);
}

Status Checkpoints::drop(const Checkpoint& checkpoint) {
  FARSIDE_TRY(destroy_checkpoint(checkpoint.id));
  FARSIDE_ASSIGN(auto tracking, tracking_.load(checkpoint.vm));
  tracking.open = {};
  return tracking_.save(tracking);
}

// Hosts say of what is gone that a parameter is wrong, or that the job failed: look at the effect.
Status Checkpoints::unless_gone(Status failed, const wsman::Reference& object) {
  if (failed) return failed;
  const auto still =
      host_.query(fmt::format("SELECT * FROM {} WHERE InstanceID='{}'", object.class_name,
                              wsman::wmi_escape(object.key("InstanceID"))));
  return still && still->empty() ? Status() : failed;
}

Status Checkpoints::destroy_checkpoint(const std::string& id) {
  const auto destroyed = host_.call(snapshot_service(), "DestroySnapshot",
                                    {{"AffectedSnapshot", Value::reference(settings_of(id))}});
  return unless_gone(destroyed ? Status() : fail(destroyed.error().in("remove a checkpoint")),
                     settings_of(id));
}

Status Checkpoints::remove_dropped(msg::StoredTracking& tracking) {
  if (tracking.dropped.empty()) return {};
  for (const std::string& id : tracking.dropped) {
    const auto gone = host_.call(wsman::service("Msvm_VirtualSystemReferencePointService"),
                                 "DestroyReferencePoint",
                                 {{"AffectedReferencePoint", Value::reference(point_of(id))}});
    FARSIDE_TRY(unless_gone(gone ? Status() : fail(gone.error().in("remove a reference point")),
                            point_of(id)));
  }
  tracking.dropped.clear();
  return tracking_.save(tracking);
}

Status Checkpoints::settle(const std::string& vm_id) {
  FARSIDE_ASSIGN(auto tracking, tracking_.load(vm_id));
  if (!tracking.open.token.empty()) {
    FARSIDE_ASSIGN(const VirtualMachine vm, host_.find(vm_id));
    FARSIDE_TRY(host_.wait_for_jobs());
    FARSIDE_ASSIGN(const auto ours, find_ours(vm.guid, tracking.open));
    log::info("checkpoint_left_over", {{"vm", vm_id}, {"token", tracking.open.token}});
    if (tracking.open.checkpoint.empty()) {
      // Nobody read from it: its token was never told as taken.  If it is not there, it may yet
      // come: what was there before it is remembered until the next one.
      if (ours) {
        FARSIDE_TRY(destroy_checkpoint(*ours));
        tracking.open = {};
        FARSIDE_TRY(tracking_.save(tracking));
      }
    } else {
      // Even if it is gone: that may be as it became a reference point just before the crash.
      FARSIDE_TRY(keep({.vm = vm_id,
                        .guid = vm.guid,
                        .id = tracking.open.checkpoint,
                        .token = tracking.open.token,
                        .disks = {}},
                       /*drops_older=*/false));
      FARSIDE_ASSIGN(tracking, tracking_.load(vm_id));
    }
  }
  return remove_dropped(tracking);
}

Status Checkpoints::forget(const std::string& vm_id) {
  FARSIDE_ASSIGN(auto tracking, tracking_.load(vm_id));
  if (!tracking.open.token.empty()) {
    const auto settled = settle(vm_id);
    if (!settled && settled.error().code != ErrorCode::kNotFound) return settled;
    FARSIDE_ASSIGN(tracking, tracking_.load(vm_id));
    tracking.open = {};
  }
  for (const auto& point : tracking.points) tracking.dropped.push_back(point.reference_point);
  tracking.points.clear();
  FARSIDE_TRY(tracking_.save(tracking));
  return remove_dropped(tracking);
}

Result<std::optional<msg::TrackedPoint>> Checkpoints::find(const std::string& vm_id,
                                                           const std::string& token) {
  FARSIDE_ASSIGN(const auto tracking, tracking_.load(vm_id));
  for (const auto& point : tracking.points) {
    if (point.token == token) return std::optional(point);
  }
  return std::optional<msg::TrackedPoint>();
}

}  // namespace farside::agent::hyperv
