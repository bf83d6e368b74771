#include "services/agent/platforms/hyperv/virtual_machine.h"

#include <fmt/format.h>

#include <algorithm>
#include <charconv>
#include <tuple>

#include "common/base/uuid.h"
#include "common/wsman/wmi_path.h"

namespace farside::agent::hyperv {
namespace {

using wsman::Instance;

constexpr std::string_view kVmLine = "farside-vm: ";
constexpr std::string_view kItemLine = "farside-item: ";
constexpr std::string_view kTestLine = "farside-test";
constexpr std::string_view kUnfinishedLine = "farside-unfinished";
constexpr std::string_view kReleasedLine = "farside-released";

const Instance* by_path(const std::vector<Instance>& parts, const std::string& path) {
  const auto reference = wsman::parse_wmi_path(path);
  if (!reference) return nullptr;
  const std::string id = reference->key("InstanceID");
  for (const Instance& part : parts) {
    if (part.text("InstanceID") == id) return &part;
  }
  return nullptr;
}

std::uint64_t place(const Instance& part) {
  const std::string text = part.text("AddressOnParent");
  std::uint64_t value = 0;
  std::from_chars(text.data(), text.data() + text.size(), value);
  return value;
}

// "6.2" and "9.0" are numbers of two parts; change tracking came with 6.2.
bool has_change_tracking(const std::string& version) {
  unsigned major = 0;
  unsigned minor = 0;
  const char* const end = version.data() + version.size();
  const auto [dot, error] = std::from_chars(version.data(), end, major);
  if (error != std::errc()) return true;  // Let the host say so.
  if (dot != end) std::from_chars(dot + 1, end, minor);
  return std::tie(major, minor) >= std::make_tuple(6U, 2U);
}

std::string problem_of(const RawVm& raw, const std::vector<VhdxDisk>& disks) {
  const std::string version = raw.settings.text("Version");
  if (!has_change_tracking(version)) {
    return fmt::format(
        "its configuration has version {}, which knows no change tracking: shut it "
        "down and use Update-VMVersion",
        version);
  }
  if (disks.empty()) return "it has no virtual hard disk";
  for (const Instance& part : raw.parts) {
    if (is_part(part, kPhysicalDrive)) {
      return "it uses a disk of the host directly, of which there are no points";
    }
  }
  for (const VhdxDisk& disk : disks) {
    std::string end = disk.path.substr(std::min(disk.path.rfind('.'), disk.path.size()));
    std::ranges::transform(end, end.begin(), [](unsigned char c) { return std::tolower(c); });
    if (end != ".vhdx" && end != ".avhdx") {
      return fmt::format("disk {} is no VHDX file: use Convert-VHD", disk.path);
    }
  }
  return {};
}

msg::Nic read_card(const Instance& card, const std::vector<Instance>& parts,
                   const Switches& networks, const std::map<std::string, std::string>& switches) {
  msg::Nic nic{.mac = mac_text(card.text("Address"))};
  for (const Instance& port : parts) {
    if (!is_part(port, kConnection)) continue;
    const Instance* parent = by_path(parts, port.text("Parent"));
    if (parent == nullptr || parent->text("InstanceID") != card.text("InstanceID")) continue;
    Port on;
    const auto connected = port.texts("HostResource");
    if (!connected.empty() && !connected.front().empty()) {
      const auto reference = wsman::parse_wmi_path(connected.front());
      const auto found = switches.find(reference ? reference->key("Name") : "");
      on.switch_name = found != switches.end() ? found->second : port.text("LastKnownSwitchName");
    }
    for (const Instance& feature : parts) {
      if (feature.class_name == "Msvm_EthernetSwitchPortVlanSettingData" &&
          feature.text("InstanceID").starts_with(port.text("InstanceID"))) {
        on.vlan = static_cast<std::uint32_t>(feature.number_or("AccessVlanId", 0));
      }
    }
    nic.network = networks.network_of(on);
  }
  return nic;
}

}  // namespace

std::vector<std::string> to_notes(const Mark& mark) {
  std::vector<std::string> notes{"Created by Farside.  It is known by the lines below: keep them.",
                                 std::string(kVmLine) + mark.vm,
                                 std::string(kItemLine) + mark.item};
  if (mark.is_test) notes.emplace_back(kTestLine);
  if (mark.is_unfinished) notes.emplace_back(kUnfinishedLine);
  return notes;
}

// What the operator wrote there stays.
std::vector<std::string> released(std::vector<std::string> notes) {
  if (notes.size() == 1) {  // As the host's own tools write them.
    notes.front() += "\r\n";
    notes.front() += kReleasedLine;
  } else {
    notes.emplace_back(kReleasedLine);
  }
  return notes;
}

std::optional<Mark> mark_from(const std::vector<std::string>& notes) {
  Mark mark;
  for (const std::string& note : notes) {
    // Hosts may join the notes into one text.
    for (std::size_t at = 0; at <= note.size();) {
      std::size_t end = std::min(note.find_first_of("\r\n", at), note.size());
      const std::string_view line = std::string_view(note).substr(at, end - at);
      if (line.starts_with(kVmLine)) mark.vm = line.substr(kVmLine.size());
      if (line.starts_with(kItemLine)) mark.item = line.substr(kItemLine.size());
      if (line == kTestLine) mark.is_test = true;
      if (line == kUnfinishedLine) mark.is_unfinished = true;
      if (line == kReleasedLine) mark.is_released = true;
      at = end + 1;
    }
  }
  if (mark.vm.empty()) return std::nullopt;
  return mark;
}

bool is_vm(const Instance& system) {
  return is_uuid(system.text("Name"));
}

bool is_part(const Instance& part, const char* sub_type) {
  return part.text("ResourceSubType") == sub_type;
}

std::string identity_of(const std::string& virtual_disk_id) {
  return virtual_disk_id.empty() ? "" : "vhd:" + virtual_disk_id;
}

// Source: Microsoft, Msvm_ComputerSystem, EnabledState.
msg::PowerState power_state(std::uint64_t enabled_state) {
  switch (enabled_state) {
    case kEnabled:
    case 4:      // Shutting down
    case 10:     // Starting
    case 32770:  // Starting
    case 32771:  // Making a checkpoint
    case 32774:  // Stopping
    case 32777:  // Resuming
      return msg::PowerState::running;
    case kDisabled:
      return msg::PowerState::off;
    case 6:      // Saved: enabled but offline
    case 9:      // Paused: quiesce
    case 32768:  // Paused
    case 32769:  // Saved
    case 32773:  // Saving
    case 32776:  // Pausing
      return msg::PowerState::paused;
    default:
      return msg::PowerState::unknown;
  }
}

std::vector<VhdxDisk> read_disks(const std::vector<Instance>& parts) {
  // The disk is on a drive, which is on a controller: IDE ones first, as firmware counts them.
  using Place = std::tuple<bool, std::string, std::uint64_t, std::string>;
  std::vector<std::pair<Place, std::string>> found;
  for (const Instance& part : parts) {
    if (!is_part(part, kHardDisk)) continue;
    const auto paths = part.texts("HostResource");
    if (paths.empty()) continue;
    const Instance* drive = by_path(parts, part.text("Parent"));
    const Instance* controller = drive == nullptr ? nullptr : by_path(parts, drive->text("Parent"));
    found.push_back({{controller != nullptr && is_part(*controller, kScsiController),
                      controller == nullptr ? "" : controller->text("InstanceID"),
                      drive == nullptr ? 0 : place(*drive), part.text("InstanceID")},
                     paths.front()});
  }
  std::ranges::sort(found);
  std::vector<VhdxDisk> disks;
  for (const auto& [where, path] : found) {
    const std::size_t number = disks.size();
    std::string name = "vd";
    if (number >= 26) name += static_cast<char>('a' + number / 26 - 1);
    name += static_cast<char>('a' + number % 26);
    disks.push_back({.name = std::move(name), .path = path});
  }
  return disks;
}

VirtualMachine read_vm(const RawVm& raw, const Switches& networks,
                       const std::map<std::string, std::string>& switches) {
  VirtualMachine out;
  out.guid = raw.system.text("Name");
  out.settings_id = raw.settings.text("InstanceID");
  out.notes = raw.settings.texts("Notes");
  out.mark = mark_from(out.notes);
  if (out.mark && out.mark->is_released) {
    out.released_as = out.mark->vm;
    out.mark.reset();
  }
  out.disks = read_disks(raw.parts);
  out.startup_action = raw.settings.number_or("AutomaticStartupAction", 0);

  msg::Vm& vm = out.vm;
  vm.id = out.mark ? out.mark->vm : out.guid;
  vm.name = raw.system.text("ElementName");
  vm.state = power_state(raw.system.number_or("EnabledState", 0));
  vm.generation = raw.settings.text("VirtualSystemSubType").ends_with(":2") ? 2 : 1;
  vm.is_replica = out.mark.has_value();
  vm.is_test = out.mark && out.mark->is_test;
  vm.problem = problem_of(raw, out.disks);
  for (const VhdxDisk& disk : out.disks) {
    vm.disks.push_back({.name = disk.name, .bytes = 0, .path = disk.path, .format = "vhdx"});
  }
  for (const Instance& part : raw.parts) {
    if (part.class_name == "Msvm_MemorySettingData") {
      vm.memory_mib = static_cast<std::uint32_t>(part.number_or("VirtualQuantity", 0));
    }
    if (part.class_name == "Msvm_ProcessorSettingData") {
      vm.processors = static_cast<std::uint32_t>(part.number_or("VirtualQuantity", 0));
    }
    if (is_part(part, kNetworkCard)) {
      vm.nics.push_back(read_card(part, raw.parts, networks, switches));
    }
  }
  return out;
}

std::string mac_text(const std::string& address) {
  if (address.size() != 12) return address;
  std::string text;
  for (std::size_t i = 0; i < address.size(); ++i) {
    if (i > 0 && i % 2 == 0) text += ':';
    text += static_cast<char>(std::tolower(static_cast<unsigned char>(address[i])));
  }
  return text;
}

std::string mac_address(const std::string& text) {
  std::string address;
  for (const char c : text) {
    if (c != ':' && c != '-') {
      address += static_cast<char>(std::toupper(static_cast<unsigned char>(c)));
    }
  }
  return address;
}

}  // namespace farside::agent::hyperv
