// The file of a VM's UEFI variables, which go to the other site with its definition.
//
// Its path is what the VM's definition says, and whoever may define VMs need not be root, as the
// agent may be: nothing is read out but what UEFI firmware keeps.
#pragma once

#include <cstddef>
#include <string>
#include <string_view>

#include "common/base/result.h"

namespace farside::agent::libvirt {

inline constexpr std::size_t kNvramBytesMax = 2U << 20U;

// Whether the whole content of a file is a firmware volume of variables, raw or in a qcow2 image.
bool is_nvram(std::string_view content);

// The whole file, of one instant; nothing if there is none, or nothing but zeros in it (libvirt
// makes it at the first start).  Never waits.  Errors: kUnavailable (it cannot be read, or changes
// all the time), kTooLarge, kUnsupported (no regular file, or other content), kIo.
Result<std::string> read_nvram(const std::string& path);

}  // namespace farside::agent::libvirt
