#include "services/agent/platforms/libvirt/definition.h"

#include <fmt/core.h>

#include <algorithm>
#include <array>
#include <filesystem>
#include <nlohmann/json.hpp>

#include "services/agent/platforms/libvirt/connection.h"
#include "services/agent/platforms/libvirt/domain_xml.h"
#include "services/agent/platforms/libvirt/firmware.h"
#include "services/agent/platforms/libvirt/nvram_file.h"
#include "services/agent/platforms/libvirt/qcow2_header.h"

namespace farside::agent::libvirt {
namespace {

// Left out of the text, with all that is inside.
constexpr std::array kLeftOut = std::to_array<std::string_view>({
    "domain/resource",
    "domain/seclabel",
    "domain/devices/disk/backingStore",
    "domain/devices/disk/mirror",
    "domain/devices/disk/source/seclabel",
    "domain/devices/disk/source/encryption",
    "domain/devices/disk/encryption",
    "domain/devices/disk/auth",
    "domain/devices/serial/source",
    "domain/devices/parallel/source",
    "domain/devices/console/source",
    "domain/devices/channel/source",
    "domain/devices/interface/target",
    "domain/devices/interface/backend",
});

// Kept as a bare element: that there is one is worth knowing, what is in it may be secret or new
// each time.
constexpr std::array kEmptied = std::to_array<std::string_view>({
    "domain/commandline",
    "domain/genid",
    "domain/launchSecurity",
});

struct LeftOutAttribute {
  std::string_view path;
  std::string_view name;
};
constexpr std::array kLeftOutAttributes = std::to_array<LeftOutAttribute>({
    {"domain", "id"},
    {"domain/devices/disk/source", "index"},
    {"domain/devices/console", "tty"},
    {"domain/devices/channel/target", "state"},
    {"domain/devices/interface/source", "portid"},
    {"domain/devices/graphics", "port"},
    {"domain/devices/graphics", "tlsPort"},
    {"domain/devices/graphics", "websocket"},
    {"domain/devices/graphics", "socket"},
    {"domain/devices/graphics", "passwd"},
    {"domain/devices/graphics", "passwdValidTo"},
    {"domain/devices/graphics/listen", "socket"},
});

bool is_blank(std::string_view text) {
  return text.find_first_not_of(" \t\r\n") == std::string_view::npos;
}

bool is_left_out(const XmlNode& node, std::string_view path) {
  if (node.name() == "alias" || node.space() == kMarkSpace) return true;
  return std::ranges::find(kLeftOut, path) != kLeftOut.end();
}

bool is_left_out(const XmlNode& node, std::string_view path, const std::string& attribute) {
  // Libvirt adds the bridge of its network as soon as the VM runs.
  if (path == "domain/devices/interface/source" && attribute == "bridge") {
    return !node.attribute("network").empty();
  }
  return std::ranges::any_of(kLeftOutAttributes, [&](const LeftOutAttribute& each) {
    return each.path == path && each.name == attribute;
  });
}

void append(const XmlNode& node, const std::string& path, const std::string& space,
            std::string& out) {
  const std::string name = node.name();
  out += "<" + name;
  if (node.space() != space) out += fmt::format(" xmlns='{}'", xml_escape(node.space()));
  const bool is_emptied = std::ranges::find(kEmptied, path) != kEmptied.end();
  // Entries for a guest's firmware configuration are where installers hide passwords.
  const bool is_fwcfg = path == "domain/sysinfo" && node.attribute("type") == "fwcfg";
  for (const XmlAttribute& each : node.attributes()) {
    if (is_left_out(node, path, each.name)) continue;
    out += fmt::format(" {}='{}'", each.name, xml_escape(each.value));
  }
  std::string inside;
  if (!is_emptied && !is_fwcfg) {
    std::string text = node.own_text();
    if (path == "domain/os/kernel" || path == "domain/os/initrd") {
      text = std::filesystem::path(text).filename().string();
    }
    if (!is_blank(text)) inside += xml_escape(text);
    for (const XmlNode& each : node.elements()) {
      const std::string below = path + "/" + each.name();
      if (!is_left_out(each, below)) append(each, below, node.space(), inside);
    }
  }
  if (path == "domain/metadata" && inside.empty()) {
    out.resize(out.size() - name.size() - 1);
    return;
  }
  out += inside.empty() ? "/>" : fmt::format(">{}</{}>", inside, name);
}

// The file of a block node, from the JSON that describes it.
std::string file_of_node(const std::string& words, std::string_view node) {
  const std::size_t at = words.find(fmt::format(R"("node-name":"{}")", node));
  const std::size_t begin = at == std::string::npos ? at : words.rfind('{', at);
  const std::size_t end = at == std::string::npos ? at : words.find('}', at);
  if (begin == std::string::npos || end == std::string::npos) return {};
  const auto object = nlohmann::json::parse(words.substr(begin, end - begin + 1), nullptr,
                                            /*allow_exceptions=*/false);
  if (!object.is_object() || !object.contains("filename")) return {};
  const auto& name = object["filename"];
  return name.is_string() ? name.get<std::string>() : "";
}

// Where libvirt chooses the firmware, a VM that is off does not say which; yet its variables are
// there from the last time it ran.
Result<FlashFiles> flash_files(virDomainPtr domain, const std::string& xml, const XmlNode& os) {
  FlashFiles files{.loader = os.child("loader").text(), .variables = os.child("nvram").text()};
  if (!files.loader.empty() && !files.variables.empty()) return files;
  files = flash_files_of(take_text(
      virConnectDomainXMLToNative(virDomainGetConnect(domain), "qemu-argv", xml.c_str(), 0)));
  if (!files.loader.empty()) return files;
  Error error = libvirt_error("ask which UEFI firmware it starts with").error();
  error.advice = "start the VM once, or name its loader and NVRAM in its definition";
  return fail(std::move(error));
}

}  // namespace

FlashFiles flash_files_of(const std::string& command_line) {
  // Source: libvirt, src/qemu/qemu_domain.c, qemuDomainInitializePflashStorageSource.
  return {.loader = file_of_node(command_line, "libvirt-pflash0-storage"),
          .variables = file_of_node(command_line, "libvirt-pflash1-storage")};
}

std::string normal_text(const XmlNode& domain) {
  std::string out;
  append(domain, "domain", "", out);
  return out;
}

Result<msg::VmDefinition> capture_definition(virDomainPtr domain, const Networks& networks,
                                             bool with_nvram) {
  const unsigned flags = virDomainIsActive(domain) == 1 ? 0U : unsigned{VIR_DOMAIN_XML_INACTIVE};
  const std::string xml = take_text(virDomainGetXMLDesc(domain, flags));
  if (xml.empty()) return libvirt_error("describe a VM");
  FARSIDE_ASSIGN(auto shape, read_domain(xml, networks));
  FARSIDE_ASSIGN(const auto document, XmlDocument::parse(xml));
  const XmlNode os = document.root().child("os");

  msg::VmDefinition definition{.platform = "libvirt",
                               .shape = std::move(shape.vm),
                               .text = normal_text(document.root()),
                               .firmware = {},
                               .nvram = {}};
  definition.shape.problem.clear();
  definition.shape.is_replica = false;
  definition.shape.is_test = false;
  for (msg::Disk& disk : definition.shape.disks) {
    if (disk.bytes > 0) continue;  // Of ours.
    if (const auto header = read_qcow2_header(disk.path)) disk.bytes = header->bytes;
  }
  if (is_uefi(os)) {
    FARSIDE_ASSIGN(const auto files, flash_files(domain, xml, os));
    definition.firmware = features_of(os, files.loader, installed_firmware(firmware_folders()));
    if (with_nvram && !files.variables.empty()) {
      FARSIDE_ASSIGN(definition.nvram, read_nvram(files.variables));
    }
  }
  return definition;
}

}  // namespace farside::agent::libvirt
