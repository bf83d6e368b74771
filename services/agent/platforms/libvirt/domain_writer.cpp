#include "services/agent/platforms/libvirt/domain_writer.h"

#include <fmt/core.h>

#include <algorithm>
#include <array>

#include "services/agent/platforms/libvirt/domain_xml.h"

namespace farside::agent::libvirt {
namespace {

constexpr std::size_t kRowsMax = 200;
constexpr std::size_t kSummaryMax = 120;
constexpr std::size_t kMetadataMax = 16U << 10U;
constexpr std::string_view kUnknown = "Farside does not know it";

std::string shortened(std::string text) {
  std::ranges::replace_if(text, [](char c) { return c == '\n' || c == '\t' || c == '\r'; }, ' ');
  if (text.size() <= kSummaryMax) return text;
  std::size_t end = kSummaryMax;
  while (end > 0 && (static_cast<unsigned char>(text[end]) & 0xC0U) == 0x80U) --end;  // UTF-8.
  return text.substr(0, end) + "...";
}

std::string last_segment(const std::string& path) {
  return path.substr(path.rfind('/') + 1);
}

bool is_name(std::string_view text) {
  return !text.empty() && text.size() <= 64 && is_token(text) && !text.contains(' ') &&
         !text.contains(':') && !text.contains('+') && std::isdigit(text[0]) == 0 &&
         text[0] != '-' && text[0] != '.';
}

// Somebody else's metadata, such as labels of a management tool; false: it is not as it should be.
bool append_metadata(const XmlNode& node, const std::string& space, std::string& out) {
  const std::string name = node.name();
  if (!is_name(name) || node.space().starts_with("urn:farside:")) return false;
  out += "<" + name;
  if (node.space() != space) out += attribute_xml("xmlns", node.space());
  for (const XmlAttribute& each : node.attributes()) {
    if (!is_name(each.name) || each.name.starts_with("xml")) return false;
    if (!is_allowed(TextRule::kFree, each.value)) return false;
    out += attribute_xml(each.name, each.value);
  }
  out += ">" + xml_escape(node.own_text());
  for (const XmlNode& each : node.elements()) {
    if (!append_metadata(each, node.space(), out)) return false;
  }
  out += "</" + name + ">";
  return out.size() <= kMetadataMax;
}

std::string firmware_text(const std::vector<std::string>& features) {
  const auto has = [&](const char* one) {
    return std::ranges::find(features, one) != features.end();
  };
  if (!has("secure-boot")) return "UEFI without Secure Boot";
  return has("enrolled-keys") ? "UEFI with Secure Boot, keys enrolled" : "UEFI with Secure Boot";
}

}  // namespace

std::string summary(const XmlNode& node) {
  std::string text = node.own_text();
  const std::size_t begin = text.find_first_not_of(" \t\r\n");
  if (begin != std::string::npos) {
    text = text.substr(begin, text.find_last_not_of(" \t\r\n") - begin + 1);
    const std::string unit = node.attribute("unit");
    if (unit == "KiB" && to_number(text) % 1024 == 0) {
      return fmt::format("{} MiB", to_number(text) / 1024);
    }
    return shortened(unit.empty() ? text : text + " " + unit);
  }
  text.clear();
  for (const XmlAttribute& each : node.attributes()) {
    text += (text.empty() ? "" : " ") + each.name + "=" + each.value;
  }
  if (text.empty() && node.child("model")) return summary(node.child("model"));
  return shortened(text);
}

std::string attribute_xml(std::string_view name, std::string_view value) {
  return fmt::format(" {}='{}'", name, xml_escape(value));
}

Result<TargetDomain> DomainWriter::write(const XmlNode& domain) {
  if (domain.name() != "domain" || !domain.space().empty()) {
    return fail(ErrorCode::kCorrupt, "its definition describes no VM");
  }
  match_disks(domain.child("devices"));
  std::string inner;
  // First: others depend on what it says.
  if (!domain.child("os")) return fail(ErrorCode::kCorrupt, "its definition has no <os>");
  FARSIDE_TRY(make_os(domain.child("os"), inner));
  for (const XmlNode& each : domain.elements()) {
    if (each.name() != "os") FARSIDE_TRY(element(each, each.name(), inner));
  }
  mapped("UUID", domain.child("uuid").text(), vm_.id,
         "the guest sees it; no two VMs of a host have the same");
  if (needs_smm_ && !domain.child("features")) inner += "<features><smm state='on'/></features>";
  result_.xml = fmt::format("<domain type='{}'><name>{}</name><uuid>{}</uuid>", host_.type,
                            xml_escape(vm_.shape.name), xml_escape(vm_.id));
  if (!domain.child("metadata")) {
    result_.xml += fmt::format("<metadata>{}</metadata>", mark_xml(vm_));
  }
  result_.xml += inner + "</domain>";
  return std::move(result_);
}

void DomainWriter::row(msg::PlanRow row) {
  if (result_.rows.size() < kRowsMax) result_.rows.push_back(std::move(row));
}

void DomainWriter::kept(std::string what, const std::string& value) {
  row({.what = std::move(what), .rule = msg::PlanRule::kept, .source = value, .target = value});
}

void DomainWriter::mapped(std::string what, std::string source, std::string target,
                          std::string note) {
  row({.what = std::move(what),
       .rule = msg::PlanRule::mapped,
       .source = std::move(source),
       .target = std::move(target),
       .note = std::move(note)});
}

void DomainWriter::dropped(std::string what, std::string source, std::string note) {
  row({.what = std::move(what),
       .rule = msg::PlanRule::dropped,
       .source = std::move(source),
       .target = {},
       .note = std::move(note)});
}

bool DomainWriter::needs_kvm(const XmlNode& node, const std::string& path) const {
  if (path == "features/kvm" || path == "features/hyperv") return !node.elements().empty();
  if (path == "features/ioapic") return node.attribute("driver") == "kvm";
  if (path != "clock/timer") return false;
  const std::string name = node.attribute("name");
  return name == "kvmclock" || name == "hypervclock";
}

Status DomainWriter::element(const XmlNode& node, const std::string& path, std::string& out) {
  const Rule* rule = find_rule(path);
  const bool is_foreign = !node.space().empty();  // Of another namespace than libvirt's own.
  if (is_foreign && rule != nullptr && rule->treatment != Treatment::kDrop) rule = nullptr;
  if (rule == nullptr) {
    dropped(shortened(path), summary(node), std::string(kUnknown));
    return {};
  }
  const std::string what = rule->what.empty() ? last_segment(path) : std::string(rule->what);
  switch (rule->treatment) {
    case Treatment::kIgnore:
      return {};
    case Treatment::kDrop:
      dropped(what, summary(node), std::string(rule->why));
      return {};
    case Treatment::kMake:
      return make(node, path, out);
    case Treatment::kKeep:
      break;
  }
  if (host_.type != "kvm" && needs_kvm(node, path)) {
    dropped(what + " " + node.attribute("name"), summary(node), "it needs KVM, which is not here");
    return {};
  }
  return copy(node, path, *rule, out);
}

Status DomainWriter::inside(const XmlNode& node, const std::string& path, std::string& out) {
  for (const XmlNode& each : node.elements()) {
    FARSIDE_TRY(element(each, path + "/" + each.name(), out));
  }
  return {};
}

Status DomainWriter::copy(const XmlNode& node, const std::string& path, const Rule& rule,
                          std::string& out) {
  const auto attributes = check_attributes(rule, node);
  const std::string text = node.own_text();
  const bool has_text = text.find_first_not_of(" \t\r\n") != std::string::npos;
  const bool is_text_wrong = has_text && !is_allowed(rule.text, text);
  const std::string what = rule.what.empty() ? last_segment(path) : std::string(rule.what);
  if (!attributes.is_whole || is_text_wrong) {
    // Without it libvirt would choose, and the VM be another.
    if (path == "memory" || path == "currentMemory" || path == "vcpu") {
      return fail(ErrorCode::kInvalidArgument,
                  fmt::format("its {} '{}' cannot be made here", what, summary(node)));
    }
    dropped(what, summary(node), "Farside does not know this kind");
    return {};
  }
  for (const XmlAttribute& each : attributes.dropped) {
    dropped(what, shortened(each.name + "=" + each.value), "Farside does not copy this attribute");
  }
  const std::string name = node.name();
  out += "<" + name;
  for (const XmlAttribute& each : attributes.kept) out += attribute_xml(each.name, each.value);
  std::string within = has_text ? xml_escape(text) : "";
  // libvirt starts no VM whose two UUIDs differ.
  const bool is_uuid = path == "sysinfo/system/entry" && node.attribute("name") == "uuid";
  if (is_uuid) within = vm_.id;
  FARSIDE_TRY(inside(node, path, within));
  out += within.empty() ? "/>" : fmt::format(">{}</{}>", within, name);
  if (!rule.what.empty()) kept(what, summary(node));
  return {};
}

Status DomainWriter::make(const XmlNode& node, const std::string& path, std::string& out) {
  if (path == "features") return make_features(node, out);
  if (path == "cpu") return make_cpu(node, out);
  if (path == "devices") return make_devices(node, out);
  if (path.starts_with("devices/")) return make_device(node, path, out);
  if (path == "genid") {
    out += "<genid/>";
    mapped("generation id", "", "", "a new one, as the guest must notice that it was moved");
  } else if (path.starts_with("on_")) {
    make_action(node, out);
  } else if (path == "metadata") {
    make_metadata(node, out);
  }
  return {};  // Name, UUID, and what is inside of <os>: written with their parents.
}

Status DomainWriter::make_os(const XmlNode& os, std::string& out) {
  const XmlNode type = os.child("type");
  const std::string machine = type.attribute("machine");
  arch_ = type.attribute("arch");
  if (type.own_text() != "hvm" || !is_token(machine) || !is_token(arch_)) {
    return fail(ErrorCode::kUnsupported, "it is no fully virtualised machine");
  }
  out += "<os><type" + attribute_xml("arch", arch_) + attribute_xml("machine", machine) +
         ">hvm</type>";
  kept("machine", fmt::format("{} {}", arch_, machine));
  if (is_uefi(os)) {
    FARSIDE_ASSIGN(const auto firmware,
                   choose_firmware({.features = vm_.definition.firmware,
                                    .arch = arch_,
                                    .machine = machine,
                                    .nvram_bytes = vm_.definition.nvram.size()},
                                   host_.firmware));
    FARSIDE_ASSIGN(result_.nvram_path, nvram_path_of(vm_));
    out += firmware_xml(firmware, result_.nvram_path);
    result_.nvram = vm_.definition.nvram;
    needs_smm_ = firmware.has("requires-smm");
    kept("firmware", firmware_text(vm_.definition.firmware));
    if (vm_.definition.nvram.empty()) {
      mapped("UEFI variables", "", "as delivered", "the source had none to send");
    } else {
      kept("UEFI variables", fmt::format("{} bytes", vm_.definition.nvram.size()));
    }
  } else {
    kept("firmware", "BIOS");
    if (os.child("loader")) dropped("firmware image", "", "it is a file of the source's host");
  }
  const DirectBoot boot{.kernel = os.child("kernel").own_text(),
                        .initrd = os.child("initrd").own_text(),
                        .command_line = os.child("cmdline").own_text()};
  FARSIDE_ASSIGN(const std::string direct, direct_boot_xml(boot, host_));
  out += direct;
  if (!direct.empty()) {
    mapped("kernel", boot.kernel, boot.kernel, "the file of that name in libvirt.boot_folder");
  }
  FARSIDE_TRY(inside(os, "os", out));
  out += "</os>";
  return {};
}

Status DomainWriter::make_features(const XmlNode& features, std::string& out) {
  out += "<features>";
  FARSIDE_TRY(inside(features, "features", out));
  if (needs_smm_ && !features.child("smm")) out += "<smm state='on'/>";
  out += "</features>";
  return {};
}

Status DomainWriter::make_cpu(const XmlNode& cpu, std::string& out) {
  constexpr std::array kModes =
      std::to_array<std::string_view>({"custom", "host-model", "host-passthrough", "maximum"});
  std::string mode = cpu.attribute("mode");
  if (mode.empty()) mode = "custom";
  if (std::ranges::find(kModes, mode) == kModes.end()) mode = "custom";
  const bool is_custom = mode == "custom";
  const bool is_mapped = !is_custom && host_.type != "kvm" && mode != "maximum";
  const std::string model = is_custom ? cpu.child("model").own_text() : mode;
  if (is_mapped) {
    mapped("processor model", mode, "maximum", "without KVM there is no processor to pass on");
    mode = "maximum";
  } else if (!model.empty()) {
    kept("processor model", shortened(model));
  }
  out += "<cpu";
  if (!is_custom || !model.empty()) out += attribute_xml("mode", mode);
  const std::string match = cpu.attribute("match");
  if (is_custom && !model.empty() &&
      (match == "exact" || match == "minimum" || match == "strict")) {
    out += attribute_xml("match", match);
  }
  // QEMU alone knows what it can do without KVM; libvirt compares with the host's processor.
  if (is_custom && !model.empty() && host_.type != "kvm") out += attribute_xml("check", "none");
  const std::string migratable = cpu.attribute("migratable");
  if (!is_custom && (migratable == "on" || migratable == "off")) {
    out += attribute_xml("migratable", migratable);
  }
  out += ">";
  for (const XmlNode& each : cpu.elements()) {
    const std::string name = each.name();
    const bool is_of_host = each.attribute("mode") == "passthrough";
    if (is_mapped && is_of_host) continue;
    if (!is_custom && (name == "model" || name == "vendor")) continue;
    FARSIDE_TRY(element(each, "cpu/" + name, out));
  }
  out += "</cpu>";
  return {};
}

void DomainWriter::make_action(const XmlNode& action, std::string& out) {
  constexpr std::array kActions =
      std::to_array<std::string_view>({"destroy", "restart", "preserve", "rename-restart"});
  const std::string name = action.name();
  std::string wanted = action.own_text();
  if (std::ranges::find(kActions, wanted) == kActions.end()) {
    const std::string instead = wanted == "coredump-restart" ? "restart" : "destroy";
    mapped(name, shortened(wanted), instead, "no dump of its memory is written here");
    wanted = instead;
  }
  out += fmt::format("<{}>{}</{}>", name, wanted, name);
}

void DomainWriter::make_metadata(const XmlNode& metadata, std::string& out) {
  out += "<metadata>" + mark_xml(vm_);
  for (const XmlNode& each : metadata.elements()) {
    std::string copied;
    if (!each.space().empty() && append_metadata(each, "", copied)) {
      out += copied;
    } else {
      dropped("metadata", shortened(each.name()), "it is too large, or not of the usual form");
    }
  }
  out += "</metadata>";
}

}  // namespace farside::agent::libvirt
