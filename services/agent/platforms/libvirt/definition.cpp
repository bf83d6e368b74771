#include "services/agent/platforms/libvirt/definition.h"

#include <fcntl.h>
#include <fmt/core.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <filesystem>
#include <system_error>

#include "services/agent/platforms/libvirt/connection.h"
#include "services/agent/platforms/libvirt/domain_xml.h"
#include "services/agent/platforms/libvirt/firmware.h"
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

// The whole file; nothing if there is none (libvirt makes it at the first start).
Result<std::string> read_once(const std::string& path) {
  const int fd = ::open(path.c_str(), O_RDONLY | O_CLOEXEC | O_NONBLOCK | O_NOCTTY);
  if (fd < 0) {
    if (errno == ENOENT) return std::string();
    return fail(ErrorCode::kUnavailable,
                fmt::format("the UEFI variables in {} cannot be read: {}", path,
                            std::generic_category().message(errno)),
                "let the agent's user read that file");
  }
  std::string bytes(kNvramBytesMax + 1, '\0');
  std::size_t size = 0;
  ssize_t got = 0;
  while (size < bytes.size() && (got = ::read(fd, bytes.data() + size, bytes.size() - size)) != 0) {
    if (got < 0 && errno == EINTR) continue;
    if (got < 0) break;
    size += static_cast<std::size_t>(got);
  }
  const int number = errno;
  ::close(fd);
  if (got < 0) {
    return fail(ErrorCode::kIo,
                fmt::format("read {}: {}", path, std::generic_category().message(number)));
  }
  if (size > kNvramBytesMax) {
    return fail(
        ErrorCode::kTooLarge,
        fmt::format("the UEFI variables in {} are larger than {} bytes", path, kNvramBytesMax));
  }
  bytes.resize(size);
  return bytes;
}

// The guest's firmware writes the file through QEMU at any time: two equal reads are one state.
Result<std::string> read_nvram(const std::string& path) {
  constexpr int kReadsMax = 10;
  FARSIDE_ASSIGN(auto last, read_once(path));
  for (int i = 0; i < kReadsMax; ++i) {
    FARSIDE_ASSIGN(auto again, read_once(path));
    if (again == last) return last;
    last = std::move(again);
  }
  return fail(ErrorCode::kUnavailable,
              fmt::format("the UEFI variables in {} change all the time", path),
              "the next point tries again");
}

}  // namespace

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
    definition.firmware = features_of(os, installed_firmware(firmware_folders()));
    const std::string path = os.child("nvram").text();
    if (with_nvram && !path.empty()) {
      FARSIDE_ASSIGN(definition.nvram, read_nvram(path));
    }
  }
  return definition;
}

}  // namespace farside::agent::libvirt
