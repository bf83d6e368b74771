#include "services/agent/platforms/hyperv/host.h"

#include <fmt/format.h>
#include <poll.h>
#include <sys/stat.h>

#include <algorithm>
#include <cctype>
#include <cerrno>

#include "common/base/file.h"
#include "common/wsman/recorder.h"
#include "common/wsman/wmi_path.h"
#include "services/agent/platforms/deadline.h"

namespace farside::agent::hyperv {
namespace {

using wsman::Instance;

constexpr std::chrono::milliseconds kOtherJobsWithin{10'000};
// Source: Microsoft, Msvm_ConcreteJob.JobState.
constexpr std::uint64_t kJobNew = 2;
constexpr std::uint64_t kJobCompleted = 7;
constexpr Micros kJobWithin{60'000'000};  // As all calls of a platform.
constexpr const char* kRealized = "Microsoft:Hyper-V:System:Realized";

std::unexpected<Error> no_vm(const std::string& vm_id) {
  return fail(ErrorCode::kNotFound, fmt::format("this host has no VM with the id {}", vm_id),
              "it was deleted or moved: define it here again, or end its protection");
}

std::string settings_prefix(const std::string& instance_id) {
  return instance_id.substr(0, instance_id.find('\\'));
}

}  // namespace

wsman::Reference system_of(const std::string& guid) {
  return {.class_name = "Msvm_ComputerSystem",
          .keys = {{"CreationClassName", "Msvm_ComputerSystem"}, {"Name", guid}}};
}

wsman::Reference setting_of(const std::string& class_name, const std::string& instance_id) {
  return {.class_name = class_name, .keys = {{"InstanceID", instance_id}}};
}

Host::Host(HostAccess access, Switches networks, const Clock& clock)
    : access_(std::move(access)),
      networks_(std::move(networks)),
      clock_(clock),
      clients_([this] { return connect(); }) {}

Result<std::unique_ptr<wsman::Client>> Host::connect() {
  FARSIDE_ASSIGN(std::unique_ptr<wsman::Channel> channel,
                 wsman::LoginChannel::open(access_.target, access_.kind, access_.login));
  if (!access_.record_folder.empty()) {
    std::string folder;
    {
      const std::lock_guard lock(mutex_);
      folder = fmt::format("{}/connection-{:04}", access_.record_folder, ++connections_);
    }
    FARSIDE_TRY(make_folders(folder));
    if (::chmod(folder.c_str(), S_IRWXU) != 0) {  // It will have all that the host says.
      return fail(from_errno(errno, "keep " + folder + " from others"));
    }
    channel = std::make_unique<wsman::RecordingChannel>(std::move(channel), folder);
  }
  return std::make_unique<wsman::Client>(wsman::ClientOptions{.url = access_.target.url},
                                         std::move(channel), random_);
}

wsman::JobWait Host::wait() const {
  return {.clock = clock_,
          .pause = [](Micros time) { ::poll(nullptr, 0, static_cast<int>(time.count() / 1000)); },
          .within = kJobWithin};
}

Result<std::vector<Instance>> Host::query(const std::string& wql) {
  FARSIDE_ASSIGN(const auto client, clients_.take());
  return client->query(wql);
}

Result<std::vector<Instance>> Host::associators(const wsman::Reference& of,
                                                std::string_view association,
                                                std::string_view result) {
  FARSIDE_ASSIGN(const auto client, clients_.take());
  return client->associators(of, association, result);
}

Status Host::wait_for_jobs() {
  for (const Deadline deadline{kOtherJobsWithin};;) {
    FARSIDE_ASSIGN(const auto jobs, query("SELECT * FROM Msvm_ConcreteJob"));
    const bool is_busy = std::ranges::any_of(jobs, [](const Instance& job) {
      const std::uint64_t state = job.number_or("JobState", 0);
      return state >= kJobNew && state < kJobCompleted;
    });
    if (!is_busy || !deadline.pause()) return {};
  }
}

Result<wsman::CallOutcome> Host::call(const wsman::Reference& object, const std::string& method,
                                      const wsman::Parameters& parameters) {
  FARSIDE_ASSIGN(const auto client, clients_.take());
  return wsman::call(*client, object, method, parameters, wait());
}

Result<std::vector<wsman::ChangedRange>> Host::changed_ranges(
    const wsman::ChangesQuestion& question) {
  FARSIDE_ASSIGN(const auto client, clients_.take());
  return wsman::changed_ranges(*client, question, wait());
}

Result<msg::HostState> Host::describe() {
  FARSIDE_ASSIGN(const std::string own_name, name());
  const auto own = [&](const char* class_name) {
    return query(fmt::format("SELECT * FROM {} WHERE SystemName='{}'", class_name,
                             wsman::wmi_escape(own_name)));
  };
  FARSIDE_ASSIGN(const auto processors, own("Msvm_Processor"));
  FARSIDE_ASSIGN(const auto memories, own("Msvm_Memory"));
  FARSIDE_ASSIGN(const auto all, vms());
  FARSIDE_ASSIGN(const auto client, clients_.take());
  FARSIDE_ASSIGN(const auto identity, client->identify());
  msg::HostState state{.name = own_name,
                       .platform = "hyperv",
                       .platform_version = identity.version,
                       .processors = static_cast<std::uint32_t>(processors.size())};
  for (const Instance& memory : memories) {
    state.memory_mib +=
        (memory.number_or("BlockSize", 0) * memory.number_or("NumberOfBlocks", 0)) >> 20U;
  }
  std::uint64_t used_mib = 0;
  for (const VirtualMachine& one : all) {
    if (one.vm.state != msg::PowerState::off) used_mib += one.vm.memory_mib;
  }
  state.memory_free_mib = state.memory_mib - std::min(state.memory_mib, used_mib);
  return state;
}

Result<std::map<std::string, std::string>> Host::switches() {
  FARSIDE_ASSIGN(const auto found, query("SELECT * FROM Msvm_VirtualEthernetSwitch"));
  std::map<std::string, std::string> names;
  for (const Instance& one : found) names[one.text("Name")] = one.text("ElementName");
  return names;
}

std::vector<std::string> Host::switch_names(
    const std::map<std::string, std::string>& switches) const {
  std::vector<std::string> names;
  for (const auto& [guid, name] : switches) names.push_back(name);
  std::ranges::sort(names);
  return names;
}

Result<std::vector<Instance>> Host::parts(const std::string& settings_id) {
  return associators(setting_of("Msvm_VirtualSystemSettingData", settings_id),
                     "Msvm_VirtualSystemSettingDataComponent", "");
}

Result<std::vector<Instance>> Host::settings_of_vms() {
  return query(fmt::format(
      "SELECT * FROM Msvm_VirtualSystemSettingData WHERE VirtualSystemType='{}'", kRealized));
}

Result<std::string> Host::guid_of(const std::string& vm_id) {
  {
    const std::lock_guard lock(mutex_);
    if (const auto known = guids_.find(vm_id); known != guids_.end()) return known->second;
  }
  FARSIDE_ASSIGN(const auto all, settings_of_vms());
  for (const Instance& settings : all) {
    const auto mark = mark_from(settings.texts("Notes"));
    if (!mark || mark->vm != vm_id) continue;
    const std::string guid = settings.text("VirtualSystemIdentifier");
    const std::lock_guard lock(mutex_);
    guids_[vm_id] = guid;
    return guid;
  }
  return vm_id;
}

Result<RawVm> Host::raw(const std::string& guid) {
  RawVm raw;
  FARSIDE_ASSIGN(auto systems,
                 query(fmt::format("SELECT * FROM Msvm_ComputerSystem WHERE Name='{}'",
                                   wsman::wmi_escape(guid))));
  std::erase_if(systems, [](const Instance& one) { return !is_vm(one); });
  if (systems.empty()) return no_vm(guid);
  raw.system = std::move(systems.front());
  FARSIDE_ASSIGN(auto settings, associators(system_of(guid), "Msvm_SettingsDefineState",
                                            "Msvm_VirtualSystemSettingData"));
  if (settings.empty()) return no_vm(guid);  // It goes just now.
  raw.settings = std::move(settings.front());
  FARSIDE_ASSIGN(raw.parts, parts(raw.settings.text("InstanceID")));
  FARSIDE_ASSIGN(auto vlans, query("SELECT * FROM Msvm_EthernetSwitchPortVlanSettingData"));
  for (Instance& vlan : vlans) raw.parts.push_back(std::move(vlan));
  return raw;
}

Result<VirtualMachine> Host::find(const std::string& vm_id) {
  FARSIDE_ASSIGN(const auto switches, this->switches());
  for (const bool is_first : {true, false}) {
    FARSIDE_ASSIGN(const std::string guid, guid_of(vm_id));
    const auto raw = this->raw(guid);
    if (!raw && raw.error().code != ErrorCode::kNotFound) return fail(raw.error());
    if (raw) {
      VirtualMachine vm = read_vm(*raw, networks_, switches);
      if (vm.vm.id == vm_id || vm.released_as == vm_id) return vm;
    }
    // What was remembered of it is outdated.
    const std::lock_guard lock(mutex_);
    if (guids_.erase(vm_id) == 0 || !is_first) break;
  }
  return no_vm(vm_id);
}

Result<std::set<std::string>> Host::running() {
  FARSIDE_ASSIGN(const auto systems, query("SELECT * FROM Msvm_ComputerSystem"));
  std::set<std::string> guids;
  for (const Instance& system : systems) {
    if (is_vm(system) && system.number_or("EnabledState", 0) != kDisabled) {
      guids.insert(system.text("Name"));
    }
  }
  return guids;
}

std::optional<std::string> Host::known_guid(const std::string& vm_id) {
  const std::lock_guard lock(mutex_);
  const auto known = guids_.find(vm_id);
  return known == guids_.end() ? std::nullopt : std::optional(known->second);
}

// A few queries over all VMs rather than a few for each.
Result<std::vector<VirtualMachine>> Host::vms() {
  FARSIDE_ASSIGN(const auto switches, this->switches());
  FARSIDE_ASSIGN(const auto systems, query("SELECT * FROM Msvm_ComputerSystem"));
  FARSIDE_ASSIGN(const auto settings, settings_of_vms());
  std::map<std::string, std::vector<Instance>> parts;  // By the settings that they are of.
  for (const char* part_class :
       {"Msvm_ResourceAllocationSettingData", "Msvm_StorageAllocationSettingData",
        "Msvm_SyntheticEthernetPortSettingData", "Msvm_EthernetPortAllocationSettingData",
        "Msvm_EthernetSwitchPortVlanSettingData", "Msvm_MemorySettingData",
        "Msvm_ProcessorSettingData"}) {
    FARSIDE_ASSIGN(auto found, query(fmt::format("SELECT * FROM {}", part_class)));
    for (Instance& part : found) {
      parts[settings_prefix(part.text("InstanceID"))].push_back(std::move(part));
    }
  }
  std::vector<VirtualMachine> vms;
  for (const Instance& system : systems) {
    if (!is_vm(system)) continue;
    for (const Instance& one : settings) {
      if (one.text("VirtualSystemIdentifier") != system.text("Name")) continue;
      vms.push_back(read_vm({.system = system,
                             .settings = one,
                             .parts = parts[settings_prefix(one.text("InstanceID"))]},
                            networks_, switches));
    }
  }
  return vms;
}

Result<Host::DiskFacts> Host::disk_facts(const std::string& path) {
  FARSIDE_ASSIGN(const auto outcome,
                 call(wsman::service("Msvm_ImageManagementService"),
                      "GetVirtualHardDiskSettingData", {{"Path", wsman::Value::text(path)}}));
  FARSIDE_ASSIGN(const auto settings, outcome.output.instances("SettingData"));
  if (settings.empty()) {
    return fail(ErrorCode::kPlatform, "the host tells nothing of disk '" + path + "'",
                "look at it on the host with Get-VHD");
  }
  DiskFacts facts;
  FARSIDE_ASSIGN(facts.bytes, settings.front().number("MaxInternalSize"));
  facts.sector_bytes = static_cast<std::uint32_t>(
      settings.front().number_or("LogicalSectorSize", facts.sector_bytes));
  for (const char c : settings.front().text("VirtualDiskId")) {
    if (c != '{' && c != '}') {
      facts.disk_id += static_cast<char>(std::tolower(static_cast<unsigned char>(c)));
    }
  }
  return facts;
}

Result<std::string> Host::name() {
  {
    const std::lock_guard lock(mutex_);
    if (!name_.empty()) return name_;
  }
  // Of all systems it is the one that is no VM.
  FARSIDE_ASSIGN(const auto systems, query("SELECT * FROM Msvm_ComputerSystem"));
  for (const Instance& system : systems) {
    if (is_vm(system)) continue;
    const std::lock_guard lock(mutex_);
    name_ = system.text("Name");
    return name_;
  }
  return fail(ErrorCode::kPlatform, "the host does not tell its name");
}

Result<std::string> Host::path_of(wsman::Reference reference) {
  FARSIDE_ASSIGN(reference.host, name());
  return wsman::to_wmi_path(reference);
}

}  // namespace farside::agent::hyperv
