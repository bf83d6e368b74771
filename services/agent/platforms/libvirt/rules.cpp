#include "services/agent/platforms/libvirt/rules.h"

#include <algorithm>
#include <array>

namespace farside::agent::libvirt {
namespace {

using enum Treatment;
using enum TextRule;

constexpr std::string_view kTokenLetters =
    "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789.:+_- ";
constexpr std::string_view kZoneLetters =
    "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789+_-/";

constexpr std::string_view kSource = "it belongs to the source's host";
constexpr std::string_view kHostDevice = "it is a device of the source's host";
constexpr std::string_view kHostLimits = "limits and placement are the target host's own matter";

// Elements with "state" and numbers only.
constexpr std::string_view kState = "state=on|off value retries mode";

constexpr auto kRules = std::to_array<Rule>({
    {"name", kMake},
    {"uuid", kMake},
    {"genid", kMake},
    {"title", kKeep, "", kFree, "title"},
    {"description", kKeep, "", kFree, "description"},
    {"metadata", kMake},
    {"memory", kKeep, "unit -dumpCore", kNumber, "memory"},
    {"currentMemory", kKeep, "unit", kNumber},
    {"maxMemory", kKeep, "unit slots", kNumber, "most memory"},
    {"vcpu", kKeep, "current -placement", kNumber, "processors"},
    {"vcpus"},
    {"vcpus/vcpu", kKeep, "id enabled=yes|no hotpluggable=yes|no order"},
    {"iothreads", kKeep, "", kNumber},
    {"iothreadids"},
    {"iothreadids/iothread", kKeep, "!id -thread_pool_min -thread_pool_max"},
    {"defaultiothread", kIgnore},
    {"cputune", kDrop, "", kNone, "processor limits and pinning", kHostLimits},
    {"numatune", kDrop, "", kNone, "placement on NUMA nodes", kHostLimits},
    {"memtune", kDrop, "", kNone, "memory limits", kHostLimits},
    {"blkiotune", kDrop, "", kNone, "disk limits", kHostLimits},
    {"memoryBacking", kDrop, "", kNone, "memory backing", kHostLimits},
    {"resource", kIgnore},
    {"seclabel", kDrop, "", kNone, "security label", kSource},
    {"launchSecurity", kDrop, "", kNone, "memory encryption", "its keys stay with the source"},
    {"keywrap", kDrop, "", kNone, "key wrapping", kSource},
    {"idmap", kDrop, "", kNone, "id map", kSource},
    {"commandline", kDrop, "", kNone, "extra QEMU arguments", "they may name anything on a host"},
    {"capabilities", kDrop, "", kNone, "QEMU capabilities", kSource},
    {"override", kDrop, "", kNone, "QEMU overrides", kSource},
    {"deprecation", kIgnore},
    {"bootloader", kDrop, "", kNone, "boot loader", "it is a program of the source's host"},
    {"bootloader_args", kDrop, "", kNone, "boot loader arguments", kSource},

    {"os", kMake},
    {"os/type", kMake},
    {"os/firmware", kMake},
    {"os/loader", kMake},
    {"os/nvram", kMake},
    {"os/kernel", kMake},
    {"os/initrd", kMake},
    {"os/cmdline", kMake},
    {"os/dtb", kDrop, "", kNone, "device tree", "it is a file of the source's host"},
    {"os/acpi", kDrop, "", kNone, "ACPI table", "it is a file of the source's host"},
    {"os/boot", kKeep, "!dev=hd|cdrom|network|fd"},
    {"os/bootmenu", kKeep, "enable=yes|no timeout"},
    {"os/bios", kKeep, "useserial=yes|no rebootTimeout"},
    {"os/smbios", kKeep, "!mode=emulate|sysinfo", kNone, "SMBIOS of the host"},
    {"sysinfo", kKeep, "!type=smbios", kNone, "system information"},
    {"sysinfo/bios"},
    {"sysinfo/system"},
    {"sysinfo/baseBoard"},
    {"sysinfo/chassis"},
    {"sysinfo/oemStrings"},
    {"sysinfo/bios/entry", kKeep, "!name", kFree},
    {"sysinfo/system/entry", kKeep, "!name", kFree},
    {"sysinfo/baseBoard/entry", kKeep, "!name", kFree},
    {"sysinfo/chassis/entry", kKeep, "!name", kFree},
    {"sysinfo/oemStrings/entry", kKeep, "", kFree},

    {"features", kMake},
    {"features/acpi"},
    {"features/apic", kKeep, "eoi=on|off"},
    {"features/pae"},
    {"features/hap", kKeep, kState},
    {"features/viridian"},
    {"features/privnet"},
    {"features/pvspinlock", kKeep, kState},
    {"features/pmu", kKeep, kState},
    {"features/vmport", kKeep, kState},
    {"features/vmcoreinfo", kKeep, kState},
    {"features/ioapic", kKeep, "driver=qemu|kvm"},
    {"features/smm", kKeep, kState},
    {"features/smm/tseg", kKeep, "unit", kNumber},
    {"features/msrs", kKeep, "unknown=ignore|fault"},
    {"features/kvm", kKeep, "", kNone},
    {"features/kvm/hidden", kKeep, kState},
    {"features/kvm/hint-dedicated", kKeep, kState},
    {"features/kvm/poll-control", kKeep, kState},
    {"features/kvm/pv-ipi", kKeep, kState},
    {"features/kvm/dirty-ring", kKeep, "state=on|off size"},
    {"features/hyperv", kKeep, "mode=custom|passthrough"},
    {"features/hyperv/relaxed", kKeep, kState},
    {"features/hyperv/vapic", kKeep, kState},
    {"features/hyperv/spinlocks", kKeep, kState},
    {"features/hyperv/vpindex", kKeep, kState},
    {"features/hyperv/runtime", kKeep, kState},
    {"features/hyperv/synic", kKeep, kState},
    {"features/hyperv/stimer", kKeep, kState},
    {"features/hyperv/stimer/direct", kKeep, kState},
    {"features/hyperv/reset", kKeep, kState},
    {"features/hyperv/vendor_id", kKeep, kState},
    {"features/hyperv/frequencies", kKeep, kState},
    {"features/hyperv/reenlightenment", kKeep, kState},
    {"features/hyperv/tlbflush", kKeep, kState},
    {"features/hyperv/ipi", kKeep, kState},
    {"features/hyperv/evmcs", kKeep, kState},
    {"features/hyperv/avic", kKeep, kState},

    {"cpu", kMake},
    {"cpu/model", kKeep, "fallback=allow|forbid vendor_id", kToken},
    {"cpu/vendor", kKeep, "", kToken},
    {"cpu/topology", kKeep, "sockets dies clusters cores threads"},
    {"cpu/cache", kKeep, "level mode=emulate|passthrough|disable"},
    {"cpu/maxphysaddr", kKeep, "mode=emulate|passthrough bits limit"},
    {"cpu/feature", kKeep, "policy=force|require|optional|disable|forbid !name"},
    {"cpu/numa"},
    {"cpu/numa/cell", kKeep, "id cpus:list memory unit -memAccess -discard"},
    {"cpu/numa/cell/distances"},
    {"cpu/numa/cell/distances/sibling", kKeep, "id value"},

    {"clock", kKeep,
     "offset=utc|localtime|timezone|variable|absolute adjustment basis=utc|localtime start "
     "timezone:zone",
     kNone, "clock"},
    {"clock/timer", kKeep, "!name tickpolicy track present=yes|no frequency mode"},
    {"clock/timer/catchup", kKeep, "threshold slew limit"},
    {"on_poweroff", kMake},
    {"on_reboot", kMake},
    {"on_crash", kMake},
    {"on_lockfailure", kIgnore},
    {"pm"},
    {"pm/suspend-to-mem", kKeep, "enabled=yes|no"},
    {"pm/suspend-to-disk", kKeep, "enabled=yes|no"},
    {"perf", kIgnore},

    {"devices", kMake},
    {"devices/emulator", kMake},
    {"devices/*/alias", kIgnore},
    {"devices/*/address", kKeep,
     "!type=pci|drive|usb|virtio-serial|isa|ccid|dimm domain bus slot function "
     "multifunction=on|off controller target unit port iobase irq base"},
    {"devices/*/acpi", kKeep, "index"},

    {"devices/disk", kMake},
    {"devices/disk/driver", kMake},
    {"devices/disk/source", kMake},
    {"devices/disk/backingStore", kIgnore},
    {"devices/disk/mirror", kIgnore},
    {"devices/disk/target", kMake},
    {"devices/disk/serial", kKeep, "", kToken},
    {"devices/disk/wwn", kKeep, "", kToken},
    {"devices/disk/vendor", kKeep, "", kToken},
    {"devices/disk/product", kKeep, "", kToken},
    {"devices/disk/boot", kKeep, "!order"},
    {"devices/disk/blockio", kKeep, "logical_block_size physical_block_size"},
    {"devices/disk/geometry", kKeep, "cyls heads secs trans=auto|none|lba"},
    {"devices/disk/readonly", kMake},
    {"devices/disk/iotune", kDrop, "", kNone, "disk limits", kHostLimits},
    {"devices/disk/encryption", kIgnore},
    {"devices/disk/auth", kIgnore},

    {"devices/controller", kKeep,
     "!type=pci|scsi|usb|sata|ide|virtio-serial|fdc index model ports vectors"},
    {"devices/controller/model", kKeep, "!name"},
    {"devices/controller/target", kKeep, "chassis chassisNr port busNr index hotplug=on|off"},
    {"devices/controller/target/node", kIgnore},
    {"devices/controller/master", kKeep, "startport"},
    {"devices/controller/driver", kKeep,
     "queues cmd_per_lun max_sectors iothread ioeventfd=on|off iommu=on|off ats=on|off "
     "packed=on|off "
     "page_per_vq=on|off"},
    {"devices/controller/pcihole64", kKeep, "unit", kNumber},

    {"devices/interface", kMake},
    {"devices/interface/mac", kMake},
    {"devices/interface/source", kMake},
    {"devices/interface/target", kIgnore},
    {"devices/interface/model", kMake},
    {"devices/interface/link", kMake},
    {"devices/interface/backend", kIgnore},
    {"devices/interface/driver", kIgnore},
    {"devices/interface/guest", kIgnore},
    {"devices/interface/script", kDrop, "", kNone, "network script",
     "it is a program of the source's host"},
    {"devices/interface/boot", kKeep, "!order"},
    {"devices/interface/rom", kKeep, "bar=on|off enabled=yes|no"},
    {"devices/interface/bandwidth", kDrop, "", kNone, "network limits", kHostLimits},
    {"devices/interface/filterref", kDrop, "", kNone, "network filter", kSource},
    {"devices/interface/vlan", kDrop, "", kNone, "VLAN", "the target's network decides"},
    {"devices/interface/virtualport", kDrop, "", kNone, "virtual port",
     "the target's network decides"},
    {"devices/interface/mtu", kDrop, "", kNone, "MTU", "the target's network decides"},
    {"devices/interface/port", kIgnore},
    {"devices/interface/coalesce", kIgnore},
    {"devices/interface/tune", kIgnore},
    {"devices/interface/teaming", kDrop, "", kNone, "teaming of cards", kHostDevice},

    {"devices/serial", kMake},
    {"devices/serial/target", kKeep, "type=isa-serial|pci-serial|usb-serial port"},
    {"devices/serial/target/model", kKeep, "!name=isa-serial|pci-serial|usb-serial"},
    {"devices/parallel", kMake},
    {"devices/parallel/target", kKeep, "port -type"},
    {"devices/console", kMake},
    {"devices/console/target", kKeep, "!type=virtio port"},
    {"devices/channel", kMake},
    {"devices/channel/target", kKeep, "!type=virtio name"},

    {"devices/graphics", kMake},
    {"devices/video", kKeep, "", kNone, "graphics card"},
    {"devices/video/model", kKeep,
     "!type=vga|cirrus|vmvga|qxl|virtio|bochs|ramfb|none ram vram vram64 vgamem heads "
     "primary=yes|no -blob"},
    {"devices/video/model/resolution", kKeep, "x y"},
    {"devices/video/model/acceleration", kDrop, "", kNone, "graphics acceleration", kHostDevice},
    {"devices/video/driver", kKeep, "vgaconf=io|on|off iommu=on|off ats=on|off packed=on|off"},
    {"devices/input", kKeep, "!type=mouse|tablet|keyboard bus=ps2|usb|virtio model"},
    {"devices/sound", kKeep, "!model=sb16|es1370|pcspk|ac97|ich6|ich9|usb -multichannel", kNone,
     "sound card"},
    {"devices/sound/codec", kKeep, "!type=duplex|micro|output"},
    {"devices/sound/audio", kIgnore},
    {"devices/audio", kIgnore},
    {"devices/watchdog", kKeep,
     "!model=i6300esb|ib700|itco action=reset|shutdown|poweroff|pause|none|inject-nmi", kNone,
     "watchdog"},
    {"devices/memballoon", kKeep,
     "!model=virtio|virtio-transitional|virtio-non-transitional|none autodeflate=on|off "
     "freePageReporting=on|off"},
    {"devices/memballoon/stats", kKeep, "period"},
    {"devices/memballoon/driver", kKeep, "iommu=on|off ats=on|off packed=on|off"},
    {"devices/rng", kKeep, "!model=virtio|virtio-transitional|virtio-non-transitional", kNone,
     "random number generator"},
    {"devices/rng/backend", kMake},
    {"devices/rng/rate", kKeep, "bytes period"},
    {"devices/rng/driver", kKeep, "iommu=on|off ats=on|off packed=on|off"},
    {"devices/panic", kKeep, "model=isa|hyperv|pvpanic"},
    {"devices/iommu", kKeep, "!model=intel|virtio", kNone, "IOMMU"},
    {"devices/iommu/driver", kKeep,
     "intremap=on|off caching_mode=on|off eim=on|off iotlb=on|off "
     "aw_bits"},
    {"devices/hub", kKeep, "!type=usb"},
    {"devices/memory", kKeep, "!model=dimm discard=yes|no", kNone, "memory module"},
    {"devices/memory/source", kIgnore},
    {"devices/memory/target"},
    {"devices/memory/target/size", kKeep, "unit", kNumber},
    {"devices/memory/target/node", kKeep, "", kNumber},

    {"devices/hostdev", kDrop, "", kNone, "passed-through device", kHostDevice},
    {"devices/filesystem", kDrop, "", kNone, "shared folder",
     "it is a folder of the source's host"},
    {"devices/shmem", kDrop, "", kNone, "shared memory", kSource},
    {"devices/redirdev", kDrop, "", kNone, "redirected USB device", kSource},
    {"devices/redirfilter", kIgnore},
    {"devices/smartcard", kDrop, "", kNone, "smart card", kHostDevice},
    {"devices/tpm", kDrop, "", kNone, "TPM", "its state is not replicated yet"},
    {"devices/vsock", kDrop, "", kNone, "channel to the host", kSource},
    {"devices/nvram", kDrop, "", kNone, "NVRAM device", kSource},
    {"devices/lease", kDrop, "", kNone, "lease", kSource},
    {"devices/crypto", kDrop, "", kNone, "crypto device", kHostDevice},
    {"devices/pstore", kDrop, "", kNone, "crash store", "it is a file of the source's host"},
});

std::string_view first_segment(std::string_view& path) {
  const std::size_t slash = path.find('/');
  const std::string_view first = path.substr(0, slash);
  path = slash == std::string_view::npos ? std::string_view{} : path.substr(slash + 1);
  return first;
}

bool matches(std::string_view pattern, std::string_view path) {
  while (!pattern.empty() && !path.empty()) {
    const std::string_view wanted = first_segment(pattern);
    const std::string_view found = first_segment(path);
    if (wanted != "*" && wanted != found) return false;
  }
  return pattern.empty() && path.empty();
}

bool consists_of(std::string_view text, std::string_view letters) {
  return text.find_first_not_of(letters) == std::string_view::npos;
}

// "Europe/Berlin": libvirt hands it to QEMU as TZ, where a path would be opened.
bool is_zone(std::string_view text) {
  return text.size() <= 64 && !text.starts_with('/') && consists_of(text, kZoneLetters);
}

bool is_one_of(std::string_view value, std::string_view list) {
  while (!list.empty()) {
    const std::size_t bar = list.find('|');
    if (list.substr(0, bar) == value) return true;
    if (bar == std::string_view::npos) return false;
    list = list.substr(bar + 1);
  }
  return false;
}

struct AttributeRule {
  std::string_view name;
  std::string_view values;  // "a|b"; empty: any token, or of `kind`.
  std::string_view kind;
  bool is_needed = false;
  bool is_ignored = false;

