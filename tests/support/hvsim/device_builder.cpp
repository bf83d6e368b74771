#include "tests/support/hvsim/device_builder.h"

#include <fmt/format.h>

#include <algorithm>
#include <cctype>
#include <map>
#include <set>

#include "tests/support/hvsim/known_properties.h"
#include "tests/support/hvsim/vhdx_shape.h"

namespace farside::hvsim {
namespace {

constexpr std::size_t kScsiControllersMax = 4;
constexpr std::uint64_t kScsiSlots = 64;
constexpr std::uint64_t kIdeSlots = 2;

struct Kind {
  const char* class_name;
  const char* sub_type;
};

const std::map<std::uint64_t, Kind> kKinds{
    {kScsiController,
     {"Msvm_ResourceAllocationSettingData", "Microsoft:Hyper-V:Synthetic SCSI Controller"}},
    {kDiskDrive, {"Msvm_ResourceAllocationSettingData", "Microsoft:Hyper-V:Synthetic Disk Drive"}},
    {kHardDisk, {"Msvm_StorageAllocationSettingData", "Microsoft:Hyper-V:Virtual Hard Disk"}},
    {kNetworkCard,
     {"Msvm_SyntheticEthernetPortSettingData", "Microsoft:Hyper-V:Synthetic Ethernet Port"}},
    {kNetworkConnection,
     {"Msvm_EthernetPortAllocationSettingData", "Microsoft:Hyper-V:Ethernet Connection"}}};

std::unexpected<Error> invalid(const std::string& what) {
  return fail(ErrorCode::kInvalidArgument, what);
}

std::uint64_t type_of(const Instance& device) {
  return device.number_or("ResourceType", 0);
}

// "Microsoft:VM\A\B" without the VM.
std::string local_id(const Instance& settings, const Instance& part) {
  return part.text("InstanceID").substr(settings.text("InstanceID").size() + 1);
}

}  // namespace

Result<Reference> DeviceBuilder::add(const Instance& settings, const Instance& device) {
  const auto kind = kKinds.find(type_of(device));
  if (kind == kKinds.end() || device.class_name != kind->second.class_name ||
      device.text("ResourceSubType") != kind->second.sub_type) {
    return invalid("no device: " + device.class_name + " " + device.text("ResourceType") + " " +
                   device.text("ResourceSubType"));
  }
  if (const std::string name = unknown_property(device); !name.empty()) {
    return invalid(device.class_name + " has no " + name);
  }
  switch (kind->first) {
    case kScsiController:
      return add_controller(settings, device);
    case kDiskDrive:
      return add_drive(settings, device);
    case kHardDisk:
      return add_disk(settings, device);
    case kNetworkCard:
      return add_card(settings, device);
    default:
      return add_connection(settings, device);
  }
}

Reference DeviceBuilder::put(const Instance& settings, Instance device, const std::string& id) {
  const std::string class_name = device.class_name;
  return objects_.objects().reference_to(
      objects_.add_part(settings, class_name, id, std::move(device.properties)));
}

Result<const Instance*> DeviceBuilder::parent_of(const Instance& settings, Instance& device,
                                                 std::initializer_list<std::uint64_t> types) {
  const std::string path = device.text("Parent");
  const Instance* parent = objects_.at_path(path);
  const Instance* owner = parent == nullptr ? nullptr : objects_.settings_of(*parent);
  if (owner == nullptr || owner->text("InstanceID") != settings.text("InstanceID") ||
      std::ranges::find(types, type_of(*parent)) == types.end()) {
    return invalid("no parent for such a device: " + path);
  }
  device.properties["Parent"] = objects_.path_to(*parent);
  return parent;
}

std::vector<const Instance*> DeviceBuilder::children_of(const Instance& settings,
                                                        const Instance& parent) {
  const Instance wanted{"", {{"path", objects_.path_to(parent)}}};
  std::vector<const Instance*> children;
  for (const Instance* one : objects_.parts(settings, "")) {
    if (one->text("Parent") == wanted.text("path")) children.push_back(one);
  }
  return children;
}

Result<Reference> DeviceBuilder::add_controller(const Instance& settings, Instance device) {
  std::size_t count = 0;
  for (const Instance* one : objects_.parts(settings, "")) {
    if (type_of(*one) == kScsiController) ++count;
  }
  if (count == kScsiControllersMax) return invalid("too many controllers");
  return put(settings, std::move(device), objects_.new_guid() + "\\0");
}

Result<Reference> DeviceBuilder::add_drive(const Instance& settings, Instance device) {
  FARSIDE_ASSIGN(const Instance* controller,
                 parent_of(settings, device, {kScsiController, kIdeController}));
  std::set<std::uint64_t> taken;
  for (const Instance* one : children_of(settings, *controller)) {
    taken.insert(one->number_or("AddressOnParent", 0));
  }
  std::uint64_t slot = 0;
  while (taken.contains(slot)) ++slot;
  if (!device.text("AddressOnParent").empty()) {
    const auto given = device.number("AddressOnParent");
    if (!given || taken.contains(*given)) return invalid("no such slot, or it is taken");
    slot = *given;
  }
  if (slot >= (type_of(*controller) == kScsiController ? kScsiSlots : kIdeSlots)) {
    return invalid("the controller has no such slot");
  }
  device.properties["AddressOnParent"] = Value::text(std::to_string(slot));
  return put(settings, std::move(device),
             fmt::format("{}\\{}\\D", local_id(settings, *controller), slot));
}

Status DeviceBuilder::check_disk_file(const Instance& disk) const {
  const auto paths = disk.texts("HostResource");
  if (paths.size() != 1) return invalid("a disk has one file");
  FARSIDE_ASSIGN(const std::string file, files_.file_of(paths[0]));
  const std::string name = lower_case(paths[0]);
  if (!name.ends_with(".vhdx") && !name.ends_with(".avhdx")) return invalid("no VHDX: " + name);
  FARSIDE_TRY(read_vhdx_shape(file));
  return {};
}

Result<Reference> DeviceBuilder::add_disk(const Instance& settings, Instance device) {
  FARSIDE_ASSIGN(const Instance* drive, parent_of(settings, device, {kDiskDrive}));
  if (!children_of(settings, *drive).empty()) return invalid("the drive has a disk already");
  FARSIDE_TRY(check_disk_file(device));
  std::string id = local_id(settings, *drive);
  id.back() = 'L';
  return put(settings, std::move(device), id);
}

Result<Reference> DeviceBuilder::add_card(const Instance& settings, Instance device) {
  const bool is_static = device.flag("StaticMacAddress");
  const std::string mac = device.text("Address");
  const bool is_mac = mac.size() == 12 && std::ranges::all_of(mac, [](unsigned char c) {
                        return std::isxdigit(c) != 0;
                      });
  if (is_static ? !is_mac : !mac.empty()) return invalid("MAC address: " + mac);
  const std::string own = objects_.new_guid();
  device.properties["Address"] =
      Value::text(is_static ? upper_case(mac) : "00155D" + own.substr(0, 6));
  device.properties["StaticMacAddress"] = Value::flag(is_static);
  const auto given = device.texts("VirtualSystemIdentifiers");
  if (given.size() > 1 || (given.size() == 1 && given[0].size() != own.size() + 2)) {
    return invalid("an identifier is a GUID in braces");
  }
  const std::string id = given.empty() ? own : upper_case(given[0].substr(1, own.size()));
  device.properties["VirtualSystemIdentifiers"] = Value::texts({"{" + id + "}"});
  const Reference added = put(settings, std::move(device), id);
  Objects& objects = objects_.objects();
  const std::string vm = settings.text("VirtualSystemIdentifier");
  const Instance& guest = objects.add(
      {"Msvm_GuestNetworkAdapterConfiguration",
       {{"InstanceID", Value::text(fmt::format("Microsoft:GuestNetwork\\{}\\{}", vm, id))},
        {"ProtocolIFType", Value::u16(4096)},
        {"DHCPEnabled", Value::flag(true)},
        {"IPAddresses", Value::list({})},
        {"Subnets", Value::list({})},
        {"DefaultGateways", Value::list({})},
        {"DNSServers", Value::list({})}}});
  objects.associate("Msvm_SettingDataComponent", *objects.find(added), guest);
  return added;
}

Status DeviceBuilder::check_connection(Instance& connection) {
  const auto resources = connection.list("HostResource");
  if (resources.size() > 1) return invalid("a connection is to one switch");
  const std::string path = resources.empty() ? "" : connection.texts("HostResource")[0];
  if (path.empty()) return {};
  const Instance* network = objects_.at_path(path);
  if (network == nullptr || network->class_name != "Msvm_VirtualEthernetSwitch") {
    return fail(ErrorCode::kNotFound, "no switch: " + path);
  }
  connection.properties["HostResource"] = Value::list({objects_.path_to(*network)});
  connection.properties["LastKnownSwitchName"] = Value::text(network->text("ElementName"));
  return {};
}

Result<Reference> DeviceBuilder::add_connection(const Instance& settings, Instance device) {
  FARSIDE_ASSIGN(const Instance* card, parent_of(settings, device, {kNetworkCard}));
  if (!children_of(settings, *card).empty()) return invalid("the card is connected already");
  FARSIDE_TRY(check_connection(device));
  if (device.text("EnabledState").empty()) device.properties["EnabledState"] = Value::u16(2);
  return put(settings, std::move(device), local_id(settings, *card) + "\\C");
}

}  // namespace farside::hvsim
