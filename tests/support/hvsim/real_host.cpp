#include "tests/support/hvsim/real_host.h"

#include <fmt/format.h>
#include <sys/sysinfo.h>

#include <filesystem>
#include <fstream>
#include <thread>

namespace farside::hvsim {
namespace {

using nlohmann::json;

constexpr std::uint64_t kMib = 1U << 20U;

}  // namespace

RealHost::RealHost(Objects& the_objects, Jobs& the_jobs, Faults& the_faults, Random& random,
                   RealHostOptions options)
    : objects(the_objects),
      jobs(the_jobs),
      faults(the_faults),
      vms(objects, options.host, options.description, random),
      files(std::filesystem::absolute(options.root).string()),
      state(objects, options.host, files.state()),
      machines(vms, state, files, spawner, options.guest),
      checkpoints(vms, state, machines),
      options_(std::move(options)) {}

Status RealHost::boot() {
  FARSIDE_TRY(files.prepare());
  add_switches();
  add_hardware();
  FARSIDE_TRY(state.load());
  FARSIDE_TRY(checkpoints.recover());
  if (!options_.vms.empty()) FARSIDE_TRY(add_vms());
  return state.save();
}

void RealHost::shut_down() {
  machines.turn_off_all();
  std::error_code none;
  std::filesystem::remove_all(files.run(), none);
}

// The same name, the same identifier, at every start.
void RealHost::add_switches() {
  int number = 0;
  for (const std::string& name : options_.switches) {
    const std::string guid = fmt::format("0C5E0000-0000-4000-8000-{:012X}", ++number);
    objects.add({"Msvm_VirtualEthernetSwitch",
                 {{"CreationClassName", Value::text("Msvm_VirtualEthernetSwitch")},
                  {"Name", Value::text(guid)},
                  {"ElementName", Value::text(name)},
                  {"EnabledState", Value::u16(2)},
                  {"HealthState", Value::u16(5)}}});
    objects.add({"Msvm_VirtualEthernetSwitchSettingData",
                 {{"InstanceID", Value::text("Microsoft:" + guid)},
                  {"ElementName", Value::text(name)},
                  {"VirtualSystemIdentifier", Value::text(guid)}}});
  }
}

// What this machine has.
void RealHost::add_hardware() {
  const Value system = Value::text("Msvm_ComputerSystem");
  const Value host = Value::text(options_.host);
  for (unsigned i = 0; i < std::thread::hardware_concurrency(); ++i) {
    objects.add({"Msvm_Processor",
                 {{"SystemCreationClassName", system},
                  {"SystemName", host},
                  {"CreationClassName", Value::text("Msvm_Processor")},
                  {"DeviceID", Value::text(fmt::format("Microsoft:{}\\{}", options_.host, i))},
                  {"LoadPercentage", Value::u16(1)}}});
  }
  struct sysinfo memory{};
  ::sysinfo(&memory);
  const std::uint64_t bytes = std::uint64_t{memory.totalram} * memory.mem_unit;
  objects.add({"Win32_ComputerSystem",
               {{"Name", host},
                {"NumberOfLogicalProcessors", Value::u32(std::thread::hardware_concurrency())},
                {"NumberOfProcessors", Value::u32(1)},
                {"TotalPhysicalMemory", Value::u64(bytes)}}});
  objects.add({"Win32_OperatingSystem",
               {{"Name", Value::text("Microsoft Windows Server 2022 Datacenter")},
                {"Caption", Value::text("Microsoft Windows Server 2022 Datacenter")},
                {"Version", Value::text("10.0.20348")},
                {"TotalVisibleMemorySize", Value::u64(bytes >> 10U)},
                {"FreePhysicalMemory",
                 Value::u64(std::uint64_t{memory.freeram} * memory.mem_unit >> 10U)}}});
  objects.add({"Msvm_Memory",
               {{"SystemCreationClassName", system},
                {"SystemName", host},
                {"CreationClassName", Value::text("Msvm_Memory")},
                {"DeviceID", Value::text("Microsoft:" + options_.host + "\\Memory")},
                {"BlockSize", Value::u64(kMib)},
                {"NumberOfBlocks", Value::u64(bytes / kMib)}}});
}

// A list of:
//
//   {"guid":"5A1B…","name":"witness","generation":2,"memory_mib":128,"processors":1,
//    "boot":"witness" (or "nothing"),"arguments":"witness.pace_ms=20","running":true,
//    "disks":[{"path":"C:\\VMs\\witness\\a.vhdx","mib":64}],
//    "nics":[{"mac":"00155D000001","switch":"external","vlan":7}]}
//
// Machines that are there already are only started.
Status RealHost::add_vms() {
  std::ifstream in(options_.vms);
  const json all = json::parse(in, nullptr, false);
  if (!all.is_array()) return fail(ErrorCode::kInvalidArgument, options_.vms + " holds no list");
  try {
    for (const json& vm : all) {
      const std::string guid = upper_case(vm.at("guid").get<std::string>());
      if (vms.system(guid) == nullptr) FARSIDE_TRY(add_vm(vm));
      if (vm.value("running", false)) FARSIDE_TRY(machines.start(guid));
    }
  } catch (const json::exception& error) {
    return fail(ErrorCode::kInvalidArgument, options_.vms + ": " + error.what());
  }
  return {};
}

Status RealHost::add_vm(const json& vm) {
  const VmShape shape{.guid = upper_case(vm.at("guid").get<std::string>()),
                      .name = vm.at("name").get<std::string>(),
                      .generation = vm.value("generation", 2),
                      .memory_mib = vm.value("memory_mib", std::uint64_t{128}),
                      .processors = vm.value("processors", std::uint64_t{1})};
  state.vms[shape.guid] = {.boots_witness = vm.value("boot", "witness") == "witness",
                           .arguments = vm.value("arguments", "")};
  const Instance& settings = vms.define(shape);
  const std::string scsi = vms.new_guid();
  const Instance& controller =
      vms.add_part(settings, "Msvm_ResourceAllocationSettingData", scsi + "\\0",
                   {{"ResourceType", Value::u16(6)},
                    {"ResourceSubType", Value::text("Microsoft:Hyper-V:Synthetic SCSI Controller")},
                    {"Parent", Value::null()}});
  int slot = 0;
  for (const json& disk : vm.value("disks", json::array())) {
    const std::string path = disk.at("path").get<std::string>();
    FARSIDE_ASSIGN(const std::string file, files.file_of(path));
    FARSIDE_TRY(HostFiles::make_folder_of(file));
    if (!std::filesystem::exists(file)) {
      FARSIDE_TRY(run_tool(
          spawner,
          {"qemu-img", "create", "-q", "-f", "vhdx", "-o", "subformat=dynamic,block_size=1M", file,
           std::to_string(disk.at("mib").get<std::uint64_t>() * kMib)},
          files.run() + "/qemu-img.log"));
    }
    const Instance& drive = vms.add_part(
        settings, "Msvm_ResourceAllocationSettingData", fmt::format("{}\\0\\{}\\D", scsi, slot),
        {{"ResourceType", Value::u16(17)},
         {"ResourceSubType", Value::text("Microsoft:Hyper-V:Synthetic Disk Drive")},
         {"Parent", vms.path_to(controller)},
         {"AddressOnParent", Value::text(std::to_string(slot))}});
    vms.add_part(settings, "Msvm_StorageAllocationSettingData",
                 fmt::format("{}\\0\\{}\\L", scsi, slot),
                 {{"ResourceType", Value::u16(31)},
                  {"ResourceSubType", Value::text("Microsoft:Hyper-V:Virtual Hard Disk")},
                  {"Parent", vms.path_to(drive)},
                  {"HostResource", Value::texts({path})}});
    ++slot;
  }
  for (const json& nic : vm.value("nics", json::array())) {
    const std::string name = nic.value("switch", "");
    const Instance* network = nullptr;
    for (const Instance* one : objects.of_class("Msvm_VirtualEthernetSwitch")) {
      if (one->text("ElementName") == name) network = one;
    }
    const std::string id = vms.new_guid();
    const Instance& card =
        vms.add_part(settings, "Msvm_SyntheticEthernetPortSettingData", id,
                     {{"ResourceType", Value::u16(10)},
                      {"ResourceSubType", Value::text("Microsoft:Hyper-V:Synthetic Ethernet Port")},
                      {"ElementName", Value::text("Network Adapter")},
                      {"Address", Value::text(nic.at("mac").get<std::string>())},
                      {"StaticMacAddress", Value::flag(true)},
                      {"VirtualSystemIdentifiers", Value::texts({"{" + id + "}"})}});
    const Instance& port =
        vms.add_part(settings, "Msvm_EthernetPortAllocationSettingData", id + "\\C",
                     {{"ResourceType", Value::u16(33)},
                      {"ResourceSubType", Value::text("Microsoft:Hyper-V:Ethernet Connection")},
                      {"Parent", vms.path_to(card)},
                      {"HostResource",
                       network == nullptr ? Value::null() : Value::list({vms.path_to(*network)})},
                      {"EnabledState", Value::u16(network == nullptr ? 3 : 2)},
                      {"LastKnownSwitchName", Value::text(name)}});
    if (nic.contains("vlan")) {
      const Instance& vlan = objects.add(
          {"Msvm_EthernetSwitchPortVlanSettingData",
           {{"InstanceID", Value::text(port.text("InstanceID") + "\\" + vms.new_guid())},
            {"OperationMode", Value::u32(1)},
            {"AccessVlanId", Value::u16(nic.at("vlan").get<std::uint16_t>())}}});
      objects.associate("Msvm_EthernetPortSettingDataComponent", port, vlan);
    }
  }
  return state.save();
}

std::string RealHost::obey(const json& order) {
  const std::string what = order.value("do", "");
  const std::string vm = upper_case(order.value("vm", ""));
  if (!vm.empty() && vms.system(vm) == nullptr) return "no such VM: " + vm;
  if (what == "host_reboot") {
    machines.kill_all();
    const Status recovered = checkpoints.recover();
    return recovered ? "ok" : to_text(recovered.error());
  }
  if (what == "kill_vm") {
    machines.kill(vm);
    return "ok";
  }
  if (what == "leave_checkpoint") {
    const auto left = checkpoints.create(vm, 2);
    return left ? "ok" : to_text(left.error());
  }
  if (what == "lose_tracking") {
    if (!vm.empty()) {
      state.lose_tracking(vm, machines.bases_of(vm));
    } else {
      const auto question = checkpoints.question_for(order.value("path", ""));
      state.tracking_of(question ? question->base : order.value("path", "")).lose();
    }
    const Status saved = state.save();
    return saved ? "ok" : to_text(saved.error());
  }
  if (what == "lock_frozen") {
    machines.locks_frozen = order.value("on", true);
    for (const std::string& guid : vms.guids()) machines.lock_disks(guid);
    return "ok";
  }
  return {};
}

}  // namespace farside::hvsim
