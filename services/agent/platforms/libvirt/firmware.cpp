#include "services/agent/platforms/libvirt/firmware.h"

#include <fmt/core.h>
#include <fmt/ranges.h>
#include <fnmatch.h>
#include <unistd.h>

#include <algorithm>
#include <filesystem>
#include <map>
#include <nlohmann/json.hpp>
#include <optional>
#include <set>
#include <system_error>

#include "common/base/file.h"
#include "common/base/folder.h"

namespace farside::agent::libvirt {
namespace {

using nlohmann::json;

// The features that make one firmware unlike another for a guest; the rest is about its host.
constexpr std::string_view kSecureBoot = "secure-boot";
constexpr std::string_view kEnrolledKeys = "enrolled-keys";
constexpr std::string_view kRequiresSmm = "requires-smm";

std::vector<std::string> texts(const json& list) {
  std::vector<std::string> found;
  if (!list.is_array()) return found;
  for (const json& each : list) {
    if (each.is_string()) found.push_back(each.get<std::string>());
  }
  return found;
}

const json& at(const json& object, const char* key) {
  static const json kNothing;
  if (!object.is_object()) return kNothing;
  const auto found = object.find(key);
  return found == object.end() ? kNothing : *found;
}

// The path of a raw image; anything else is of no use here.
std::string raw_file(const json& file) {
  const json& format = at(file, "format");
  const json& name = at(file, "filename");
  if (!format.is_string() || format != "raw" || !name.is_string()) return {};
  return name.get<std::string>();
}

std::optional<Firmware> read(const std::string& path) {
  const auto text = read_file(path);
  if (!text) return {};
  const json document = json::parse(*text, nullptr, /*allow_exceptions=*/false);
  const auto interfaces = texts(at(document, "interface-types"));
  if (std::ranges::find(interfaces, "uefi") == interfaces.end()) return {};
  const json& mapping = at(document, "mapping");
  if (at(mapping, "device") != "flash") return {};
  Firmware firmware{.loader = raw_file(at(mapping, "executable")),
                    .variables = raw_file(at(mapping, "nvram-template")),
                    .targets = {},
                    .features = texts(at(document, "features"))};
  std::error_code error;
  firmware.variables_bytes = std::filesystem::file_size(firmware.variables, error);
  if (error || ::access(firmware.loader.c_str(), R_OK) != 0) return {};
  const json& targets = at(document, "targets");
  if (!targets.is_array()) return {};
  for (const json& target : targets) {
    const json& arch = at(target, "architecture");
    if (!arch.is_string()) continue;
    firmware.targets.push_back({arch.get<std::string>(), texts(at(target, "machines"))});
  }
  return firmware;
}

bool is_for(const Firmware& firmware, const std::string& arch, const std::string& machine) {
  std::string name = machine;
  // Names that stand for the newest of their kind.
  if (name == "q35") name = "pc-q35-";
  if (name == "pc") name = "pc-i440fx-";
  return std::ranges::any_of(firmware.targets, [&](const Firmware::Target& target) {
    return target.arch == arch && std::ranges::any_of(target.machines, [&](const auto& pattern) {
             return ::fnmatch(pattern.c_str(), name.c_str(), 0) == 0;
           });
  });
}

bool contains(const std::vector<std::string>& list, std::string_view item) {
  return std::ranges::find(list, item) != list.end();
}

void add(std::vector<std::string>& list, std::string_view item) {
  if (!contains(list, item)) list.emplace_back(item);
}

std::string real_path(const std::string& path) {
  std::error_code error;
  const auto real = std::filesystem::canonical(path, error);
  return error ? path : real.string();
}

}  // namespace

bool Firmware::has(std::string_view feature) const {
  return contains(features, feature);
}

std::vector<std::string> firmware_folders() {
  return {"/etc/qemu/firmware", "/usr/share/qemu/firmware"};
}

std::vector<Firmware> installed_firmware(const std::vector<std::string>& folders) {
  std::map<std::string, std::string> files;  // By name, which is also their order.
  for (const std::string& folder : folders) {
    std::error_code error;
    for (const auto& entry : entries_of(folder, error)) {
      if (entry.extension() == ".json") {
        files.emplace(entry.filename().string(), entry.string());
      }
    }
  }
  std::vector<Firmware> found;
  for (const auto& [name, path] : files) {
    if (auto firmware = read(path)) found.push_back(std::move(*firmware));
  }
  return found;
}

bool is_uefi(const XmlNode& os) {
  return os.attribute("firmware") == "efi" || os.child("loader").attribute("type") == "pflash" ||
         bool(os.child("nvram"));
}

std::vector<std::string> features_of(const XmlNode& os, const std::string& path,
                                     const std::vector<Firmware>& installed) {
  std::vector<std::string> features;
  if (!is_uefi(os)) return features;
  const XmlNode loader = os.child("loader");
  const std::string variables = os.child("nvram").attribute("template");
  // Several descriptors may share one loader and differ in their variables only.
  const Firmware* best = nullptr;
  int best_score = 0;
  for (const Firmware& each : installed) {
    int score = each.loader == path ? 4 : (real_path(each.loader) == real_path(path) ? 2 : 0);
    if (score > 0 && !variables.empty() && each.variables == variables) ++score;
    if (score > best_score) {
      best = &each;
      best_score = score;
    }
  }
  if (best != nullptr) features = best->features;
  for (const XmlNode& feature : os.child("firmware").children("feature")) {
    const std::string name = feature.attribute("name");
    if (feature.attribute("enabled") == "yes") {
      add(features, name);
    } else {
      std::erase(features, name);
    }
  }
  if (loader.attribute("secure") == "yes") {
    add(features, kSecureBoot);
    add(features, kRequiresSmm);
  }
  if (best == nullptr && std::filesystem::path(path).filename().string().contains("secboot")) {
    add(features, kSecureBoot);  // An image that no descriptor of this host describes.
  }
  std::ranges::sort(features);
  return features;
}

Result<Firmware> choose_firmware(const FirmwareWish& wish, const std::vector<Firmware>& installed) {
  const bool wants_secure = contains(wish.features, kSecureBoot);
  const bool wants_keys = contains(wish.features, kEnrolledKeys);
  std::vector<std::string> sizes;
  for (const bool exact : {true, false}) {
    for (const Firmware& each : installed) {
      if (!is_for(each, wish.arch, wish.machine) || each.has(kSecureBoot) != wants_secure) continue;
      // Which keys are enrolled is written in the variables: where those come with the VM, the
      // template does not matter.
      const bool has_keys = each.has(kEnrolledKeys) == wants_keys;
      if (!has_keys && (exact || wish.nvram_bytes == 0)) continue;
      if (wish.nvram_bytes != 0 && each.variables_bytes != wish.nvram_bytes) {
        sizes.push_back(std::to_string(each.variables_bytes));
        continue;
      }
      return each;
    }
  }
  std::string what = fmt::format(
      "this host has no UEFI firmware for {} {} {} Secure Boot{}", wish.arch, wish.machine,
      wants_secure ? "with" : "without",
      wants_secure && wants_keys && wish.nvram_bytes == 0 ? " and with keys enrolled" : "");
  if (!sizes.empty()) {
    what += fmt::format(" whose variables have {} bytes as those of the VM (here: {})",
                        wish.nvram_bytes, fmt::join(sizes, ", "));
  }
  return fail(ErrorCode::kUnsupported, std::move(what),
              "install the package ovmf on the target host, in the release that the source has");
}

}  // namespace farside::agent::libvirt
