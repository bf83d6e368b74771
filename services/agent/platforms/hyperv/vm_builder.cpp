#include "services/agent/platforms/hyperv/vm_builder.h"

#include <arpa/inet.h>
#include <fmt/format.h>

#include <algorithm>
#include <charconv>

#include "common/base/log.h"

namespace farside::agent::hyperv {
namespace {

using wsman::Instance;
using wsman::Value;

constexpr std::uint16_t kIdeController = 5;
constexpr std::uint16_t kScsi = 6;
constexpr std::uint16_t kEthernet = 10;
constexpr std::uint16_t kDrive = 17;
constexpr std::uint16_t kDisk = 31;
constexpr std::uint16_t kEthernetConnection = 33;
constexpr const char* kIde = "Microsoft:Hyper-V:Emulated IDE Controller";
constexpr std::size_t kIdePlaces = 2;
constexpr std::size_t kScsiPlaces = 64;
constexpr std::uint32_t kVlanAccess = 1;
constexpr std::uint16_t kStartNothing = 2;
constexpr std::uint16_t kIpv4 = 4096;
constexpr std::uint16_t kIpv6 = 4097;

wsman::Reference management() {
  return wsman::service("Msvm_VirtualSystemManagementService");
}

Instance part(std::string class_name, std::uint16_t type, const char* sub_type) {
  return {.class_name = std::move(class_name),
          .properties = {{"ResourceType", Value::u16(type)},
                         {"ResourceSubType", Value::text(sub_type)}}};
}

}  // namespace

Status VmBuilder::build(const VmPlan& plan) {
  Mark unfinished = plan.mark;
  unfinished.is_unfinished = true;
  FARSIDE_ASSIGN(settings_id_, define({.shape = plan.shape,
                                       .mark = unfinished,
                                       .folder = plan.folder,
                                       .disks = {},
                                       .ports = {}}));
  FARSIDE_TRY(set_memory_and_processors(plan));
  FARSIDE_TRY(add_disks(plan));
  for (std::size_t i = 0; i < plan.shape.nics.size(); ++i) {
    FARSIDE_TRY(add_card(plan.shape.nics[i], plan.ports.at(i)));
  }
  return set_notes(host_, settings_id_, to_notes(plan.mark));
}

Result<std::string> VmBuilder::define(const VmPlan& plan) {
  const bool is_gen2 = plan.shape.generation == 2;
  Instance settings{
      .class_name = "Msvm_VirtualSystemSettingData",
      .properties = {{"ElementName", Value::text(plan.shape.name)},
                     {"ConfigurationDataRoot", Value::text(plan.folder)},
                     {"VirtualSystemSubType",
                      Value::text(fmt::format("Microsoft:Hyper-V:SubType:{}", is_gen2 ? 2 : 1))},
                     {"Notes", Value::texts(to_notes(plan.mark))},
                     // A replica starts when it is told to, not with its host.
                     {"AutomaticStartupAction", Value::u16(kStartNothing)}}};
  // Guests of other hypervisors are not signed for it.
  if (is_gen2) settings.properties["SecureBootEnabled"] = Value::flag(false);
  const auto defined = host_.call(management(), "DefineSystem",
                                  {{"SystemSettings", Value::embedded(std::move(settings))}});
  if (!defined) return fail(defined.error().in("create VM '" + plan.shape.name + "'"));
  FARSIDE_ASSIGN(const VirtualMachine made, host_.find(plan.mark.vm));
  guid_ = made.guid;
  return made.settings_id;
}

Status VmBuilder::set_memory_and_processors(const VmPlan& plan) {
  FARSIDE_ASSIGN(const auto parts, host_.parts(settings_id_));
  for (const Instance& one : parts) {
    Instance change{.class_name = one.class_name,
                    .properties = {{"InstanceID", Value::text(one.text("InstanceID"))}}};
    if (one.class_name == "Msvm_MemorySettingData" && plan.shape.memory_mib > 0) {
      const std::uint64_t mib = plan.shape.memory_mib;
      change.properties["VirtualQuantity"] = Value::u64(mib);
      change.properties["Reservation"] = Value::u64(mib);
      change.properties["Limit"] = Value::u64(mib);
      change.properties["DynamicMemoryEnabled"] = Value::flag(false);
    } else if (one.class_name == "Msvm_ProcessorSettingData" && plan.shape.processors > 0) {
      change.properties["VirtualQuantity"] = Value::u64(plan.shape.processors);
    } else {
      continue;
    }
    FARSIDE_TRY(
        host_.call(management(), "ModifyResourceSettings",
                   {{"ResourceSettings", Value::list({Value::embedded(std::move(change))})}}));
  }
  return {};
}

Result<std::string> VmBuilder::path_of(const Instance& part) {
  return host_.path_of(setting_of(part.class_name, part.text("InstanceID")));
}

// What is there afterwards and was not before: the host may tell of it in the answer, in the job,
// or not at all.
Result<Instance> VmBuilder::add(Instance part) {
  FARSIDE_ASSIGN(const auto before, host_.parts(settings_id_));
  const std::string sub_type = part.text("ResourceSubType");
  const auto added =
      host_.call(management(), "AddResourceSettings",
                 {{"AffectedConfiguration",
                   Value::reference(setting_of("Msvm_VirtualSystemSettingData", settings_id_))},
                  {"ResourceSettings", Value::list({Value::embedded(std::move(part))})}});
  if (!added) return fail(added.error().in("add '" + sub_type + "' to a VM"));
  FARSIDE_ASSIGN(const auto after, host_.parts(settings_id_));
  for (const Instance& one : after) {
    const std::string id = one.text("InstanceID");
    const bool is_old = std::ranges::any_of(
        before, [&](const Instance& old) { return old.text("InstanceID") == id; });
    if (!is_old && one.text("ResourceSubType") == sub_type) return one;
  }
  return fail(ErrorCode::kPlatform, "the host added '" + sub_type + "' and does not show it");
}

// A generation 1 VM boots from IDE, which takes two disks of its first controller.
Status VmBuilder::add_disks(const VmPlan& plan) {
  const bool has_ide = plan.shape.generation != 2;
  std::optional<Instance> ide;
  if (has_ide) {
    FARSIDE_ASSIGN(const auto parts, host_.parts(settings_id_));
    for (const Instance& one : parts) {
      if (!is_part(one, kIde) || one.number_or("ResourceType", 0) != kIdeController) continue;
      if (!ide || one.text("Address") < ide->text("Address")) ide = one;
    }
  }
  std::optional<Instance> scsi;
  std::size_t on_ide = 0;
  std::size_t on_scsi = 0;
  for (const std::string& path : plan.disks) {
    const bool goes_on_ide = ide && on_ide < kIdePlaces;
    if (!goes_on_ide && on_scsi == kScsiPlaces) {
      return fail(ErrorCode::kUnsupported,
                  fmt::format("VM '{}' has more disks than a controller takes", plan.shape.name));
    }
    if (!goes_on_ide && !scsi) {
      FARSIDE_ASSIGN(scsi, add(part("Msvm_ResourceAllocationSettingData", kScsi, kScsiController)));
    }
    FARSIDE_ASSIGN(const std::string controller, path_of(goes_on_ide ? *ide : *scsi));
    Instance drive = part("Msvm_ResourceAllocationSettingData", kDrive, kDiskDrive);
    drive.properties["Parent"] = Value::text(controller);
    drive.properties["AddressOnParent"] =
        Value::text(std::to_string(goes_on_ide ? on_ide++ : on_scsi++));
    FARSIDE_ASSIGN(const Instance added, add(std::move(drive)));
    FARSIDE_ASSIGN(const std::string drive_path, path_of(added));
    Instance disk = part("Msvm_StorageAllocationSettingData", kDisk, kHardDisk);
    disk.properties["Parent"] = Value::text(drive_path);
    disk.properties["HostResource"] = Value::texts({path});
    FARSIDE_TRY(add(std::move(disk)));
  }
  return {};
}

Status VmBuilder::add_card(const msg::Nic& nic, const std::optional<Port>& port) {
  Instance card = part("Msvm_SyntheticEthernetPortSettingData", kEthernet, kNetworkCard);
  card.properties["ElementName"] = Value::text("Network Adapter");
  if (!nic.mac.empty()) {
    card.properties["Address"] = Value::text(mac_address(nic.mac));
    card.properties["StaticMacAddress"] = Value::flag(true);
  }
  FARSIDE_ASSIGN(const Instance added, add(std::move(card)));
  if (port) FARSIDE_TRY(connect(added, *port));
  return nic.address.empty() ? Status() : set_address(added, nic.address);
}

Status VmBuilder::connect(const Instance& card, const Port& port) {
  FARSIDE_ASSIGN(const std::string card_path, path_of(card));
  Instance connection =
      part("Msvm_EthernetPortAllocationSettingData", kEthernetConnection, kConnection);
  connection.properties["Parent"] = Value::text(card_path);
  if (!port.switch_name.empty()) {
    FARSIDE_ASSIGN(const auto switches, host_.switches());
    const auto found = std::ranges::find_if(
        switches, [&](const auto& one) { return one.second == port.switch_name; });
    if (found == switches.end()) {
      return fail(ErrorCode::kNotFound,
                  "this host has no switch '" + port.switch_name + "' any more");
    }
    FARSIDE_ASSIGN(const std::string switch_path,
                   host_.path_of({.class_name = "Msvm_VirtualEthernetSwitch",
                                  .keys = {{"CreationClassName", "Msvm_VirtualEthernetSwitch"},
                                           {"Name", found->first}}}));
    connection.properties["HostResource"] = Value::texts({switch_path});
  }
  FARSIDE_ASSIGN(const Instance connected, add(std::move(connection)));
  return port.vlan == 0 ? Status() : set_vlan(connected, port);
}

Status VmBuilder::set_vlan(const Instance& connection, const Port& port) {
  const Instance vlan{
      .class_name = "Msvm_EthernetSwitchPortVlanSettingData",
      .properties = {{"OperationMode", Value::u32(kVlanAccess)},
                     {"AccessVlanId", Value::u16(static_cast<std::uint16_t>(port.vlan))}}};
  FARSIDE_TRY(host_.call(
      management(), "AddFeatureSettings",
      {{"AffectedConfiguration",
        Value::reference(setting_of(connection.class_name, connection.text("InstanceID")))},
       {"FeatureSettings", Value::list({Value::embedded(vlan)})}}));
  return {};
}

// The guest's integration services take it over when they first run.
Status VmBuilder::set_address(const Instance& card, const std::string& text) {
  FARSIDE_ASSIGN(const GuestAddress wanted, parse_guest_address(text));
  FARSIDE_ASSIGN(const auto all,
                 host_.query("SELECT * FROM Msvm_GuestNetworkAdapterConfiguration"));
  // "Microsoft:GuestNetwork\VM\CARD" belongs to "Microsoft:VM\CARD".
  const std::string card_id = card.text("InstanceID");
  const std::string end = card_id.substr(std::min(card_id.find('\\'), card_id.size()));
  for (const Instance& one : all) {
    const std::string id = one.text("InstanceID");
    if (!id.contains(guid_) || !id.ends_with(end)) continue;
    const Instance change{
        .class_name = "Msvm_GuestNetworkAdapterConfiguration",
        .properties = {{"InstanceID", Value::text(id)},
                       {"ProtocolIFType", Value::u16(wanted.is_v6 ? kIpv6 : kIpv4)},
                       {"DHCPEnabled", Value::flag(false)},
                       {"IPAddresses", Value::texts({wanted.address})},
                       {"Subnets", Value::texts({wanted.mask})}}};
    FARSIDE_TRY(host_.call(management(), "SetGuestNetworkAdapterConfiguration",
                           {{"ComputerSystem", Value::reference(system_of(guid_))},
                            {"NetworkConfiguration", Value::list({Value::embedded(change)})}}));
    return {};
  }
  // The VM is of use without it; what is on its disks decides then.
  log::warn("guest_address_not_set", {{"vm", guid_}, {"address", text}});
  return {};
}

Result<GuestAddress> parse_guest_address(const std::string& text) {
  GuestAddress out{.address = text.substr(0, text.find('/')), .mask = {}, .is_v6 = false};
  in_addr v4{};
  in6_addr v6{};
  out.is_v6 = ::inet_pton(AF_INET6, out.address.c_str(), &v6) == 1;
  bool is_valid = out.is_v6 || ::inet_pton(AF_INET, out.address.c_str(), &v4) == 1;
  unsigned bits = out.is_v6 ? 64 : 24;  // What networks of hosts usually have.
  if (out.address.size() < text.size()) {
    const char* const begin = text.data() + out.address.size() + 1;
    const char* const end = text.data() + text.size();
    const auto [stop, error] = std::from_chars(begin, end, bits);
    is_valid = is_valid && error == std::errc() && stop == end && bits <= (out.is_v6 ? 128U : 32U);
  }
  if (!is_valid) {
    return fail(ErrorCode::kInvalidArgument, "'" + text + "' is no address of a guest",
                "write it like 10.1.2.3/24");
  }
  if (out.is_v6) {
    out.mask = std::to_string(bits);
  } else {
    const std::uint32_t mask = bits == 0 ? 0 : ~std::uint32_t{0} << (32U - bits);
    out.mask = fmt::format("{}.{}.{}.{}", mask >> 24U, (mask >> 16U) & 255U, (mask >> 8U) & 255U,
                           mask & 255U);
  }
  return out;
}

Status destroy(Host& host, const std::string& guid) {
  const auto destroyed = host.call(management(), "DestroySystem",
                                   {{"AffectedSystem", Value::reference(system_of(guid))}});
  if (destroyed) return {};
  // Hosts do not say plainly of a VM that it is gone: look.
  const auto still =
      host.query(fmt::format("SELECT * FROM Msvm_ComputerSystem WHERE Name='{}'", guid));
  if (still && still->empty()) return {};
  return fail(destroyed.error().in("remove VM " + guid));
}

Status set_notes(Host& host, const std::string& settings_id,
                 const std::vector<std::string>& notes) {
  const Instance change{
      .class_name = "Msvm_VirtualSystemSettingData",
      .properties = {{"InstanceID", Value::text(settings_id)}, {"Notes", Value::texts(notes)}}};
  FARSIDE_TRY(host.call(management(), "ModifySystemSettings",
                        {{"SystemSettings", Value::embedded(change)}}));
  return {};
}

}  // namespace farside::agent::hyperv
