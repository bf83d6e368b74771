#include "tests/support/guest/domain.h"

#include <fmt/core.h>

#include <cstdlib>
#include <filesystem>
#include <fstream>

#include "services/agent/platforms/libvirt/program.h"
#include "services/agent/platforms/libvirt/xml.h"

namespace farside::guest {

using agent::libvirt::xml_escape;

std::string to_xml(const WitnessVm& vm) {
  std::string boot = "<type arch='x86_64' machine='q35'>hvm</type>";
  if (!vm.guest_dir.empty()) {
    // panic=1: a guest that cannot work ends instead of hanging.
    std::string words = "console=ttyS0 quiet panic=1";
    words += fmt::format(" witness.disks={}", vm.disks.size());
    for (const auto& [key, value] : vm.options) words += fmt::format(" witness.{}={}", key, value);
    boot += fmt::format(
        "<kernel>{0}/vmlinuz</kernel><initrd>{0}/initrd.gz</initrd><cmdline>{1}</cmdline>",
        xml_escape(vm.guest_dir), xml_escape(words));
  }
  std::string devices;
  for (std::size_t i = 0; i < vm.disks.size(); ++i) {
    devices += fmt::format(
        "<disk type='file' device='disk'><driver name='qemu' type='qcow2' discard='unmap'/>"
        "<source file='{}'/><target dev='vd{}' bus='virtio'/></disk>",
        xml_escape(vm.disks[i]), static_cast<char>('a' + i));
  }
  for (const std::string& card : vm.cards) devices += card;
  if (!vm.serial_log.empty()) {
    devices += fmt::format(
        "<serial type='file'><source path='{}' append='on'/><target port='0'/></serial>",
        xml_escape(vm.serial_log));
  }
  return fmt::format(
      "<domain type='{}'><name>{}</name><uuid>{}</uuid><memory unit='MiB'>{}</memory>"
      "<vcpu>1</vcpu><os>{}</os><features><acpi/><apic/></features><cpu mode='{}'/>"
      "<on_poweroff>destroy</on_poweroff><on_reboot>restart</on_reboot>"
      "<on_crash>destroy</on_crash><devices>{}"
      "<channel type='unix'><target type='virtio' name='org.qemu.guest_agent.0'/></channel>"
      "<memballoon model='none'/></devices></domain>",
      vm.type, xml_escape(vm.name), vm.id, vm.memory_mib, boot,
      vm.type == "kvm" ? "host-passthrough" : "maximum", devices);
}

Status create_qcow2(const std::string& path, std::uint64_t bytes) {
  if (std::filesystem::exists(path)) {
    return fail(ErrorCode::kAlreadyExists, fmt::format("{} exists already", path));
  }
  FARSIDE_ASSIGN(const auto made,
                 agent::libvirt::run_program(
                     {"qemu-img", "create", "-q", "-f", "qcow2", path, std::to_string(bytes)},
                     std::chrono::seconds(30)));
  if (made.exit_code == 0) return {};
  return fail(ErrorCode::kPlatform, fmt::format("create {}: {}", path, made.output));
}

std::string place_guest(const std::string& from, const std::string& folder) {
  namespace fs = std::filesystem;
  const fs::path guest = fs::path(folder) / "guest";
  const auto pass = fs::perms::group_exec | fs::perms::others_exec;
  std::error_code error;
  fs::permissions(folder, pass, fs::perm_options::add, error);
  fs::create_directories(guest, error);
  fs::permissions(guest, pass, fs::perm_options::add, error);
  for (const char* name : {"vmlinuz", "initrd.gz"}) {
    fs::copy_file(fs::path(from) / name, guest / name, fs::copy_options::skip_existing, error);
  }
  return guest.string();
}

std::uint64_t last_reported(const std::string& serial_log, const std::string& what) {
  std::ifstream log(serial_log);
  const std::string prefix = fmt::format("witness: {} seq=", what);
  std::uint64_t seq = 0;
  for (std::string line; std::getline(log, line);) {
    const auto at = line.find(prefix);
    if (at == std::string::npos) continue;
    seq = std::strtoull(line.c_str() + at + prefix.size(), nullptr, 10);
  }
  return seq;
}

}  // namespace farside::guest
