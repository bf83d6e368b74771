#include "tests/support/hvsim/hyperv_model.h"

#include <fmt/format.h>

#include <set>

#include "common/wsman/wmi_path.h"

namespace farside::hvsim {
namespace {

using Properties = std::map<std::string, Value, std::less<>>;

constexpr std::uint64_t kRefused = 32775;  // Not in this state.

// EnabledState of a virtual machine.
constexpr std::uint16_t kRunning = 2;
constexpr std::uint16_t kOff = 3;
constexpr std::uint16_t kPaused = 32768;
constexpr std::uint16_t kSaved = 32769;
constexpr std::uint16_t kStarting = 32770;
constexpr std::uint16_t kSaving = 32773;
constexpr std::uint16_t kStopping = 32774;
constexpr std::uint16_t kPausing = 32776;
constexpr std::uint16_t kResuming = 32777;
// Asked for only.
constexpr std::uint16_t kQuiesce = 9;
constexpr std::uint16_t kReset = 11;

void define_classes(Objects& objects) {
  const std::vector<std::string> system{"CreationClassName", "Name"};
  const std::vector<std::string> part{"SystemCreationClassName", "SystemName", "CreationClassName",
                                      "Name"};
  const std::vector<std::string> setting{"InstanceID"};
  objects.define({"CIM_ComputerSystem", "", system});
  objects.define({"Msvm_ComputerSystem", "CIM_ComputerSystem", {}});
  objects.define({"Msvm_VirtualEthernetSwitch", "CIM_ComputerSystem", {}});
  objects.define({"CIM_SettingData", "", setting});
  objects.define({"Msvm_VirtualSystemSettingData", "CIM_SettingData", {}});
  objects.define({"CIM_ResourceAllocationSettingData", "CIM_SettingData", {}});
  for (const char* name :
       {"Msvm_VirtualEthernetSwitchSettingData", "Msvm_EthernetSwitchPortFeatureSettingData",
        "Msvm_GuestNetworkAdapterConfiguration"}) {
    objects.define({name, "CIM_SettingData", {}});
  }
  objects.define(
      {"Msvm_EthernetSwitchPortVlanSettingData", "Msvm_EthernetSwitchPortFeatureSettingData", {}});
  objects.define({"Msvm_VirtualSystemReferencePoint", "", setting});
  objects.define({"Win32_ComputerSystem", "", {"Name"}});
  objects.define({"Win32_OperatingSystem", "", {"Name"}});
  objects.define({"CIM_LogicalDevice",
                  "",
                  {"SystemCreationClassName", "SystemName", "CreationClassName", "DeviceID"}});
  for (const char* name : {"Msvm_ShutdownComponent", "Msvm_Processor", "Msvm_Memory"}) {
    objects.define({name, "CIM_LogicalDevice", {}});
  }
  for (const char* name :
       {"Msvm_ResourceAllocationSettingData", "Msvm_StorageAllocationSettingData",
        "Msvm_SyntheticEthernetPortSettingData", "Msvm_EthernetPortAllocationSettingData",
        "Msvm_ProcessorSettingData", "Msvm_MemorySettingData"}) {
    objects.define({name, "CIM_ResourceAllocationSettingData", {}});
  }
  objects.define({"Msvm_ConcreteJob", "", setting});
  for (const char* name :
       {"Msvm_VirtualSystemManagementService", "Msvm_VirtualSystemSnapshotService",
        "Msvm_VirtualSystemReferencePointService", "Msvm_ImageManagementService"}) {
    objects.define({name, "", part});
  }
  for (const char* name : {"Msvm_SettingsDefineState", "Msvm_VirtualSystemSettingDataComponent",
                           "Msvm_AffectedJobElement", "Msvm_SnapshotOfVirtualSystem",
                           "Msvm_MostCurrentSnapshotInBranch", "Msvm_ReferencePointOfVirtualSystem",
                           "Msvm_EthernetPortSettingDataComponent", "Msvm_SettingDataComponent",
                           "Msvm_SystemDevice"}) {
    objects.define({name, "", {}});
  }
}

Instance& add(Objects& objects, const std::string& class_name, Properties properties) {
  return objects.add({.class_name = class_name, .properties = std::move(properties)});
}

void add_services(Objects& objects, const std::string& host) {
  for (const auto& [name, id] :
       std::map<std::string, std::string>{{"Msvm_VirtualSystemManagementService", "vmms"},
                                          {"Msvm_VirtualSystemSnapshotService", "vmms"},
                                          {"Msvm_VirtualSystemReferencePointService", "vmms"},
                                          {"Msvm_ImageManagementService", "vhdsvc"}}) {
    add(objects, name,
        {{"SystemCreationClassName", Value::text("Msvm_ComputerSystem")},
         {"SystemName", Value::text(host)},
         {"CreationClassName", Value::text(name)},
         {"Name", Value::text(id)},
         {"ElementName", Value::text("Hyper-V")}});
  }
}

Instance& add_system(Objects& objects, const std::string& name, const std::string& element,
                     const std::string& description, std::uint16_t state) {
  return add(
      objects, "Msvm_ComputerSystem",
      {{"CreationClassName", Value::text("Msvm_ComputerSystem")},
       {"Name", Value::text(name)},
       {"ElementName", Value::text(element)},
       {"Description", Value::text(description)},
       {"Caption", Value::text(description)},
       {"EnabledState", Value::u16(state)},
       {"RequestedState", Value::u16(12)},
       {"HealthState", Value::u16(5)},
       {"OperationalStatus", Value::list({Value::u16(2)}, wsman::CimType::kUint16)},
       {"OnTimeInMilliseconds", Value::u64(0)},
       {"InstallDate", Value{wsman::Scalar{wsman::CimType::kDatetime, "2026-01-01T00:00:00Z"}}},
       {"OtherEnabledState", Value::null()}});
}

class VmMaker final {
 public:
  VmMaker(Objects& objects, const std::string& host, const Instance& network)
      : objects_(objects), host_(host), network_(network) {}

