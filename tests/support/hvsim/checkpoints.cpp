#include "tests/support/hvsim/checkpoints.h"

#include <fmt/format.h>
#include <unistd.h>

#include "tests/support/hvsim/vhdx_shape.h"

namespace farside::hvsim {
namespace {

std::string overlay_beside(const std::string& base, const std::string& id) {
  return base.substr(0, base.rfind('.')) + "_" + id + ".avhdx";
}

Value strings(const std::vector<CheckpointDisk>& disks, std::string CheckpointDisk::* member) {
  std::vector<std::string> all;
  for (const CheckpointDisk& one : disks) all.push_back(one.*member);
  return Value::texts(all);
}

}  // namespace

std::string Checkpoints::vm_of(const std::string& id) const {
  for (const auto& [guid, one] : state_.checkpoints) {
    if (one.id == id) return guid;
  }
  return {};
}

Result<Reference> Checkpoints::create(const std::string& guid, std::uint64_t consistency) {
  if (objects_.system(guid) == nullptr) return fail(ErrorCode::kNotFound, "no VM " + guid);
  if (state_.checkpoints.contains(guid)) {
    return fail(ErrorCode::kConflict, "the VM has a checkpoint that is not merged yet");
  }
  Checkpoint checkpoint{.id = objects_.new_guid(), .disks = {}};
  for (const std::string& base : machines_.bases_of(guid)) {
    FARSIDE_ASSIGN(const std::string file, machines_.files().file_of(base));
    FARSIDE_ASSIGN(const VhdxShape shape, read_vhdx_shape(file));
    CheckpointDisk disk{.base = base,
                        .overlay = overlay_beside(base, checkpoint.id),
                        .mark = fmt::format("rctX:{}:00000001", objects_.new_guid()),
                        .disk_id = shape.disk_id};
    FARSIDE_ASSIGN(const std::string overlay, machines_.files().file_of(disk.overlay));
    FARSIDE_TRY(
        run_tool(machines_.spawner(),
                 {"qemu-img", "create", "-q", "-f", "qcow2", overlay, std::to_string(shape.bytes)},
                 machines_.files().run() + "/qemu-img.log"));
    checkpoint.disks.push_back(std::move(disk));
  }
  state_.checkpoints[guid] = checkpoint;
  FARSIDE_TRY(state_.save());
  bool is_frozen = false;
  const Status done = machines_.with_qemu(guid, [&](QemuVm& qemu) {
    const Status frozen = freeze(guid, qemu, consistency);
    is_frozen = qemu.is_frozen() || frozen;
    return frozen;
  });
  if (!is_frozen) {
    state_.checkpoints.erase(guid);
    FARSIDE_TRY(state_.save());
    for (const CheckpointDisk& one : checkpoint.disks) {
      ::unlink(machines_.files().file_of(one.overlay).value_or("").c_str());
    }
  }
  FARSIDE_TRY(done);
  return objects_.objects().reference_to(*objects_.settings(checkpoint.id));
}

Status Checkpoints::freeze(const std::string& guid, QemuVm& qemu, std::uint64_t consistency) {
  Checkpoint& checkpoint = state_.checkpoints.at(guid);
  std::vector<std::string> overlays;
  for (const CheckpointDisk& one : checkpoint.disks) {
    FARSIDE_ASSIGN(overlays.emplace_back(), machines_.files().file_of(one.overlay));
  }
  const bool holds_still = consistency == 1 && machines_.is_ready(guid) && qemu.freeze_guest();
  const auto changes = qemu.take_changes_and_freeze(overlays);
  if (consistency == 1 && machines_.is_ready(guid)) std::ignore = qemu.thaw_guest();
  if (!changes && !qemu.is_frozen()) return fail(changes.error());
  checkpoint.stage = Checkpoint::Stage::kOpen;
  checkpoint.consistency = holds_still ? 1 : 2;
  if (changes) {
    machines_.record(guid, *changes);
  } else {
    state_.lose_tracking(guid, machines_.bases_of(guid));
  }
  for (const CheckpointDisk& one : checkpoint.disks) {
    state_.tracking_of(one.base).mark(one.mark);
  }
  show(guid);
  machines_.lock_disks(guid);
  return state_.save();
}

// Its settings and associations; the VM's own disks are the overlays now.
void Checkpoints::show(const std::string& guid) {
  const Checkpoint& checkpoint = state_.checkpoints.at(guid);
  Instance& settings = objects_.copy_as_checkpoint(guid, checkpoint.id);
  settings.properties["ElementName"] =
      Value::text(objects_.settings(guid)->text("ElementName") + " - Backup");
  settings.properties["ConsistencyLevel"] =
      Value::u8(static_cast<std::uint8_t>(checkpoint.consistency));
  for (const CheckpointDisk& one : checkpoint.disks) write_to(guid, one.base, one.overlay);
  objects_.settings(guid)->properties["Parent"] = objects_.path_to(settings);
  const Instance* system = objects_.system(guid);
  for (const char* association :
       {"Msvm_SnapshotOfVirtualSystem", "Msvm_MostCurrentSnapshotInBranch"}) {
    objects_.objects().associate(association, *system, settings);
  }
}

void Checkpoints::write_to(const std::string& guid, const std::string& from,
                           const std::string& to) {
  for (const AttachedDisk& disk : objects_.disks(*objects_.settings(guid))) {
    if (disk.path != from) continue;
    objects_.objects().find(disk.settings)->properties["HostResource"] = Value::texts({to});
  }
}

Reference Checkpoints::add_reference_point(const std::string& guid, const Checkpoint& checkpoint) {
  Objects& objects = objects_.objects();
  const Instance& point = objects.add(
      {"Msvm_VirtualSystemReferencePoint",
       {{"InstanceID", Value::text("Microsoft:" + objects_.new_guid())},
        {"ElementName", Value::text("Reference point")},
        {"ConsistencyLevel", Value::u16(static_cast<std::uint16_t>(checkpoint.consistency))},
        {"ReferencePointType", Value::u16(2)},
        {"VirtualSystemIdentifier", Value::text(guid)},
        {"HasAssociatedData", Value::flag(false)},
        {"VirtualDiskIdentifiers", strings(checkpoint.disks, &CheckpointDisk::disk_id)},
        {"ResilientChangeTrackingIdentifiers", strings(checkpoint.disks, &CheckpointDisk::mark)}}});
  objects.associate("Msvm_ReferencePointOfVirtualSystem", *objects_.system(guid), point);
  return objects.reference_to(point);
}

Result<Reference> Checkpoints::merge(const std::string& guid, bool keeps_point) {
  state_.checkpoints.at(guid).stage = Checkpoint::Stage::kMerging;
  FARSIDE_TRY(state_.save());
  const Checkpoint checkpoint = state_.checkpoints.at(guid);
  Reference point;
  const auto on_merged = [&]() -> Status {
    for (const CheckpointDisk& one : checkpoint.disks) {
      write_to(guid, one.overlay, one.base);
      if (!keeps_point) state_.tracking_of(one.base).drop(one.mark);
    }
    objects_.settings(guid)->properties["Parent"] = Value::null();
    objects_.remove_settings(checkpoint.id);
    if (keeps_point) point = add_reference_point(guid, checkpoint);
    state_.checkpoints.erase(guid);
    return state_.save();
  };
  FARSIDE_TRY(
      machines_.with_qemu(guid, [&](QemuVm& qemu) -> Status { return qemu.merge(on_merged); }));
  for (const CheckpointDisk& one : checkpoint.disks) {
    ::unlink(machines_.files().file_of(one.overlay).value_or("").c_str());
  }
  machines_.lock_disks(guid);
  return point;
}

Result<Reference> Checkpoints::convert(const std::string& id) {
  const std::string guid = vm_of(id);
  if (guid.empty()) return fail(ErrorCode::kNotFound, "no such checkpoint");
  return merge(guid, /*keeps_point=*/true);
}

Status Checkpoints::destroy(const std::string& id) {
  const std::string guid = vm_of(id);
  if (guid.empty()) return fail(ErrorCode::kNotFound, "no such checkpoint");
  return merge_any(guid);
}

Status Checkpoints::merge_any(const std::string& guid) {
  if (!state_.checkpoints.contains(guid)) return {};
  FARSIDE_TRY(merge(guid, /*keeps_point=*/false));
  return {};
}

Status Checkpoints::destroy_reference_point(const Reference& point) {
  const Instance* found = objects_.objects().find(point);
  if (found == nullptr) return fail(ErrorCode::kNotFound, "no such reference point");
  for (const std::string& mark : found->texts("ResilientChangeTrackingIdentifiers")) {
    state_.drop_mark(mark);
  }
  objects_.objects().remove(point);
  return state_.save();
}

Status Checkpoints::recover() {
  for (const std::string& guid : objects_.guids()) {
    if (state_.unclean.erase(guid) > 0) state_.lose_tracking(guid, machines_.bases_of(guid));
    objects_.set_state(guid, kOff);
    machines_.lock_disks(guid);
    const auto open = state_.checkpoints.find(guid);
    if (open == state_.checkpoints.end()) continue;
    if (open->second.stage == Checkpoint::Stage::kForming) {
      // Whether the guest began to write to the overlays or not, they belong to its disks.
      for (const CheckpointDisk& one : open->second.disks) write_to(guid, one.base, one.overlay);
    }
    if (open->second.stage != Checkpoint::Stage::kOpen) FARSIDE_TRY(merge_any(guid));
  }
  return state_.save();
}

Result<Checkpoints::Question> Checkpoints::question_for(const std::string& disk) {
  const std::string wanted = lower_case(disk);
  for (const std::string& guid : objects_.guids()) {
    const auto open = state_.checkpoints.find(guid);
    for (const std::string& base : machines_.bases_of(guid)) {
      if (lower_case(base) != wanted) continue;
      if (open != state_.checkpoints.end()) {
        for (const CheckpointDisk& one : open->second.disks) {
          if (lower_case(one.base) == wanted) return Question{.base = base, .until = one.mark};
        }
      }
      if (machines_.has_process(guid)) return fail(ErrorCode::kConflict, disk + " is in use");
      return Question{.base = base, .until = {}};
    }
  }
  return fail(ErrorCode::kNotFound, disk + " is no disk of a virtual machine");
}

}  // namespace farside::hvsim
