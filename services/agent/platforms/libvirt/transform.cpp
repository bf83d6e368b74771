#include "services/agent/platforms/libvirt/transform.h"

#include <fmt/core.h>

#include <algorithm>
#include <filesystem>

#include "services/agent/platforms/libvirt/boot_files.h"
#include "services/agent/platforms/libvirt/domain_writer.h"
#include "services/agent/platforms/libvirt/domain_xml.h"
#include "services/agent/platforms/libvirt/rules.h"
#include "services/agent/platforms/plan.h"

namespace farside::agent::libvirt {
namespace {

// Names of disks tell their bus, and libvirt numbers disks per bus: two that are called sda and vda
// must not be on one.
std::string bus_of(const std::string& disk) {
  return disk.starts_with("sd") || disk.starts_with("hd") ? "sata" : "virtio";
}

Result<TargetDomain> from_shape(const NewVm& vm, const Networks& networks, const TargetHost& host) {
  const msg::Vm& shape = vm.shape;
  constexpr const char* kMachine = "q35";
  if (shape.processors > kCountMax || shape.nics.size() > kCountMax ||
      vm.disks.size() > kCountMax) {
    return fail(ErrorCode::kInvalidArgument,
                fmt::format("{} processors, {} cards and {} disks: more than {} of one kind",
                            shape.processors, shape.nics.size(), vm.disks.size(), kCountMax));
  }
  TargetDomain domain{.xml = {}, .rows = plan_of_shape(shape), .nvram_path = {}, .nvram = {}};
  std::string os = fmt::format("<type arch='x86_64' machine='{}'>hvm</type>", kMachine);
  std::string features = "<acpi/><apic/>";
  if (shape.generation == 2) {
    FARSIDE_ASSIGN(
        const auto firmware,
        choose_firmware({.features = vm.definition.firmware, .arch = "x86_64", .machine = kMachine},
                        host.firmware));
    FARSIDE_ASSIGN(domain.nvram_path, nvram_path_of(vm));
    os += firmware_xml(firmware, domain.nvram_path);
    if (firmware.has("requires-smm")) features += "<smm state='on'/>";
  }
  FARSIDE_ASSIGN(
      const std::string direct,
      direct_boot_xml({shape.boot_kernel, shape.boot_initrd, shape.boot_command_line}, host));
  os += direct.empty() ? "<boot dev='hd'/>" : direct;

  std::string devices;
  if (!host.emulator.empty()) {
    devices += fmt::format("<emulator>{}</emulator>", xml_escape(host.emulator));
  }
  for (const NewDisk& disk : vm.disks) {
    devices += fmt::format("<disk type='file' device='disk'>{}<target dev='{}' bus='{}'/></disk>",
                           disk_source_xml(disk, ""), xml_escape(disk.name), bus_of(disk.name));
  }
  for (const msg::Nic& nic : shape.nics) {
    FARSIDE_ASSIGN(const std::string card, networks.card_xml(nic.network, nic.mac));
    devices += card;
  }
  devices += fmt::format(
      "<serial type='file'><source path='{}' append='on'/><target port='0'/></serial>"
      "<channel type='unix'><target type='virtio' name='org.qemu.guest_agent.0'/></channel>"
      "<memballoon model='none'/>",
      xml_escape(host.serial_log));
  domain.xml = fmt::format(
      "<domain type='{}'><name>{}</name><uuid>{}</uuid><metadata>{}</metadata>"
      "<memory unit='MiB'>{}</memory><vcpu>{}</vcpu><os>{}</os><features>{}</features>"
      "<cpu mode='{}'/><on_poweroff>destroy</on_poweroff><on_reboot>restart</on_reboot>"
      "<on_crash>destroy</on_crash><devices>{}</devices></domain>",
      host.type, xml_escape(shape.name), xml_escape(vm.id), mark_xml(vm), shape.memory_mib,
      shape.processors == 0 ? 1 : shape.processors, os, features,
      host.type == "kvm" ? "host-passthrough" : "maximum", devices);
  return domain;
}

}  // namespace

Result<TargetDomain> make_domain(const NewVm& vm, const Networks& networks,
                                 const TargetHost& host) {
  auto domain = [&]() -> Result<TargetDomain> {
    if (vm.definition.platform != "libvirt" || vm.definition.text.empty()) {
      return from_shape(vm, networks, host);
    }
    FARSIDE_ASSIGN(const auto document, XmlDocument::parse_foreign(vm.definition.text));
    return DomainWriter(vm, networks, host).write(document.root());
  }();
  if (!domain) return fail(domain.error().in(fmt::format("VM '{}'", vm.shape.name)));
  return domain;
}

std::string mark_xml(const NewVm& vm) {
  std::string mark = fmt::format("<farside:vm xmlns:farside='{}' item='{}' test='{}'>", kMarkSpace,
                                 xml_escape(vm.item_id), vm.is_test ? "yes" : "no");
  for (const NewDisk& disk : vm.disks) {
    mark += fmt::format("<farside:overlay bytes='{}'>{}</farside:overlay>", disk.bytes,
                        xml_escape(disk.overlay_path));
  }
  for (const msg::Nic& nic : vm.shape.nics) {
    mark += fmt::format("<farside:nic mac='{}' network='{}'/>", xml_escape(nic.mac),
                        xml_escape(nic.network));
  }
  return mark + "</farside:vm>";
}

// When the server of the view is restarted, QEMU's request fails, and its next one connects again.
// The guest must not see that error: QEMU stops it, and the platform resumes it.
std::string disk_source_xml(const NewDisk& disk, const std::string& driver) {
  const std::string backing =
      disk.nbd_socket.empty() ? "" : view_xml(disk.nbd_socket, disk.nbd_export);
  return fmt::format(
      "<driver name='qemu' type='qcow2' error_policy='stop' rerror_policy='stop'{}{}/>"
      "<source file='{}'/>{}",
      driver.contains(" discard=") ? "" : " discard='unmap'", driver, xml_escape(disk.overlay_path),
      backing);
}

std::string view_xml(const std::string& socket, const std::string& name) {
  return fmt::format(
      "<backingStore type='network'><format type='raw'/>"
      "<source protocol='nbd' name='{}'><host transport='unix' socket='{}'/></source>"
      "<backingStore/></backingStore>",
      xml_escape(name), xml_escape(socket));
}

Result<std::string> nvram_path_of(const NewVm& vm) {
  if (vm.disks.empty()) return fail(ErrorCode::kInvalidArgument, "it has no disk");
  const auto folder = std::filesystem::path(vm.disks[0].overlay_path).parent_path();
  return (folder / (vm.id + ".nvram")).string();
}

std::string firmware_xml(const Firmware& firmware, const std::string& nvram_path) {
  return fmt::format(
      "<loader readonly='yes' secure='{}' type='pflash'>{}</loader><nvram template='{}'>{}</nvram>",
      firmware.has("secure-boot") && firmware.has("requires-smm") ? "yes" : "no",
      xml_escape(firmware.loader), xml_escape(firmware.variables), xml_escape(nvram_path));
}

Result<std::string> direct_boot_xml(const DirectBoot& boot, const TargetHost& host) {
  if (boot.kernel.empty()) return std::string();
  FARSIDE_ASSIGN(const std::string kernel, boot_file(host.boot_folder, boot.kernel));
  std::string xml = fmt::format("<kernel>{}</kernel>", xml_escape(kernel));
  if (!boot.initrd.empty()) {
    FARSIDE_ASSIGN(const std::string initrd, boot_file(host.boot_folder, boot.initrd));
    xml += fmt::format("<initrd>{}</initrd>", xml_escape(initrd));
  }
  if (!boot.command_line.empty()) {
    if (!is_allowed(TextRule::kFree, boot.command_line)) {
      return fail(ErrorCode::kInvalidArgument, "its kernel command line is too long or not text");
    }
    xml += fmt::format("<cmdline>{}</cmdline>", xml_escape(boot.command_line));
  }
  return xml;
}

}  // namespace farside::agent::libvirt
