#include "tests/support/hvsim/host_state.h"

#include <cstdio>
#include <fstream>

#include "tests/support/hvsim/host_files.h"
#include "tests/support/hvsim/object_json.h"

namespace farside::hvsim {
namespace {

using nlohmann::json;

json to_json(const Checkpoint& checkpoint) {
  json disks = json::array();
  for (const CheckpointDisk& one : checkpoint.disks) {
    disks.push_back(json::array({one.base, one.overlay, one.mark, one.disk_id}));
  }
  return {{"id", checkpoint.id},
          {"consistency", checkpoint.consistency},
          {"stage", static_cast<int>(checkpoint.stage)},
          {"disks", disks}};
}

Checkpoint checkpoint_from(const json& from) {
  Checkpoint checkpoint{.id = from.at("id").get<std::string>(),
                        .consistency = from.at("consistency").get<std::uint64_t>(),
                        .stage = static_cast<Checkpoint::Stage>(from.at("stage").get<int>()),
                        .disks = {}};
  for (const json& one : from.at("disks")) {
    checkpoint.disks.push_back({.base = one.at(0).get<std::string>(),
                                .overlay = one.at(1).get<std::string>(),
                                .mark = one.at(2).get<std::string>(),
                                .disk_id = one.at(3).get<std::string>()});
  }
  return checkpoint;
}

}  // namespace

// What the host makes anew at each start is not kept.
bool HostState::is_kept(const Instance& instance) const {
  return objects_.is_a(instance.class_name, "CIM_SettingData") ||
         instance.class_name == "Msvm_VirtualSystemReferencePoint" ||
         (instance.class_name == "Msvm_ComputerSystem" && instance.text("Name") != host_);
}

Status HostState::save() const {
  json all{{"objects", json::array()}, {"links", json::array()}, {"unclean", unclean}};
  for (const auto& [path, instance] : objects_.instances()) {
    if (is_kept(instance)) all["objects"].push_back(hvsim::to_json(instance));
  }
  for (const Objects::Link& link : objects_.links()) {
    if (link.association == "Msvm_AffectedJobElement") continue;
    all["links"].push_back(
        json::array({link.association, hvsim::to_json(link.left), hvsim::to_json(link.right)}));
  }
  for (const auto& [guid, vm] : vms) {
    all["vms"][guid] = {{"boots_witness", vm.boots_witness}, {"arguments", vm.arguments}};
  }
  for (const auto& [guid, one] : checkpoints) all["checkpoints"][guid] = to_json(one);
  for (const auto& [disk, one] : tracking_) all["tracking"][disk] = one.to_json();
  const std::string fresh = file_ + ".new";
  std::ofstream out(fresh);
  out << all.dump(1) << '\n';
  out.close();
  if (!out || std::rename(fresh.c_str(), file_.c_str()) != 0) {
    return fail(ErrorCode::kIo, "write " + file_);
  }
  return {};
}

Status HostState::load() {
  std::ifstream in(file_);
  if (!in) return {};
  try {
    const json all = json::parse(in);
    for (const json& one : all.at("objects")) objects_.add(instance_from(one));
    for (const json& one : all.at("links")) {
      const Instance* left = objects_.find(reference_from(one.at(1)));
      const Instance* right = objects_.find(reference_from(one.at(2)));
      if (left == nullptr || right == nullptr) continue;
      objects_.associate(one.at(0).get<std::string>(), *left, *right);
    }
    unclean = all.at("unclean").get<std::set<std::string>>();
    const json known_vms = all.value("vms", json::object());
    for (const auto& [guid, one] : known_vms.items()) {
      vms[guid] = {.boots_witness = one.at("boots_witness").get<bool>(),
                   .arguments = one.at("arguments").get<std::string>()};
    }
    const json open = all.value("checkpoints", json::object());
    for (const auto& [guid, one] : open.items()) checkpoints[guid] = checkpoint_from(one);
    const json written = all.value("tracking", json::object());
    for (const auto& [disk, one] : written.items()) {
      tracking_[disk] = ChangeTracking::from_json(one);
    }
  } catch (const json::exception& error) {
    return fail(ErrorCode::kCorrupt, file_ + ": " + error.what());
  }
  return {};
}

ChangeTracking& HostState::tracking_of(const std::string& disk) {
  return tracking_[lower_case(disk)];
}

void HostState::drop_mark(const std::string& mark) {
  for (auto& [disk, one] : tracking_) one.drop(mark);
}

void HostState::lose_tracking(const std::string& guid, const std::vector<std::string>& disks) {
  for (const std::string& disk : disks) tracking_of(disk).lose();
  const auto open = checkpoints.find(guid);
  if (open == checkpoints.end() || open->second.stage == Checkpoint::Stage::kMerging) return;
  for (const CheckpointDisk& one : open->second.disks) tracking_of(one.base).mark(one.mark);
}

}  // namespace farside::hvsim
