#include "tests/support/hvsim/vm_objects.h"

#include <fmt/format.h>

#include <algorithm>
#include <tuple>

#include "common/wsman/wmi_path.h"
#include "tests/support/hvsim/host_files.h"

namespace farside::hvsim {
namespace {

constexpr const char* kComponent = "Msvm_VirtualSystemSettingDataComponent";
// Windows gives these parts the same names in every VM.
constexpr const char* kProcessorId = "B637F346-6A0E-4DEC-AF52-BD70CB80A21D\\0";
constexpr const char* kMemoryId = "4764334D-E001-4176-82EE-5594EC9B530E";
constexpr const char* kIdeId = "83F8638B-8DCA-4152-9EDA-2CA8B33039B4";

std::string id_of(const std::string& guid) {
  return "Microsoft:" + guid;
}

Value datetime(const char* text) {
  return Value{wsman::Scalar{wsman::CimType::kDatetime, text}};
}

}  // namespace

std::string VmObjects::new_guid() const {
  return upper_case(random_.uuid());
}

Value VmObjects::path_to(const Instance& instance) const {
  Reference reference = objects_.reference_to(instance);
  reference.host = host_;
  return Value::text(to_wmi_path(reference));
}

Instance* VmObjects::at_path(const std::string& wmi_path) {
  auto reference = wsman::parse_wmi_path(wmi_path);
  if (!reference || !objects_.has_class(reference->class_name)) return nullptr;
  reference->host.clear();
  return reference->keys.empty() ? nullptr : objects_.find(*reference);
}

Instance* VmObjects::system(const std::string& guid) {
  if (guid == host_) return nullptr;
  return objects_.find({.class_name = "Msvm_ComputerSystem",
                        .keys = {{"CreationClassName", "Msvm_ComputerSystem"}, {"Name", guid}}});
}

Instance* VmObjects::settings(const std::string& id) {
  return objects_.find(
      {.class_name = "Msvm_VirtualSystemSettingData", .keys = {{"InstanceID", id_of(id)}}});
}

std::vector<std::string> VmObjects::guids() {
  std::vector<std::string> all;
  for (const Instance* one : objects_.of_class("Msvm_ComputerSystem")) {
    if (one->text("Name") != host_) all.push_back(one->text("Name"));
  }
  return all;
}

bool VmObjects::is_realized(const Instance& settings) const {
  return settings.text("VirtualSystemType") == "Microsoft:Hyper-V:System:Realized";
}

void VmObjects::set_state(const std::string& guid, std::uint16_t state) {
  if (Instance* one = system(guid); one != nullptr) {
    one->properties["EnabledState"] = Value::u16(state);
  }
}

std::uint16_t VmObjects::state(const std::string& guid) {
  const Instance* one = system(guid);
  return one == nullptr ? 0 : static_cast<std::uint16_t>(one->number_or("EnabledState", 0));
}

Instance& VmObjects::define(const VmShape& shape) {
  const Instance& system =
      objects_.add({"Msvm_ComputerSystem",
                    {{"CreationClassName", Value::text("Msvm_ComputerSystem")},
                     {"Name", Value::text(shape.guid)},
                     {"ElementName", Value::text(shape.name)},
                     {"Description", Value::text(description_)},
                     {"Caption", Value::text(description_)},
                     {"EnabledState", Value::u16(3)},
                     {"RequestedState", Value::u16(12)},
                     {"HealthState", Value::u16(5)},
                     {"OperationalStatus", Value::list({Value::u16(2)}, wsman::CimType::kUint16)},
                     {"OnTimeInMilliseconds", Value::u64(0)},
                     {"InstallDate", datetime("2026-01-01T00:00:00Z")},
                     {"OtherEnabledState", Value::null()}}});
  const std::string home = R"(C:\VMs\)" + shape.name;
  Instance& settings =
      objects_.add({"Msvm_VirtualSystemSettingData",
                    {{"InstanceID", Value::text(id_of(shape.guid))},
                     {"ElementName", Value::text(shape.name)},
                     {"VirtualSystemIdentifier", Value::text(shape.guid)},
                     {"ConfigurationID", Value::text(shape.guid)},
                     {"VirtualSystemType", Value::text("Microsoft:Hyper-V:System:Realized")},
                     {"VirtualSystemSubType",
                      Value::text(fmt::format("Microsoft:Hyper-V:SubType:{}", shape.generation))},
                     {"Version", Value::text("9.0")},
                     {"ConfigurationDataRoot", Value::text(home)},
                     {"SnapshotDataRoot", Value::text(home)},
                     {"CreationTime", datetime("2026-01-01T00:00:00Z")},
                     {"Notes", Value::texts({})},
                     {"Parent", Value::null()},
                     {"SecureBootEnabled", Value::flag(false)},
                     {"AutomaticStartupAction", Value::u16(2)},
                     {"AutomaticShutdownAction", Value::u16(3)}}});
  objects_.associate("Msvm_SettingsDefineState", system, settings);
  add_part(settings, "Msvm_ProcessorSettingData", kProcessorId,
           {{"ResourceType", Value::u16(3)},
            {"ResourceSubType", Value::text("Microsoft:Hyper-V:Processor")},
            {"VirtualQuantity", Value::u64(shape.processors)},
            {"Limit", Value::u64(100'000)}});
  add_part(settings, "Msvm_MemorySettingData", kMemoryId,
           {{"ResourceType", Value::u16(4)},
            {"ResourceSubType", Value::text("Microsoft:Hyper-V:Memory")},
            {"VirtualQuantity", Value::u64(shape.memory_mib)},
            {"Reservation", Value::u64(shape.memory_mib)},
            {"Limit", Value::u64(shape.memory_mib)},
            {"DynamicMemoryEnabled", Value::flag(false)},
            {"AllocationUnits", Value::text("byte * 2^20")}});
  for (int i = 0; shape.generation == 1 && i < 2; ++i) {
    add_part(settings, "Msvm_ResourceAllocationSettingData", fmt::format("{}\\{}", kIdeId, i),
             {{"ResourceType", Value::u16(5)},
              {"ResourceSubType", Value::text("Microsoft:Hyper-V:Emulated IDE Controller")},
              {"Address", Value::text(std::to_string(i))},
              {"Parent", Value::null()}});
  }
  return settings;
}

Instance& VmObjects::add_part(const Instance& settings, const std::string& class_name,
                              const std::string& id, Properties properties) {
  properties["InstanceID"] = Value::text(settings.text("InstanceID") + "\\" + id);
  Instance& added = objects_.add({class_name, std::move(properties)});
  objects_.associate(kComponent, settings, added);
  return added;
}

std::vector<Instance*> VmObjects::parts(const Instance& settings, const std::string& class_name) {
  std::vector<Instance*> found;
  for (const Instance* one :
       objects_.associated(objects_.reference_to(settings), kComponent, class_name)) {
    found.push_back(objects_.find(objects_.reference_to(*one)));
  }
  return found;
}

Instance* VmObjects::part(const Instance& settings, const std::string& class_name) {
  const auto found = parts(settings, class_name);
  return found.empty() ? nullptr : found.front();
}

Instance* VmObjects::settings_of(const Instance& part) {
  const auto found =
      objects_.associated(objects_.reference_to(part), kComponent, "Msvm_VirtualSystemSettingData");
  return found.empty() ? nullptr : objects_.find(objects_.reference_to(*found.front()));
}

void VmObjects::remove_part(const Instance& part) {
  const std::string path = Instance{"", {{"path", path_to(part)}}}.text("path");
  const Reference self = objects_.reference_to(part);
  std::vector<Reference> hanging;
  if (const Instance* settings = settings_of(part); settings != nullptr) {
    for (const Instance* one : parts(*settings, "")) {
      if (one->text("Parent") == path) hanging.push_back(objects_.reference_to(*one));
    }
  }
  for (const Objects::Link& link : objects_.links()) {
    const bool hangs = link.association == "Msvm_EthernetPortSettingDataComponent" ||
                       link.association == "Msvm_SettingDataComponent";
    if (hangs && link.left == self) hanging.push_back(link.right);
  }
  for (const Reference& one : hanging) {
    if (const Instance* found = objects_.find(one); found != nullptr) remove_part(*found);
  }
  objects_.remove(self);
}

std::vector<AttachedDisk> VmObjects::disks(const Instance& settings) {
  using Place = std::tuple<std::uint64_t, std::string, std::uint64_t>;
  std::vector<std::pair<Place, AttachedDisk>> found;
  for (const Instance* disk : parts(settings, "Msvm_StorageAllocationSettingData")) {
    const auto paths = disk->texts("HostResource");
    if (disk->number_or("ResourceType", 0) != 31 || paths.empty()) continue;
    const Instance* drive = at_path(disk->text("Parent"));
    const Instance* controller = drive == nullptr ? nullptr : at_path(drive->text("Parent"));
    if (controller == nullptr) continue;
    found.emplace_back(
        Place{controller->number_or("ResourceType", 0), controller->text("InstanceID"),
              drive->number_or("AddressOnParent", 0)},
        AttachedDisk{objects_.reference_to(*disk), paths.front()});
  }
  std::ranges::sort(found, {}, [](const auto& one) { return one.first; });
  std::vector<AttachedDisk> disks;
  for (auto& [place, disk] : found) disks.push_back(std::move(disk));
  return disks;
}

std::vector<std::string> VmObjects::macs(const Instance& settings) {
  std::vector<std::string> macs;
  for (const Instance* card : parts(settings, "Msvm_SyntheticEthernetPortSettingData")) {
    std::string mac = card->text("Address");
    for (std::size_t at = 2; at < mac.size(); at += 3) mac.insert(at, ":");
    macs.push_back(mac);
  }
  return macs;
}

Instance& VmObjects::copy_as_checkpoint(const std::string& guid, const std::string& id) {
  const Instance original = *settings(guid);
  const auto renamed = [&](std::string text) {
    if (const std::size_t at = text.find(guid); at != std::string::npos) {
      text.replace(at, guid.size(), id);
    }
    return Value::text(text);
  };
  Instance copy = original;
  copy.properties["InstanceID"] = Value::text(id_of(id));
  copy.properties["ConfigurationID"] = Value::text(id);
  copy.properties["VirtualSystemType"] = Value::text("Microsoft:Hyper-V:Snapshot:Recovery");
  copy.properties["Parent"] = Value::null();
  Instance& settings = objects_.add(std::move(copy));
  for (const Instance* one : parts(original, "")) {
    Instance part = *one;
    part.properties["InstanceID"] = renamed(part.text("InstanceID"));
    if (!part.text("Parent").empty()) part.properties["Parent"] = renamed(part.text("Parent"));
    objects_.associate(kComponent, settings, objects_.add(std::move(part)));
  }
  return settings;
}

void VmObjects::remove_settings(const std::string& id) {
  const Instance* found = settings(id);
  if (found == nullptr) return;
  const Reference self = objects_.reference_to(*found);
  std::vector<Reference> all;
  for (const Instance* one : parts(*found, "")) all.push_back(objects_.reference_to(*one));
  for (const Reference& one : all) {
    if (const Instance* part = objects_.find(one); part != nullptr) remove_part(*part);
  }
  objects_.remove(self);
}

void VmObjects::remove(const std::string& guid) {
  remove_settings(guid);
  if (const Instance* one = system(guid); one != nullptr) {
    objects_.remove(objects_.reference_to(*one));
  }
}

}  // namespace farside::hvsim