  void make(int number, const std::string& description) {
    const std::string guid = vm_guid(number);
    const std::string name = fmt::format("vm-{}", number);
    const Instance& system = add_system(objects_, guid, name, description, kOff);
    id_ = "Microsoft:" + guid;
    settings_ = &add(objects_, "Msvm_VirtualSystemSettingData",
                     {{"InstanceID", Value::text(id_)},
                      {"ElementName", Value::text(name)},
                      {"VirtualSystemIdentifier", Value::text(guid)},
                      {"VirtualSystemType", Value::text("Microsoft:Hyper-V:System:Realized")},
                      {"VirtualSystemSubType", Value::text("Microsoft:Hyper-V:SubType:2")},
                      {"Version", Value::text("9.0")},
                      {"ConfigurationDataRoot", Value::text(R"(C:\VMs\)" + name)},
                      {"Notes", Value::texts({"made by hvsim", "second line"})},
                      {"SecureBootEnabled", Value::flag(false)},
                      {"AutomaticStartupAction", Value::u16(2)}});
    objects_.associate("Msvm_SettingsDefineState", system, *settings_);
    part("Msvm_ProcessorSettingData", "p", 3, "Microsoft:Hyper-V:Processor",
         {{"VirtualQuantity", Value::u64(1)}, {"Limit", Value::u64(100'000)}});
    part("Msvm_MemorySettingData", "m", 4, "Microsoft:Hyper-V:Memory",
         {{"VirtualQuantity", Value::u64(512)},
          {"Reservation", Value::u64(512)},
          {"Limit", Value::u64(1024)},
          {"DynamicMemoryEnabled", Value::flag(false)},
          {"AllocationUnits", Value::text("byte * 2^20")}});
    add_disk(name);
    add_card(number);
  }

 private:
  const Instance& part(const std::string& class_name, const std::string& id, std::uint16_t type,
                       const std::string& sub_type, Properties more) {
    more["InstanceID"] = Value::text(id_ + "\\" + id);
    more["ResourceType"] = Value::u16(type);
    more["ResourceSubType"] = Value::text(sub_type);
    const Instance& added = add(objects_, class_name, std::move(more));
    objects_.associate("Msvm_VirtualSystemSettingDataComponent", *settings_, added);
    return added;
  }
  Value path_to(const Instance& instance) const {
    Reference reference = objects_.reference_to(instance);
    reference.host = host_;
    return Value::text(to_wmi_path(reference));
  }
  void add_disk(const std::string& name) {
    const Instance& controller =
        part("Msvm_ResourceAllocationSettingData", "s", 6,
             "Microsoft:Hyper-V:Synthetic SCSI Controller", {{"Parent", Value::null()}});
    const Instance& drive =
        part("Msvm_ResourceAllocationSettingData", "s\\0\\D", 17,
             "Microsoft:Hyper-V:Synthetic Disk Drive",
             {{"Parent", path_to(controller)}, {"AddressOnParent", Value::text("0")}});
    part("Msvm_StorageAllocationSettingData", "s\\0\\L", 31, "Microsoft:Hyper-V:Virtual Hard Disk",
         {{"Parent", path_to(drive)},
          {"HostResource", Value::texts({fmt::format(R"(C:\VMs\{}\disk0.vhdx)", name)})}});
  }
  void add_card(int number) {
    const Instance& card =
        part("Msvm_SyntheticEthernetPortSettingData", "n", 10,
             "Microsoft:Hyper-V:Synthetic Ethernet Port",
             {{"Address", Value::text(fmt::format("00155D{:06X}", number + 1))},
              {"StaticMacAddress", Value::flag(true)},
              {"VirtualSystemIdentifiers", Value::texts({"{" + vm_guid(number) + "}"})}});
    part("Msvm_EthernetPortAllocationSettingData", "n\\C", 33,
         "Microsoft:Hyper-V:Ethernet Connection",
         {{"Parent", path_to(card)},
          {"HostResource", Value::list({path_to(network_)})},
          {"EnabledState", Value::u16(2)},
          {"LastKnownSwitchName", Value::text("external")}});
  }

  Objects& objects_;
  const std::string& host_;
  const Instance& network_;
  const Instance* settings_ = nullptr;
  std::string id_;
};

struct Transition {
  std::set<std::uint16_t> from;
  std::uint16_t via = 0;
  std::uint16_t to = 0;
};

// What a request for `state` does to a machine in state `now`; `from` is empty for no such state.
Transition transition_to(std::uint16_t state, std::uint16_t now) {
  switch (state) {
    case kRunning:
      return {{kOff, kSaved, kPaused}, now == kPaused ? kResuming : kStarting, kRunning};
    case kOff:
      return {{kRunning, kPaused, kSaved}, kStopping, kOff};
    case kReset:
      return {{kRunning, kPaused}, kStarting, kRunning};
    case kQuiesce:
    case kPaused:
      return {{kRunning}, kPausing, kPaused};
    case kSaved:
      return {{kRunning, kPaused}, kSaving, kSaved};
    default:
      return {};
  }
}

Result<MethodResult> request_state(Objects& objects, Jobs& jobs, const MethodCall& call) {
  Instance* vm = objects.find(call.target);
  const Instance parameters = call.as_instance();
  const auto now = static_cast<std::uint16_t>(vm->number_or("EnabledState", 0));
  const auto wanted = static_cast<std::uint16_t>(parameters.number_or("RequestedState", 0));
  const Transition transition = transition_to(wanted, now);
  if (!transition.from.contains(now)) return MethodResult{.return_value = kRefused, .outputs = {}};
  const Reference reference = objects.reference_to(*vm);
  const auto become = [&objects, reference](std::uint16_t state) {
    if (Instance* one = objects.find(reference); one != nullptr) {
      one->properties["EnabledState"] = Value::u16(state);
    }
  };
  become(transition.via);
  return jobs.start(
      "Changing the state of a virtual machine", reference,
      [become, to = transition.to]() -> Result<std::vector<Reference>> {
        become(to);
        return std::vector<Reference>{};
      },
      [become, now] { become(now); });
}

Result<MethodResult> disk_changes(Faults& faults, const MethodCall& call) {
  const Instance parameters = call.as_instance();
  const std::string path = parameters.text("Path");
  const std::lock_guard lock(faults.mutex);
  const auto disk = faults.disk_changes.find(path);
  if (disk == faults.disk_changes.end() || faults.tracking_lost.contains(path)) {
    return MethodResult{.return_value = 32768, .outputs = {}};
  }
  const std::uint64_t begin = parameters.number_or("ByteOffset", 0);
  const std::uint64_t end = begin + parameters.number_or("ByteLength", 0);
  if (begin >= end || end > disk->second.disk_bytes) {
    return MethodResult{.return_value = 32773, .outputs = {}};
  }
  MethodResult result;
  std::vector<Value> offsets;
  std::vector<Value> lengths;
  for (const auto& [offset, length] : disk->second.ranges) {
    const std::uint64_t from = std::max(offset, begin);
    const std::uint64_t to = std::min(offset + length, end);
    if (from >= to) continue;
    offsets.push_back(Value::u64(from));
    lengths.push_back(Value::u64(to - from));
  }
  result.outputs = {{"ProcessedByteLength", Value::u64(end - begin)},
                    {"ChangedByteOffsets", Value::list(std::move(offsets))},
                    {"ChangedByteLengths", Value::list(std::move(lengths))}};
  return result;
}

}  // namespace

std::string vm_guid(int number) {
  return fmt::format("5A1B0000-0000-4000-8000-{:012X}", number + 1);
}

std::string ModelOptions::description() const {
  return is_german ? "Virtueller Computer von Microsoft" : "Microsoft Virtual Machine";
}

void fill_host(Objects& objects, const ModelOptions& options) {
  define_classes(objects);
  add_services(objects, options.host);
  add_system(
      objects, options.host, options.host,
      options.is_german ? "Hostcomputersystem von Microsoft" : "Microsoft Hosting Computer System",
      kRunning);
}

void fill_model(Objects& objects, const ModelOptions& options) {
  fill_host(objects, options);
  const Instance& network = add(objects, "Msvm_VirtualEthernetSwitch",
                                {{"CreationClassName", Value::text("Msvm_VirtualEthernetSwitch")},
                                 {"Name", Value::text("0C5E0000-0000-4000-8000-000000000001")},
                                 {"ElementName", Value::text("external")}});
  VmMaker maker(objects, options.host, network);
  for (int number = 0; number < options.vms; ++number) maker.make(number, options.description());
}

void add_methods(Methods& methods, Objects& objects, Jobs& jobs, Faults& faults) {
  methods["Msvm_ComputerSystem/RequestStateChange"] = {
      .shape = {{.name = "RequestedState", .kind = ParameterKind::kNumber, .is_required = true},
                {.name = "TimeoutPeriod", .kind = ParameterKind::kText}},
      .handler = [&](const MethodCall& call) { return request_state(objects, jobs, call); }};
  methods["Msvm_ImageManagementService/GetVirtualDiskChanges"] = {
      .shape = {{.name = "Path", .is_required = true},
                {.name = "LimitId", .is_required = true},
                {.name = "TargetSnapshotId"},
                {.name = "ByteOffset", .kind = ParameterKind::kNumber, .is_required = true},
                {.name = "ByteLength", .kind = ParameterKind::kNumber, .is_required = true}},
      .handler = [&](const MethodCall& call) { return disk_changes(faults, call); }};
  methods["Msvm_VirtualSystemManagementService/ModifySystemSettings"] = {
      .shape = {{.name = "SystemSettings", .kind = ParameterKind::kEmbedded, .is_required = true}},
      .handler = [&](const MethodCall& call) -> Result<MethodResult> {
        FARSIDE_ASSIGN(const std::vector<Instance> given,
                       call.as_instance().instances("SystemSettings"));
        Instance* settings =
            objects.find({.class_name = "Msvm_VirtualSystemSettingData",
                          .keys = {{"InstanceID", given.at(0).text("InstanceID")}}});
        if (settings == nullptr) return MethodResult{.return_value = 32773, .outputs = {}};
        for (const auto& [name, value] : given.at(0).properties) settings->properties[name] = value;
        return MethodResult{};
      }};
}

}  // namespace farside::hvsim
