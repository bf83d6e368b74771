#include "services/agent/platforms/libvirt/disk_sizes.h"

#include <fmt/core.h>

#include "services/agent/platforms/libvirt/image_file.h"
#include "services/agent/platforms/libvirt/qcow2_header.h"

namespace farside::agent::libvirt {
namespace {

Result<std::uint64_t> bytes_of(const msg::Disk& disk) {
  if (disk.format == "qcow2") {
    FARSIDE_ASSIGN(const auto header, read_qcow2_header(disk.path));
    return header.bytes;
  }
  FARSIDE_ASSIGN(const auto file, state_of_file(disk.path));
  return file.bytes;
}

}  // namespace

void measure_disks(msg::Vm& vm) {
  for (msg::Disk& disk : vm.disks) {
    // VMs of ours carry their sizes with them; what is no file is a problem already.
    if (disk.bytes > 0 || disk.path.empty()) continue;
    if (const auto bytes = bytes_of(disk)) {
      disk.bytes = *bytes;
    } else if (vm.problem.empty()) {
      vm.problem = fmt::format("disk {} cannot be read: {}", disk.name, bytes.error().what);
    }
  }
}

}  // namespace farside::agent::libvirt
