#include "services/agent/platforms/libvirt/domain_xml.h"

#include <fmt/core.h>

#include <charconv>

namespace farside::agent::libvirt {
namespace {

constexpr const char* kNamespace = "urn:farside:domain:1";
std::uint64_t number(const std::string& text) {
  std::uint64_t value = 0;
  std::from_chars(text.data(), text.data() + text.size(), value);
  return value;
}

std::uint32_t memory_mib(const XmlNode& memory) {
  const std::string unit = memory.attribute("unit");
  const std::uint64_t value = number(memory.text());
  if (unit == "b" || unit == "bytes") return static_cast<std::uint32_t>(value >> 20U);
  if (unit == "MiB" || unit == "M") return static_cast<std::uint32_t>(value);
  if (unit == "GiB" || unit == "G") return static_cast<std::uint32_t>(value << 10U);
  return static_cast<std::uint32_t>(value >> 10U);  // libvirt writes KiB.
}

DiskShape read_disk(const XmlNode& node) {
  DiskShape disk{.name = node.child("target").attribute("dev"),
                 .path = node.child("source").attribute("file"),
                 .format = node.child("driver").attribute("type")};
  const std::string device = node.attribute("device");
  disk.is_writable_disk = (device.empty() || device == "disk") && !node.child("readonly");
  for (XmlNode at = node.child("backingStore"); at; at = at.child("backingStore")) {
    if (at.attribute("type") == "network") disk.reads_network_view = true;
  }
  return disk;
}

void read_mark(const XmlNode& mark, DomainShape& shape) {
  if (!mark) return;
  shape.is_ours = true;
  shape.item_id = mark.attribute("item");
  shape.vm.is_replica = true;
  shape.vm.is_test = mark.attribute("test") == "yes";
  for (const XmlNode& overlay : mark.children("overlay")) {
    shape.overlays.push_back(overlay.text());
    for (DiskShape& disk : shape.disks) {
      if (disk.path == overlay.text()) disk.bytes = number(overlay.attribute("bytes"));
    }
    for (msg::Disk& disk : shape.vm.disks) {
      if (disk.path == overlay.text()) disk.bytes = number(overlay.attribute("bytes"));
    }
  }
}

std::string problem_of(const DomainShape& shape) {
  if (!shape.is_persistent) return "the VM is transient: define it permanently";
  bool has_disk = false;
  for (const DiskShape& disk : shape.disks) {
    if (!disk.is_writable_disk) continue;
    has_disk = true;
    if (disk.path.empty()) return fmt::format("disk {} is not a file", disk.name);
    if (disk.format != "qcow2") {
      return fmt::format("disk {} has the format {}: only qcow2 remembers which blocks changed",
                         disk.name, disk.format);
    }
  }
  return has_disk ? "" : "the VM has no disk";
}

std::string boot_xml(const msg::Vm& shape) {
  std::string inner = "<type arch='x86_64' machine='q35'>hvm</type>";
  if (!shape.boot_kernel.empty()) {
    inner += fmt::format("<kernel>{}</kernel>", xml_escape(shape.boot_kernel));
    if (!shape.boot_initrd.empty()) {
      inner += fmt::format("<initrd>{}</initrd>", xml_escape(shape.boot_initrd));
    }
    if (!shape.boot_command_line.empty()) {
      inner += fmt::format("<cmdline>{}</cmdline>", xml_escape(shape.boot_command_line));
    }
    return fmt::format("<os>{}</os>", inner);
  }
  return fmt::format("<os{}>{}<boot dev='hd'/></os>",
                     shape.generation == 2 ? " firmware='efi'" : "", inner);
}

// When the server of the view is restarted, QEMU's request fails, and its next one connects again.
// The guest must not see that error: QEMU stops it, and the platform resumes it.
std::string disk_xml(const NewDisk& disk) {
  return fmt::format(
      "<disk type='file' device='disk'>"
      "<driver name='qemu' type='qcow2' discard='unmap' error_policy='stop' rerror_policy='stop'/>"
      "<source file='{}'/>"
      "<backingStore type='network'><format type='raw'/>"
      "<source protocol='nbd' name='{}'><host transport='unix' socket='{}'/></source>"
      "<backingStore/></backingStore>"
      "<target dev='{}' bus='virtio'/></disk>",
      xml_escape(disk.overlay_path), xml_escape(disk.nbd_export), xml_escape(disk.nbd_socket),
      xml_escape(disk.name));
}

std::string disks_xml(const std::vector<DiskShape>& disks, const std::string& yes,
                      const std::string& no, const std::string& attribute,
                      const std::function<std::string(const DiskShape&)>& inner) {
  std::string out = "<disks>";
  for (const DiskShape& disk : disks) {
    if (disk.is_writable_disk) {
      out += fmt::format("<disk name='{}' {}='{}'{}", xml_escape(disk.name), attribute, yes,
                         inner(disk));
    } else {
      out += fmt::format("<disk name='{}' {}='{}'/>", xml_escape(disk.name), attribute, no);
    }
  }
  return out + "</disks>";
}

}  // namespace

Result<DomainShape> read_domain(const std::string& xml, const Networks& networks) {
  FARSIDE_ASSIGN(const auto document, XmlDocument::parse(xml));
  const XmlNode domain = document.root();
  DomainShape shape;
  msg::Vm& vm = shape.vm;
  vm.id = domain.child("uuid").text();
  vm.name = domain.child("name").text();
  vm.memory_mib = memory_mib(domain.child("memory"));
  vm.processors = static_cast<std::uint32_t>(number(domain.child("vcpu").text()));
  const XmlNode os = domain.child("os");
  const bool is_efi = os.attribute("firmware") == "efi" || bool(os.child("loader"));
  vm.generation = is_efi ? 2 : 1;
  vm.boot_kernel = os.child("kernel").text();
  vm.boot_initrd = os.child("initrd").text();
  vm.boot_command_line = os.child("cmdline").text();

  const XmlNode devices = domain.child("devices");
  for (const XmlNode& node : devices.children("disk")) {
    shape.disks.push_back(read_disk(node));
    const DiskShape& disk = shape.disks.back();
    if (!disk.is_writable_disk) continue;
    vm.disks.push_back({.name = disk.name, .bytes = 0, .path = disk.path, .format = disk.format});
  }
  for (const XmlNode& node : devices.children("channel")) {
    const XmlNode target = node.child("target");
    if (target.attribute("name") == "org.qemu.guest_agent.0") {
      shape.has_guest_agent = target.attribute("state") == "connected";
    }
  }

  const XmlNode mark = domain.child("metadata").child("vm");
  read_mark(mark, shape);
  for (const XmlNode& node : devices.children("interface")) {
    msg::Nic nic{.mac = node.child("mac").attribute("address"),
                 .network = networks.network_of(node),
                 .address = ""};
    // The mark knows the name even where several networks look alike to libvirt.
    for (const XmlNode& known : mark.children("nic")) {
      if (known.attribute("mac") == nic.mac) nic.network = known.attribute("network");
    }
    vm.nics.push_back(std::move(nic));
  }
  vm.problem = problem_of(shape);
  return shape;
}

Result<std::string> write_domain(const NewVm& vm, const Networks& networks,
                                 const DomainDefaults& defaults) {
  const msg::Vm& shape = vm.shape;
  std::string mark = fmt::format("<farside:vm xmlns:farside='{}' item='{}' test='{}'>", kNamespace,
                                 xml_escape(vm.item_id), vm.is_test ? "yes" : "no");
  std::string devices;
  if (!defaults.emulator.empty()) {
    devices += fmt::format("<emulator>{}</emulator>", xml_escape(defaults.emulator));
  }
  for (const NewDisk& disk : vm.disks) {
    mark += fmt::format("<farside:overlay bytes='{}'>{}</farside:overlay>", disk.bytes,
                        xml_escape(disk.overlay_path));
    devices += disk_xml(disk);
  }
  for (const msg::Nic& nic : shape.nics) {
    FARSIDE_ASSIGN(const std::string card, networks.card_xml(nic.network, nic.mac));
    devices += card;
    mark += fmt::format("<farside:nic mac='{}' network='{}'/>", xml_escape(nic.mac),
                        xml_escape(nic.network));
  }
  mark += "</farside:vm>";
  devices += fmt::format(
      "<serial type='file'><source path='{}' append='on'/><target port='0'/></serial>"
      "<channel type='unix'><target type='virtio' name='org.qemu.guest_agent.0'/></channel>"
      "<memballoon model='none'/>",
      xml_escape(defaults.serial_log));

  const bool is_kvm = defaults.type == "kvm";
  return fmt::format(
      "<domain type='{}'><name>{}</name><uuid>{}</uuid><metadata>{}</metadata>"
      "<memory unit='MiB'>{}</memory><vcpu>{}</vcpu>{}"
      "<features><acpi/><apic/></features><cpu mode='{}'/>"
      "<on_poweroff>destroy</on_poweroff><on_reboot>restart</on_reboot>"
      "<on_crash>destroy</on_crash><devices>{}</devices></domain>",
      defaults.type, xml_escape(shape.name), xml_escape(vm.id), mark, shape.memory_mib,
      shape.processors == 0 ? 1 : shape.processors, boot_xml(shape),
      is_kvm ? "host-passthrough" : "maximum", devices);
}

std::string scratch_file(const BackupDescription& backup, const std::string& disk) {
  return fmt::format("{}-{}.scratch", backup.scratch_prefix, disk);
}

std::string write_backup(const BackupDescription& backup, const std::vector<DiskShape>& disks) {
  const std::string incremental =
      backup.since.empty() ? ""
                           : fmt::format("<incremental>{}</incremental>", xml_escape(backup.since));
  return fmt::format(
      "<domainbackup mode='pull'>{}<server transport='unix' socket='{}'/>{}</domainbackup>",
      incremental, xml_escape(backup.socket),
      disks_xml(disks, "yes", "no", "backup", [&](const DiskShape& disk) {
        return fmt::format(" type='file'><driver type='qcow2'/><scratch file='{}'/></disk>",
                           xml_escape(scratch_file(backup, disk.name)));
      }));
}

std::string write_checkpoint(const BackupDescription& backup, const std::vector<DiskShape>& disks) {
  return fmt::format("<domaincheckpoint><name>{}</name>{}</domaincheckpoint>",
                     xml_escape(backup.checkpoint),
                     disks_xml(disks, "bitmap", "no", "checkpoint",
                               [](const DiskShape&) { return std::string("/>"); }));
}

}  // namespace farside::agent::libvirt
