#include "services/agent/platforms/libvirt/domain_xml.h"

#include <fmt/core.h>

#include <charconv>
#include <filesystem>
#include <set>

#include "services/agent/platforms/libvirt/firmware.h"

namespace farside::agent::libvirt {
namespace {

std::uint32_t memory_mib(const XmlNode& memory) {
  const std::string unit = memory.attribute("unit");
  const std::uint64_t value = to_number(memory.text());
  if (unit == "b" || unit == "bytes") return static_cast<std::uint32_t>(value >> 20U);
  if (unit == "MiB" || unit == "M") return static_cast<std::uint32_t>(value);
  if (unit == "GiB" || unit == "G") return static_cast<std::uint32_t>(value << 10U);
  return static_cast<std::uint32_t>(value >> 10U);  // libvirt writes KiB.
}

DiskShape read_disk(const XmlNode& node) {
  DiskShape disk{.name = node.child("target").attribute("dev"),
                 .path = node.child("source").attribute("file"),
                 .format = node.child("driver").attribute("type"),
                 .id = disk_id(node),
                 .is_writable_disk = is_writable_disk(node),
                 .alias = node.child("alias").attribute("name")};
  for (XmlNode at = node.child("backingStore"); at; at = at.child("backingStore")) {
    if (at.attribute("type") != "network") continue;
    const XmlNode source = at.child("source");
    disk.reads_network_view = true;
    disk.view = {.socket = source.child("host").attribute("socket"),
                 .name = source.attribute("name")};
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
      if (disk.path == overlay.text()) disk.bytes = to_number(overlay.attribute("bytes"));
    }
    for (msg::Disk& disk : shape.vm.disks) {
      if (disk.path == overlay.text()) disk.bytes = to_number(overlay.attribute("bytes"));
    }
  }
}

// The disk, or anything that it stands on.
bool is_encrypted(const XmlNode& disk) {
  for (XmlNode node = disk; node; node = node.child("backingStore")) {
    if (node.child("encryption") || node.child("source").child("encryption") ||
        node.child("format").attribute("type") == "luks") {
      return true;
    }
  }
  return false;
}

void find_problems(const XmlNode& domain, DomainShape& shape) {
  const XmlNode devices = domain.child("devices");
  bool has_disk = false;
  std::set<std::string> ids;
  for (const XmlNode& node : devices.children("disk")) {
    const DiskShape disk = read_disk(node);
    if (node.attribute("device") == "lun" && !node.child("readonly")) {
      shape.add_problem(
          fmt::format("disk {} is a LUN of the host, of which there are no points: "
                      "move it into a qcow2 image",
                      disk.name));
    }
    if (!disk.is_writable_disk) continue;
    has_disk = true;
    const std::string name = fmt::format("disk {}", disk.name);
    if (!disk.id.empty() && !ids.insert(disk.id).second) {
      shape.add_problem(name +
                        " has the serial number or WWN of another disk of the VM, and could "
                        "be taken for it: give it one of its own");
    }
    if (is_encrypted(node)) {
      shape.add_problem(name + " is encrypted, and is never copied in plain text: use encryption " +
                        "inside the guest instead");
    }
    if (node.child("shareable") || node.child("transient")) {
      shape.add_problem(name + " is shared or transient: make it an ordinary disk");
    }
    if (disk.path.empty()) {
      shape.add_problem(name + " is not a file: move it into a qcow2 image");
    } else if (disk.format != "qcow2") {
      shape.add_problem(
          fmt::format("{} has the format {}, and only qcow2 remembers which blocks "
                      "changed: with the VM off, convert it with `qemu-img convert "
                      "-O qcow2`",
                      name, disk.format.empty() ? "of no name" : disk.format));
    }
  }
  if (!has_disk) shape.add_problem("the VM has no disk that could be replicated: add one");
  if (devices.child("tpm")) {
    shape.add_problem("the VM has a virtual TPM, whose state is not replicated yet: remove it");
  }
  const std::string nvram_format = domain.child("os").child("nvram").attribute("format");
  if (!nvram_format.empty() && nvram_format != "raw") {
    shape.add_problem("the VM's UEFI variables are not in a raw file: convert it");
  }
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

// Of a file on its host only the name matters elsewhere.
std::string file_name(const std::string& path) {
  return std::filesystem::path(path).filename().string();
}

XmlNode find_mark(const XmlNode& domain) {
  for (const XmlNode& each : domain.child("metadata").children("vm")) {
    if (each.space() == kMarkSpace) return each;
  }
  return XmlNode();
}

}  // namespace

void DomainShape::add_problem(const std::string& problem) {
  problems.push_back(problem);
  if (!vm.problem.empty()) vm.problem += "; ";
  vm.problem += problem;
}

std::string disk_id(const XmlNode& disk) {
  if (const std::string serial = disk.child("serial").text(); !serial.empty()) {
    return "serial:" + serial;
  }
  if (const std::string wwn = disk.child("wwn").text(); !wwn.empty()) return "wwn:" + wwn;
  const std::string path = disk.child("source").attribute("file");
  return path.empty() ? "" : "file:" + path;
}

bool is_writable_disk(const XmlNode& disk) {
  const std::string device = disk.attribute("device");
  return (device.empty() || device == "disk") && !disk.child("readonly");
}

std::uint64_t to_number(const std::string& text) {
  std::uint64_t value = 0;
  std::from_chars(text.data(), text.data() + text.size(), value);
  return value;
}

Result<DomainShape> read_domain(const std::string& xml, const Networks& networks) {
  FARSIDE_ASSIGN(const auto document, XmlDocument::parse(xml));
  const XmlNode domain = document.root();
  DomainShape shape;
  msg::Vm& vm = shape.vm;
  vm.id = domain.child("uuid").text();
  vm.name = domain.child("name").text();
  vm.memory_mib = memory_mib(domain.child("memory"));
  vm.processors = static_cast<std::uint32_t>(to_number(domain.child("vcpu").text()));
  const XmlNode os = domain.child("os");
  vm.generation = is_uefi(os) ? 2 : 1;
  vm.boot_kernel = file_name(os.child("kernel").text());
  vm.boot_initrd = file_name(os.child("initrd").text());
  vm.boot_command_line = os.child("cmdline").text();

  const XmlNode devices = domain.child("devices");
  for (const XmlNode& node : devices.children("disk")) {
    shape.disks.push_back(read_disk(node));
    const DiskShape& disk = shape.disks.back();
    if (!disk.is_writable_disk) continue;
    vm.disks.push_back(
        {.name = disk.name, .bytes = 0, .path = disk.path, .format = disk.format, .id = disk.id});
  }
  for (const XmlNode& node : devices.children("channel")) {
    const XmlNode target = node.child("target");
    if (target.attribute("name") == "org.qemu.guest_agent.0") {
      shape.has_agent_channel = true;
      shape.has_guest_agent = target.attribute("state") == "connected";
    }
  }

  const XmlNode mark = find_mark(domain);
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
  find_problems(domain, shape);
  return shape;
}

std::string scratch_file(const BackupDescription& backup, const std::string& disk) {
  return fmt::format("{}-{}{}", backup.scratch_prefix, disk, kScratchSuffix);
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