  bool fits(std::string_view value) const {
    if (!values.empty()) return is_one_of(value, values);
    if (kind == "zone") return is_zone(value);
    if (kind == "list") return value.size() <= kTokenMax && consists_of(value, "0123456789,-^");
    if (kind == "free") return is_allowed(kFree, value);
    return is_token(value);
  }
};

std::vector<AttributeRule> read_rules(std::string_view words) {
  std::vector<AttributeRule> rules;
  while (!words.empty()) {
    const std::size_t space = words.find(' ');
    std::string_view word = words.substr(0, space);
    words = space == std::string_view::npos ? std::string_view{} : words.substr(space + 1);
    AttributeRule rule{.is_needed = word.starts_with('!'), .is_ignored = word.starts_with('-')};
    if (rule.is_needed || rule.is_ignored) word.remove_prefix(1);
    const std::size_t sign = word.find_first_of("=:");
    rule.name = word.substr(0, sign);
    if (sign != std::string_view::npos) {
      (word[sign] == '=' ? rule.values : rule.kind) = word.substr(sign + 1);
    }
    rules.push_back(rule);
  }
  return rules;
}

}  // namespace

const Rule* find_rule(std::string_view path) {
  const auto found =
      std::ranges::find_if(kRules, [&](const Rule& rule) { return matches(rule.path, path); });
  return found == kRules.end() ? nullptr : &*found;
}

bool is_token(std::string_view text) {
  return text.size() <= kTokenMax && consists_of(text, kTokenLetters);
}

bool is_allowed(TextRule rule, std::string_view text) {
  switch (rule) {
    case kNone:
      return false;
    case kToken:
      return is_token(text);
    case kNumber:
      return text.size() <= 15 && consists_of(text, "0123456789");
    case kFree:
      return text.size() <= kFreeTextMax && std::ranges::none_of(text, [](char c) {
               const auto byte = static_cast<unsigned char>(c);
               return byte < 0x20 && c != '\n' && c != '\t' && c != '\r';
             });
  }
  return false;
}

CheckedAttributes check_attributes(const Rule& rule, const XmlNode& node) {
  const auto rules = read_rules(rule.attributes);
  CheckedAttributes checked;
  for (XmlAttribute& each : node.attributes()) {
    const auto found = std::ranges::find(rules, each.name, &AttributeRule::name);
    if (found != rules.end() && found->is_ignored) continue;
    const bool is_kept = found != rules.end() && found->fits(each.value);
    (is_kept ? checked.kept : checked.dropped).push_back(std::move(each));
  }
  for (const AttributeRule& each : rules) {
    if (each.is_needed &&
        std::ranges::find(checked.kept, each.name, &XmlAttribute::name) == checked.kept.end()) {
      checked.is_whole = false;
    }
  }
  return checked;
}

}  // namespace farside::agent::libvirt
