// A definition of a VM from a peer, whatever is in it, is refused, or makes a domain of this host
// that can be read.
#include "services/agent/platforms/libvirt/domain_xml.h"
#include "services/agent/platforms/libvirt/transform.h"
#include "tests/fuzz/fuzz_target.h"

int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  using namespace farside::agent;
  static const auto networks = *libvirt::Networks::from_options({{"lan", "user"}});
  const NewVm vm{.shape = {.name = "web",
                           .nics = {{.mac = "52:54:00:00:00:01", .network = "lan", .address = ""}}},
                 .definition = {.platform = "libvirt",
                                .shape = {},
                                .text = std::string(farside::fuzz::bytes(data, size))},
                 .id = "6b0f3f0e-0000-4000-8000-000000000009",
                 .item_id = "item",
                 .disks = {{.name = "vda", .id = "serial:S1", .overlay_path = "/o/vda.qcow2"}}};
  const auto made = libvirt::make_domain(
      vm, networks,
      {.type = "qemu", .emulator = "", .serial_log = "/log", .boot_folder = "", .firmware = {}});
  if (!made) {
    FARSIDE_ASSERT(!made.error().what.empty());
    return 0;
  }
  const auto shape = libvirt::read_domain(made->xml, networks);
  FARSIDE_ASSERT(shape.has_value());
  FARSIDE_ASSERT(shape->is_ours && shape->overlays.size() == 1);
  for (const auto& disk : shape->disks) {
    FARSIDE_ASSERT(disk.path.empty() || disk.path == "/o/vda.qcow2");
  }
  return 0;
}
