// Which UEFI firmware images a host has, and which of them fits a VM.
//
// Source: QEMU, docs/interop/firmware.json: descriptors in JSON, one file each; a file in a folder
// of more weight hides one of the same name, and an empty one hides it altogether.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "common/base/result.h"
#include "services/agent/platforms/libvirt/xml.h"

namespace farside::agent::libvirt {

struct Firmware {
  std::string loader;     // Path of the code, raw, read-only flash.
  std::string variables;  // Path of the template for the NVRAM, raw.
  std::uint64_t variables_bytes = 0;
  struct Target {
    std::string arch;
    std::vector<std::string> machines;  // Patterns: "pc-q35-*".
  };
  std::vector<Target> targets;
  std::vector<std::string> features;  // "secure-boot", "enrolled-keys", "requires-smm", ...

  bool has(std::string_view feature) const;
};

// Folders of descriptors, those of most weight first.
std::vector<std::string> firmware_folders();

// All that can be used: those with readable files, in their order of preference.
std::vector<Firmware> installed_firmware(const std::vector<std::string>& folders);

// Features of the firmware that the <os> element of a VM names; empty for a VM with a BIOS.
std::vector<std::string> features_of(const XmlNode& os, const std::vector<Firmware>& installed);

bool is_uefi(const XmlNode& os);

struct FirmwareWish {
  std::vector<std::string> features;
  std::string arch;
  std::string machine;            // "pc-q35-7.2", "q35"
  std::uint64_t nvram_bytes = 0;  // Of the variables that it is to begin with; 0: a template's.
};

// Errors: kUnsupported (none fits; says what is missing and what to install).
Result<Firmware> choose_firmware(const FirmwareWish& wish, const std::vector<Firmware>& installed);

}  // namespace farside::agent::libvirt
