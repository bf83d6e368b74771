// The contract of platforms, kept by the host in memory.
#include "common/base/assert.h"
#include "tests/contract/platform/platform_contract.h"
#include "tests/contract/platform/sim_host_adapter.h"

namespace farside::agent {
namespace {

constexpr std::uint64_t kDiskBytes = 8U << 20U;

void view(std::uint64_t offset, std::span<char> to) {
  SeededRandom random(offset);
  for (char& c : to) c = static_cast<char>(random.next());
}

}  // namespace

SimHostAdapter& SimHostAdapter::shared() {
  static SimHostAdapter adapter;
  return adapter;
}

SimHostAdapter::SimHostAdapter() : host_("sim-host", clock_, {"blue", "quiet"}) {
  host_.add_vm({.id = witness(),
                .name = "witness",
                .state = msg::PowerState::running,
                .memory_mib = 128,
                .processors = 1,
                .generation = 1,
                .disks = {{.name = "vda", .bytes = kDiskBytes, .id = "serial:a"},
                          {.name = "vdb", .bytes = kDiskBytes, .id = "serial:b"}}});
  host_.add_vm({.id = deaf(),
                .name = "deaf",
                .state = msg::PowerState::off,
                .disks = {{.name = "vda", .bytes = kDiskBytes}}},
               /*reacts_to_power_button=*/false);
  host_.serve("/view.sock", "view", view);
  host_.on_shutdown([this](const std::string& vm) {
    if (vm == witness()) append();
  });
  header_ = guest::Header{.run = 3, .disks = 2, .slots = 64, .fill_mib = 1, .zero_mib = 1};
  guest::Block block;
  for (header_.disk = 0; header_.disk < 2; ++header_.disk) {
    for (std::uint64_t i = 0; i < 256; ++i) {
      guest::encode_fill(header_.run, header_.disk, i, block);
      put(header_.disk, header_.fill_offset() + i * guest::kBlockBytes, block);
      put(header_.disk, header_.zero_offset() + i * guest::kBlockBytes, guest::Block{});
    }
    encode(header_, block);
    put(header_.disk, 0, block);
  }
  platform_ = sim::open_platform(host_);
}

void SimHostAdapter::restart_agent() {
  platform_ = sim::open_platform(host_);
}

void SimHostAdapter::put(std::uint32_t disk, std::uint64_t offset, const guest::Block& block) {
  const std::string name = disk == 0 ? "vda" : "vdb";
  FARSIDE_ASSERT(host_.write(witness(), name, offset,
                             {reinterpret_cast<const char*>(block.data()), block.size()}));
}

void SimHostAdapter::append() {
  guest::Block block;
  const guest::Record record{.run = header_.run,
                             .seq = newest_ + 1,
                             .boot = 1,
                             .disk = disk_of(header_, newest_ + 1),
                             .previous = digest_};
  encode(record, block);
  put(record.disk, offset_of(header_, record.seq), block);
  newest_ = record.seq;
  digest_ = guest::digest_of(block);
}

std::uint64_t SimHostAdapter::write_more(std::uint64_t records) {
  for (std::uint64_t i = 0; i < records; ++i) append();
  return newest_;
}

NewVm SimHostAdapter::new_vm(const std::string& name) {
  SystemRandom random;
  const std::string id = random.uuid();
  return NewVm{.shape = {.name = name,
                         .memory_mib = 32,
                         .processors = 1,
                         .generation = 1,
                         .nics = {{.mac = "52:54:00:00:00:01", .network = "blue", .address = ""},
                                  {.mac = "52:54:00:00:00:02", .network = "", .address = ""}}},
               .id = id,
               .item_id = "item-1",
               .is_test = true,
               .start = true,
               .disks = {{.name = "vda",
                          .bytes = kDiskBytes,
                          .overlay_path = "/overlays/" + id,
                          .nbd_socket = "/view.sock",
                          .nbd_export = "view"}},
               .serial_log = ""};
}

bool SimHostAdapter::overlay_is_complete(const NewVm& vm) const {
  const std::string& path = vm.disks[0].overlay_path;
  if (host_.image_has_view(path)) return false;
  std::string wanted(sim::kBlockBytes, '\0');
  for (std::uint64_t at = 0; at < kDiskBytes; at += sim::kBlockBytes) {
    view(at, wanted);
    if (host_.read_image(path, at, sim::kBlockBytes) != wanted) return false;
  }
  return true;
}

INSTANTIATE_TYPED_TEST_SUITE_P(Sim, PlatformContract, SimHostAdapter);

}  // namespace farside::agent
