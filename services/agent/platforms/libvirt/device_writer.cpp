// The devices of a domain of this host: those that this host describes in its own words.
#include <fmt/core.h>

#include <algorithm>
#include <array>

#include "services/agent/platforms/libvirt/domain_writer.h"
#include "services/agent/platforms/libvirt/domain_xml.h"

namespace farside::agent::libvirt {
namespace {

constexpr std::string_view kTransitional = "virtio-transitional|virtio-non-transitional";

// Of <driver>, as QEMU can do it over a qcow2 overlay.
constexpr Rule kDiskDriver = {
    "devices/disk/driver", Treatment::kKeep,
    "cache=default|none|writethrough|writeback|directsync io=threads|native|io_uring "
    "discard=unmap|ignore detect_zeroes=off|on|unmap queues queue_size iothread ioeventfd=on|off "
    "event_idx=on|off iommu=on|off ats=on|off packed=on|off page_per_vq=on|off -name -type "
    "-error_policy -rerror_policy -copy_on_read -metadata_cache"};
constexpr Rule kDiskTarget = {"devices/disk/target", Treatment::kKeep,
                              "!dev !bus=virtio|scsi|ide|sata|usb|fdc removable=on|off "
                              "rotation_rate -tray"};
constexpr std::string_view kCardModels =
    "virtio|virtio-transitional|virtio-non-transitional|e1000|e1000e|e1000-82544gc|e1000-82545em|"
    "igb|rtl8139|pcnet|ne2k_pci|ne2k_isa|vmxnet3|usb-net|i82550|i82551|i82557b|i82559er|lan9118";

bool is_one_of(std::string_view value, std::string_view list) {
  return !value.empty() && fmt::format("|{}|", list).contains(fmt::format("|{}|", value));
}

std::string attributes_xml(const CheckedAttributes& attributes) {
  std::string out;
  for (const XmlAttribute& each : attributes.kept) out += attribute_xml(each.name, each.value);
  return out;
}

std::string lower(std::string text) {
  std::ranges::transform(text, text.begin(),
                         [](unsigned char c) { return static_cast<char>(std::tolower(c)); });
  return text;
}

bool is_mac(std::string_view text) {
  return text.size() == 17 &&
         text.find_first_not_of("0123456789abcdefABCDEF:") == std::string_view::npos;
}

}  // namespace

// By identity first: names move with the hardware.
void DomainWriter::match_disks(const XmlNode& devices) {
  std::set<const NewDisk*> taken;
  const auto nodes = devices.children("disk");
  for (const bool by_id : {true, false}) {
    for (const XmlNode& node : nodes) {
      const std::string name = node.child("target").attribute("dev");
      if (!is_writable_disk(node) || disk_of_.contains(name)) continue;
      const std::string id = disk_id(node);
      const auto found = std::ranges::find_if(vm_.disks, [&](const NewDisk& disk) {
        if (taken.contains(&disk)) return false;
        return by_id ? !id.empty() && disk.id == id : disk.name == name;
      });
      if (found == vm_.disks.end()) continue;
      taken.insert(&*found);
      disk_of_[name] = &*found;
    }
  }
}

Status DomainWriter::make_devices(const XmlNode& devices, std::string& out) {
  out += "<devices>";
  if (!host_.emulator.empty() && (arch_ == "x86_64" || arch_ == "i686")) {
    out += fmt::format("<emulator>{}</emulator>", xml_escape(host_.emulator));
  }
  FARSIDE_TRY(inside(devices, "devices", out));
  FARSIDE_TRY(make_missing_devices(out));
  out += "</devices>";
  return {};
}

Status DomainWriter::make_device(const XmlNode& node, const std::string& path, std::string& out) {
  if (path == "devices/disk") return make_disk(node, out);
  if (path == "devices/interface") return make_card(node, out);
  if (path == "devices/serial" || path == "devices/parallel" || path == "devices/console") {
    return make_port(node, path, out);
  }
  if (path == "devices/channel") return make_channel(node, out);
  if (path == "devices/graphics") {
    make_graphics(node, out);
  } else if (path == "devices/rng/backend") {
    out += "<backend model='random'>/dev/urandom</backend>";
  } else if (path == "devices/emulator" && node.own_text() != host_.emulator) {
    mapped("emulator", summary(node), host_.emulator, "this host's own");
  }
  return {};
}

Result<std::string> DomainWriter::disk_target(const XmlNode& disk) {
  const XmlNode target = disk.child("target");
  const auto attributes = check_attributes(kDiskTarget, target);
  const std::string name = target.attribute("dev");
  const bool is_name =
      name.size() >= 2 && name.size() <= 16 &&
      name.find_first_not_of("abcdefghijklmnopqrstuvwxyz0123456789") == std::string::npos;
  if (!attributes.is_whole || !is_name || !targets_.insert(name).second) {
    return fail(ErrorCode::kUnsupported,
                fmt::format("disk '{}' on bus '{}' cannot be built here, or there are two of it",
                            name.substr(0, 16), target.attribute("bus").substr(0, 16)),
                "attach that disk to virtio, scsi, sata, ide or usb at the source");
  }
  return fmt::format("<target{}/>", attributes_xml(attributes));
}

Status DomainWriter::make_disk(const XmlNode& disk, std::string& out) {
  const std::string device = disk.attribute("device");
  const std::string name = disk.child("target").attribute("dev");
  if (device == "cdrom" || device == "floppy") return make_removable(disk, device, out);
  if (!is_writable_disk(disk)) {
    dropped("disk " + summary(disk.child("target")), "read-only", "it is not replicated");
    return {};
  }
  const auto found = disk_of_.find(name);
  if (found == disk_of_.end()) {
    dropped("disk " + summary(disk.child("target")), "", "this point does not hold it");
    return {};
  }
  const NewDisk& own = *found->second;
  disks_made_.insert(&own);
  FARSIDE_ASSIGN(const std::string target, disk_target(disk));
  const XmlNode driver = disk.child("driver");
  const auto attributes = check_attributes(kDiskDriver, driver);
  for (const XmlAttribute& each : attributes.dropped) {
    // "unsafe" among them: the guest's word that something is durable must be true here.
    mapped("disk " + name, fmt::format("{}={}", each.name, each.value), "as usual",
           "it does not fit a replica");
  }
  const std::string model = disk.attribute("model");
  out += "<disk type='file' device='disk'";
  if (is_one_of(model, kTransitional)) out += attribute_xml("model", model);
  out += ">" + disk_source_xml(own, attributes_xml(attributes)) + target;
  FARSIDE_TRY(inside(disk, "devices/disk", out));
  out += "</disk>";
  std::string value = fmt::format("{}, {} bytes", disk.child("target").attribute("bus"), own.bytes);
  if (const auto boot = disk.child("boot")) value += ", boot order " + boot.attribute("order");
  if (const auto sectors = disk.child("blockio")) value += ", " + summary(sectors);
  kept("disk " + name, value);
  return {};
}

Status DomainWriter::make_removable(const XmlNode& disk, const std::string& device,
                                    std::string& out) {
  FARSIDE_ASSIGN(const std::string target, disk_target(disk));
  out += fmt::format("<disk type='file' device='{}'>{}", device, target);
  if (device == "cdrom") out += "<readonly/>";
  FARSIDE_TRY(inside(disk, "devices/disk", out));
  out += "</disk>";
  if (disk.child("source")) {
    mapped("drive " + disk.child("target").attribute("dev"), device, "empty",
           "the medium is on the source's host");
  }
  return {};
}

Status DomainWriter::make_card(const XmlNode& card, std::string& out) {
  const std::string mac = lower(card.child("mac").attribute("address"));
  if (!is_mac(mac)) {
    dropped("network card", summary(card.child("model")), "it has no address");
    return {};
  }
  const auto nic = std::ranges::find_if(
      vm_.shape.nics, [&](const msg::Nic& each) { return lower(each.mac) == mac; });
  const std::string network = nic == vm_.shape.nics.end() ? "" : nic->network;
  FARSIDE_ASSIGN(const auto link, networks_.link(network));
  cards_made_.insert(mac);
  std::string model = card.child("model").attribute("type");
  std::string note;
  if (!is_one_of(model, kCardModels)) {
    note = fmt::format("a card of the kind '{}' cannot be made here",
                       model.empty() ? card.attribute("type").substr(0, 32) : model.substr(0, 32));
    model = "virtio";
  }
  out +=
      fmt::format("<interface type='{}'><mac address='{}'/>{}<model type='{}'/><link state='{}'/>",
                  link.type, mac, link.source, model, link.is_up ? "up" : "down");
  FARSIDE_TRY(inside(card, "devices/interface", out));
  out += "</interface>";
  mapped("network card " + mac, note.empty() ? model : card.attribute("type").substr(0, 32),
         fmt::format("{}, {}", model, network.empty() ? "no link" : network), note);
  return {};
}

Status DomainWriter::make_port(const XmlNode& port, const std::string& path, std::string& out) {
  const std::string kind = port.name();
  // A console that is a serial port as well is made up by libvirt from that.
  if (kind == "console" && port.child("target").attribute("type") != "virtio") return {};
  const bool is_log = kind == "serial" && serial_ports_++ == 0;
  out += fmt::format("<{} type='{}'>", kind, is_log ? "file" : "null");
  if (is_log) {
    out += fmt::format("<source path='{}' append='on'/>", xml_escape(host_.serial_log));
  }
  for (const XmlNode& each : port.elements()) {
    const std::string name = each.name();
    if (name == "target" || name == "address") FARSIDE_TRY(element(each, path + "/" + name, out));
  }
  out += fmt::format("</{}>", kind);
  const std::string target = is_log ? "a log file" : "nothing";
  if (port.attribute("type") != (is_log ? "file" : "null")) {
    mapped(fmt::format("{} port", kind), port.attribute("type").substr(0, 32), target,
           "its other end is on the source's host");
  }
  return {};
}

Status DomainWriter::make_channel(const XmlNode& channel, std::string& out) {
  const XmlNode target = channel.child("target");
  const std::string name = target.attribute("name");
  if (target.attribute("type") != "virtio" || !is_token(name)) {
    dropped("channel", summary(target), "its other end is on the source's host");
    return {};
  }
  // Libvirt chooses the socket of the guest agent; the others lead nowhere, but the guest has them.
  const bool is_agent = name == "org.qemu.guest_agent.0";
  out += fmt::format("<channel type='{}'>", is_agent ? "unix" : "null");
  for (const XmlNode& each : channel.elements()) {
    const std::string child = each.name();
    if (child == "target" || child == "address") {
      FARSIDE_TRY(element(each, "devices/channel/" + child, out));
    }
  }
  out += "</channel>";
  if (!is_agent) mapped("channel " + name, "", "nothing", "its other end is on the source's host");
  return {};
}

void DomainWriter::make_graphics(const XmlNode& graphics, std::string& out) {
  const std::string type = graphics.attribute("type");
  if (type != "vnc" && type != "spice") {
    dropped("display", type.substr(0, 32), "it is a window of the source's host");
    return;
  }
  out += fmt::format(
      "<graphics type='{}' autoport='yes'><listen type='address' address='127.0.0.1'/></graphics>",
      type);
  mapped("display", type, fmt::format("{} at 127.0.0.1, without a password", type),
         "addresses and passwords are this host's own matter");
}

// What the definition does not know, though the point holds it.
Status DomainWriter::make_missing_devices(std::string& out) {
  for (const NewDisk& disk : vm_.disks) {
    if (disks_made_.contains(&disk)) continue;
    return fail(ErrorCode::kCorrupt,
                fmt::format("its definition has no disk '{}', which the point holds", disk.name),
                "choose another recovery point");
  }
  for (const msg::Nic& nic : vm_.shape.nics) {
    if (cards_made_.contains(lower(nic.mac))) continue;
    FARSIDE_ASSIGN(const std::string card, networks_.card_xml(nic.network, nic.mac));
    out += card;
    mapped("network card " + nic.mac, "", nic.network.empty() ? "no link" : nic.network,
           "the definition has no such card");
  }
  return {};
}

}  // namespace farside::agent::libvirt
