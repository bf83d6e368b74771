#include "tests/support/hvsim/machines.h"

#include <fmt/format.h>
#include <poll.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <bit>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <iterator>

#include "tests/support/hvsim/vhdx_shape.h"

namespace farside::hvsim {
namespace {

namespace fs = std::filesystem;

// A guest gets no more: our host is small, and a witness needs little.
constexpr std::uint64_t kMemoryMibMin = 128;
constexpr std::uint64_t kMemoryMibMax = 256;
constexpr std::uint64_t kProcessorsMax = 2;
constexpr int kServerStartMs = 10'000;

// The witness is at work: what it says then, beside that its agent answers.
bool is_at_work(const std::string& log, std::uintmax_t from) {
  std::ifstream in(log);
  in.seekg(static_cast<std::streamoff>(from));
  for (std::string line; std::getline(in, line);) {
    if (line.find("witness: alive") != std::string::npos) return true;
  }
  return false;
}

}  // namespace

int prefix_length(const std::string& subnet) {
  if (subnet.find('.') == std::string::npos) return std::atoi(subnet.c_str());
  int bits = 0;
  for (std::size_t at = 0; at != std::string::npos && at < subnet.size();) {
    bits += std::popcount(static_cast<unsigned>(std::atoi(subnet.c_str() + at)) & 255U);
    at = subnet.find('.', at);
    if (at != std::string::npos) ++at;
  }
  return bits;
}

std::vector<std::string> Machines::bases_of(const std::string& guid) {
  std::vector<std::string> bases;
  const Instance* settings = objects_.settings(guid);
  if (settings == nullptr) return bases;
  const auto open = state_.checkpoints.find(guid);
  for (const AttachedDisk& disk : objects_.disks(*settings)) {
    bases.push_back(disk.path);
    if (open == state_.checkpoints.end()) continue;
    for (const CheckpointDisk& one : open->second.disks) {
      if (one.overlay == disk.path) bases.back() = one.base;
    }
  }
  return bases;
}

Result<Json> Machines::node_of(const std::string& base, Running& running) {
  FARSIDE_ASSIGN(const std::string file, files_.file_of(base));
  FARSIDE_ASSIGN(const VhdxShape shape, read_vhdx_shape(file));
  if (!shape.has_parent) {
    return Json{{"driver", "vhdx"}, {"file", {{"driver", "file"}, {"filename", file}}}};
  }
  const std::string socket = fmt::format("{}/d{}.sock", files_.run(), ++processes_);
  const std::string drive = files_.shared() + "/" + upper_case(base.substr(0, 1));
  FARSIDE_ASSIGN(auto server, spawner_.spawn({"nbdkit", "-f", "-U", socket, options_.vhdx_plugin,
                                              "file=" + file, "root=" + drive},
                                             {}, socket + ".log"));
  running.servers.emplace_back(server.release());
  for (int waited = 0; ::access(socket.c_str(), F_OK) != 0; waited += 10) {
    if (waited > kServerStartMs || running.servers.back()->wait(std::chrono::milliseconds{0})) {
      std::ifstream in(socket + ".log");
      return fail(ErrorCode::kPlatform, "nbdkit does not serve " + base + ": " +
                                            std::string{std::istreambuf_iterator<char>(in), {}});
    }
    ::poll(nullptr, 0, 10);
  }
  return Json{{"driver", "nbd"}, {"server", {{"type", "unix"}, {"path", socket}}}};
}

std::string Machines::kernel_arguments(const std::string& guid, std::size_t disks) {
  // panic=1: a guest that cannot work starts again instead of hanging.
  std::string words = fmt::format("console=ttyS0 quiet panic=1 witness.disks={} {}", disks,
                                  state_.vms[guid].arguments);
  const std::string prefix = "Microsoft:GuestNetwork\\" + guid;
  for (const Instance* one : objects_.objects().of_class("Msvm_GuestNetworkAdapterConfiguration")) {
    if (!one->text("InstanceID").starts_with(prefix)) continue;
    const auto addresses = one->texts("IPAddresses");
    const auto subnets = one->texts("Subnets");
    if (addresses.empty() || subnets.empty()) continue;
    words += fmt::format(" witness.address={}/{}", addresses[0], prefix_length(subnets[0]));
    break;
  }
  return words;
}

Result<Machines::Running> Machines::open(const std::string& guid) {
  const Instance* settings = objects_.settings(guid);
  if (settings == nullptr) return fail(ErrorCode::kNotFound, "no VM " + guid);
  Running running;
  running.bases = bases_of(guid);
  const auto disks = objects_.disks(*settings);
  MachineSpec spec;
  for (std::size_t i = 0; i < disks.size(); ++i) {
    FARSIDE_ASSIGN(Json node, node_of(running.bases[i], running));
    Drive drive{.base = std::move(node), .overlay = {}};
    if (disks[i].path != running.bases[i]) {
      FARSIDE_ASSIGN(drive.overlay, files_.file_of(disks[i].path));
    }
    spec.drives.push_back(std::move(drive));
  }
  spec.macs = objects_.macs(*settings);
  if (const Instance* memory = objects_.part(*settings, "Msvm_MemorySettingData")) {
    spec.memory_mib =
        std::clamp(memory->number_or("VirtualQuantity", 0), kMemoryMibMin, kMemoryMibMax);
  }
  if (const Instance* processors = objects_.part(*settings, "Msvm_ProcessorSettingData")) {
    spec.processors =
        std::clamp<std::uint64_t>(processors->number_or("VirtualQuantity", 1), 1, kProcessorsMax);
  }
  if (state_.vms[guid].boots_witness) {
    spec.kernel = options_.kernel;
    spec.initrd = options_.initrd;
    spec.arguments = kernel_arguments(guid, disks.size());
  }
  spec.serial_log = files_.serial_of(guid);
  std::error_code none;
  running.said_before = fs::exists(spec.serial_log) ? fs::file_size(spec.serial_log, none) : 0;
  state_.unclean.insert(guid);
  FARSIDE_TRY(state_.save());
  auto qemu = QemuVm::start(spawner_, spec, fmt::format("{}/q{}", files_.run(), ++processes_));
  if (!qemu) {
    state_.unclean.erase(guid);
    FARSIDE_TRY(state_.save());
    return fail(qemu.error());
  }
  running.qemu = std::move(*qemu);
  return running;
}

void Machines::record(const std::string& guid, const std::vector<Ranges>& changes) {
  const auto& bases = running_.at(guid).bases;
  for (std::size_t i = 0; i < changes.size(); ++i) {
    state_.tracking_of(bases[i]).wrote(changes[i]);
  }
}

// Takes what was written from a machine that stands still, and ends it.
Status Machines::close(const std::string& guid) {
  const auto changes = running_.at(guid).qemu->take_changes();
  if (changes) {
    record(guid, *changes);
    state_.unclean.erase(guid);
  }
  forget(guid);
  if (!changes) return fail(changes.error());
  return state_.save();
}

// Without its changes, if close() did not take them.
void Machines::forget(const std::string& guid) {
  const auto bases = running_.at(guid).bases;
  running_.erase(guid);
  if (state_.unclean.erase(guid) > 0) state_.lose_tracking(guid, bases);
  show_services(guid);
  lock_disks(guid);
  std::ignore = state_.save();
}

Status Machines::start(const std::string& guid) {
  const bool had_process = running_.contains(guid);
  if (!had_process) {
    FARSIDE_ASSIGN(Running running, open(guid));
    running_.emplace(guid, std::move(running));
    lock_disks(guid);
  }
  FARSIDE_TRY(running_.at(guid).qemu->run());
  objects_.set_state(guid, kRunning);
  show_services(guid);
  return {};
}

Status Machines::turn_off(const std::string& guid) {
  objects_.set_state(guid, kOff);
  const auto found = running_.find(guid);
  if (found == running_.end()) return {};
  const Status still = found->second.qemu->stand_still();
  if (still) return close(guid);
  forget(guid);
  return still;
}

Status Machines::pause(const std::string& guid, std::uint16_t as) {
  const auto found = running_.find(guid);
  if (found == running_.end()) return fail(ErrorCode::kConflict, "the VM does not run");
  FARSIDE_TRY(found->second.qemu->stand_still());
  objects_.set_state(guid, as);
  return {};
}

Status Machines::reset(const std::string& guid) {
  const auto found = running_.find(guid);
  if (found == running_.end()) return fail(ErrorCode::kConflict, "the VM does not run");
  std::error_code none;
  found->second.said_before = fs::file_size(files_.serial_of(guid), none);
  found->second.is_ready = false;
  found->second.is_shutting_down = false;
  FARSIDE_TRY(found->second.qemu->reset());
  return start(guid);
}

void Machines::kill(const std::string& guid) {
  const auto found = running_.find(guid);
  if (found == running_.end()) return;
  found->second.qemu->kill();
  for (const auto& server : found->second.servers) server->kill();
  objects_.set_state(guid, kOff);
  forget(guid);
}

void Machines::kill_all() {
  while (!running_.empty()) kill(std::string(running_.begin()->first));
}

void Machines::turn_off_all() {
  while (!running_.empty()) std::ignore = turn_off(std::string(running_.begin()->first));
}

void Machines::tick() {
  std::vector<std::string> guids;
  for (const auto& [guid, running] : running_) guids.push_back(guid);
  for (const std::string& guid : guids) {
    Running& running = running_.at(guid);
    const QemuVm::Event event = running.qemu->poll();
    if (event == QemuVm::Event::kDied) {
      kill(guid);
    } else if (event == QemuVm::Event::kPoweredOff) {
      std::ignore = turn_off(guid);
    } else if (!running.is_ready && state_.vms[guid].boots_witness &&
               objects_.state(guid) == kRunning) {
      running.is_ready =
          running.qemu->has_agent() && is_at_work(files_.serial_of(guid), running.said_before);
    }
  }
}

bool Machines::is_ready(const std::string& guid) {
  const auto found = running_.find(guid);
  return found != running_.end() && found->second.is_ready && objects_.state(guid) == kRunning;
}

Status Machines::press_power_button(const std::string& guid) {
  if (!is_ready(guid)) return fail(ErrorCode::kConflict, "the guest is not ready");
  Running& running = running_.at(guid);
  if (running.is_shutting_down) return fail(ErrorCode::kAlreadyExists, "it is shutting down");
  FARSIDE_TRY(running.qemu->press_power_button());
  running.is_shutting_down = true;
  return {};
}

Status Machines::run_in_guest(const std::string& guid, const std::string& path,
                              const std::vector<std::string>& words) {
  if (!is_ready(guid)) return fail(ErrorCode::kConflict, "the guest is not ready");
  return running_.at(guid).qemu->run_in_guest(path, words);
}

Status Machines::with_qemu(const std::string& guid, const std::function<Status(QemuVm&)>& act) {
  if (const auto found = running_.find(guid); found != running_.end()) {
    return act(*found->second.qemu);
  }
  FARSIDE_ASSIGN(Running running, open(guid));
  running_.emplace(guid, std::move(running));
  const Status acted = act(*running_.at(guid).qemu);
  const Status closed = close(guid);
  return acted ? closed : acted;
}

void Machines::lock_disks(const std::string& guid) {
  constexpr mode_t kLive = 0000;
  constexpr mode_t kFrozen = 0444;
  constexpr mode_t kIdle = 0666;
  const auto set = [&](const std::string& disk, mode_t mode) {
    if (const auto file = files_.file_of(disk)) ::chmod(file->c_str(), mode);
  };
  const Instance* settings = objects_.settings(guid);
  if (settings == nullptr || !options_.locks_disks) return;
  const bool is_on = objects_.state(guid) != kOff && running_.contains(guid);
  for (const AttachedDisk& disk : objects_.disks(*settings)) set(disk.path, is_on ? kLive : kIdle);
  const auto open = state_.checkpoints.find(guid);
  if (open == state_.checkpoints.end()) return;
  for (const CheckpointDisk& one : open->second.disks) {
    if (open->second.stage == Checkpoint::Stage::kOpen) {
      set(one.base, is_on && locks_frozen ? kLive : kFrozen);
    }
  }
}

// The shutdown service is there while a guest runs that has it.
void Machines::show_services(const std::string& guid) {
  Objects& objects = objects_.objects();
  const Reference service{
      .class_name = "Msvm_ShutdownComponent",
      .keys = {{"SystemName", guid}, {"DeviceID", "Microsoft:" + guid + "\\Shutdown"}}};
  const bool should_be =
      running_.contains(guid) && state_.vms[guid].boots_witness && objects_.state(guid) != kOff;
  if (!should_be) {
    objects.remove(service);
  } else if (objects.find(service) == nullptr) {
    const Instance& added = objects.add(
        {"Msvm_ShutdownComponent",
         {{"SystemCreationClassName", Value::text("Msvm_ComputerSystem")},
          {"SystemName", Value::text(guid)},
          {"CreationClassName", Value::text("Msvm_ShutdownComponent")},
          {"DeviceID", Value::text(service.key("DeviceID"))},
          {"ElementName", Value::text("Shutdown")},
          {"EnabledState", Value::u16(2)},
          {"OperationalStatus", Value::list({Value::u16(2)}, wsman::CimType::kUint16)}}});
    if (const Instance* vm = objects_.system(guid)) {
      objects.associate("Msvm_SystemDevice", *vm, added);
    }
  }
}

}  // namespace farside::hvsim
