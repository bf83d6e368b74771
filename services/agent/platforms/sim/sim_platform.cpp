#include "services/agent/platforms/sim/sim_platform.h"

#include "services/agent/platforms/ownership.h"
#include "services/agent/platforms/plan.h"

#include <fmt/core.h>

#include <algorithm>
#include <cstring>
#include <deque>
#include <utility>

namespace farside::agent::sim {
namespace {

constexpr std::uint64_t kReadBytesMax = 4U << 20U;
constexpr std::size_t kBlocksPulledAtOnce = 256;

bool is_zero(const std::string& block) {
  return std::ranges::all_of(block, [](char c) { return c == '\0'; });
}

std::unexpected<Error> no_vm(const std::string& vm_id) {
  return fail(ErrorCode::kNotFound, fmt::format("this host has no VM with the id {}", vm_id));
}

}  // namespace

class SimDisk final : public FrozenDisk {
 public:
  SimDisk(Host& host, std::string vm_id, std::uint64_t serial, const msg::Disk& disk,
          std::uint64_t bytes)
      : host_(host),
        vm_id_(std::move(vm_id)),
        serial_(serial),
        name_(disk.name),
        id_(disk.id),
        bytes_(bytes) {}

  const std::string& name() const override { return name_; }
  const std::string& id() const override { return id_; }
  std::uint64_t bytes() const override { return bytes_; }

  Result<std::vector<Extent>> changes() override {
    const std::lock_guard lock(host_.mutex_);
    FARSIDE_ASSIGN(const OpenPoint::Disk* disk, frozen());
    if (!disk->is_incremental) return extents(*disk, all_blocks(*disk), /*with_zeros=*/false);
    return extents(*disk, disk->changed, /*with_zeros=*/true);
  }

  Result<std::vector<Extent>> allocated() override {
    const std::lock_guard lock(host_.mutex_);
    FARSIDE_ASSIGN(const OpenPoint::Disk* disk, frozen());
    return extents(*disk, all_blocks(*disk), /*with_zeros=*/false);
  }

  Status read_async(std::uint64_t offset, std::uint64_t length, char* to, Done done) override {
    if (length == 0 || length > kReadBytesMax || offset > bytes_ || length > bytes_ - offset) {
      return fail(ErrorCode::kInvalidArgument,
                  fmt::format("disk {}: cannot read {} bytes at {}", name_, length, offset));
    }
    reads_.push_back({.offset = offset, .length = length, .to = to, .done = std::move(done)});
    return {};
  }

  Status poll(int) override {
    for (Read& read : std::exchange(reads_, {})) read.done(fill(read));
    return {};
  }

 private:
  struct Read {
    std::uint64_t offset;
    std::uint64_t length;
    char* to;
    Done done;
  };

  Result<const OpenPoint::Disk*> frozen() {
    const Machine* machine = host_.find(vm_id_);
    const bool is_there = machine != nullptr && machine->point &&
                          machine->point->serial == serial_ && !machine->point->is_lost;
    if (!is_there) {
      return fail(ErrorCode::kIo, fmt::format("the frozen view of disk {} is gone", name_));
    }
    return &machine->point->disks.at(name_);
  }

  std::set<std::uint64_t> all_blocks(const OpenPoint::Disk& disk) {
    std::set<std::uint64_t> blocks;
    const Image& image = host_.images_.at(disk.path);
    if (!image.view.empty()) {
      for (std::uint64_t i = 0; i < (bytes_ + kBlockBytes - 1) / kBlockBytes; ++i) blocks.insert(i);
      return blocks;
    }
    for (const auto& [block, content] : image.blocks) blocks.insert(block);
    return blocks;
  }

  Result<std::vector<Extent>> extents(const OpenPoint::Disk& disk,
                                      const std::set<std::uint64_t>& blocks, bool with_zeros) {
    std::vector<Extent> out;
    for (const std::uint64_t block : blocks) {
      const bool zero = is_zero(host_.frozen_block(disk, block));
      if (zero && !with_zeros) continue;
      const std::uint64_t offset = block * kBlockBytes;
      const Extent next{
          .offset = offset, .length = std::min(kBlockBytes, bytes_ - offset), .zero = zero};
      const bool joins = !out.empty() && out.back().zero == zero &&
                         out.back().offset + out.back().length == offset;
      if (joins) {
        out.back().length += next.length;
      } else {
        out.push_back(next);
      }
    }
    return out;
  }

  Status fill(const Read& read) {
    const std::lock_guard lock(host_.mutex_);
    FARSIDE_ASSIGN(const OpenPoint::Disk* disk, frozen());
    host_.frozen_bytes_read_ += read.length;
    for (std::uint64_t at = 0; at < read.length;) {
      const std::uint64_t offset = read.offset + at;
      const std::string block = host_.frozen_block(*disk, offset / kBlockBytes);
      const std::uint64_t from = offset % kBlockBytes;
      const std::uint64_t length = std::min(kBlockBytes - from, read.length - at);
      std::memcpy(read.to + at, block.data() + from, length);
      at += length;
    }
    return {};
  }

  Host& host_;
  std::string vm_id_;
  std::uint64_t serial_;
  std::string name_;
  std::string id_;
  std::uint64_t bytes_;
  std::deque<Read> reads_;
};

class SimPoint final : public Point {
 public:
  SimPoint(Host& host, const PointRequest& request, std::uint64_t serial, Time captured_at,
           std::vector<std::unique_ptr<FrozenDisk>> disks, msg::VmDefinition definition)
      : host_(host),
        vm_id_(request.vm_id),
        token_(request.token),
        serial_(serial),
        captured_at_(captured_at),
        is_app_consistent_(request.app_consistent),
        disks_(std::move(disks)),
        definition_(std::move(definition)) {}

  std::int64_t captured_at_micros() const override { return captured_at_.micros; }
  bool is_app_consistent() const override { return is_app_consistent_; }
  const std::vector<std::unique_ptr<FrozenDisk>>& disks() override { return disks_; }
  const msg::VmDefinition& definition() const override { return definition_; }

  bool is_lost() override {
    const std::lock_guard lock(host_.mutex_);
    const Machine* machine = host_.find(vm_id_);
    return machine == nullptr || !machine->point || machine->point->serial != serial_ ||
           machine->point->is_lost;
  }

  Status close() override { return end("close", /*drop_older=*/true); }
  Status abandon() override { return end("abandon", /*drop_older=*/false); }

 private:
  Status end(const char* call, bool drop_older) {
    const std::lock_guard lock(host_.mutex_);
    FARSIDE_TRY(host_.take_fault(call));
    Machine* machine = host_.find(vm_id_);
    if (machine == nullptr || !machine->point || machine->point->serial != serial_) return {};
    machine->point.reset();
    if (!drop_older) return {};
    for (const msg::Disk& disk : machine->shape.disks) {
      std::erase_if(host_.images_[disk.path].tokens,
                    [&](const auto& token) { return token.first != token_; });
    }
    return {};
  }

  Host& host_;
  std::string vm_id_;
  std::string token_;
  std::uint64_t serial_;
  Time captured_at_;
  bool is_app_consistent_;
  std::vector<std::unique_ptr<FrozenDisk>> disks_;
  msg::VmDefinition definition_;
};

class SimPlatform final : public Platform {
 public:
  explicit SimPlatform(Host& host) : host_(host) {}

  Result<msg::HostState> describe_host() override {
    const std::lock_guard lock(host_.mutex_);
    FARSIDE_TRY(host_.take_fault("describe_host"));
    return msg::HostState{
        .name = host_.name_,
        .platform = "sim",
        .platform_version = "1",
        .processors = 8,
        .memory_mib = 65536,
        .memory_free_mib = 32768,
        .networks = host_.networks_,
        .storage = {{.path = "/sim", .total_bytes = 1ULL << 40U, .free_bytes = 1ULL << 39U}}};
  }

  Result<std::vector<msg::Vm>> list_vms() override {
    const std::lock_guard lock(host_.mutex_);
    FARSIDE_TRY(host_.take_fault("list_vms"));
    std::vector<msg::Vm> vms;
    for (const auto& [id, machine] : host_.machines_) vms.push_back(describe(machine));
    return vms;
  }

  Result<msg::Vm> describe_vm(const std::string& vm_id) override {
    const std::lock_guard lock(host_.mutex_);
    FARSIDE_TRY(host_.take_fault("describe_vm"));
    const Machine* machine = host_.find(vm_id);
    if (machine == nullptr) return no_vm(vm_id);
    return describe(*machine);
  }

  Result<PowerResult> shut_down(const std::string& vm_id, int) override {
    std::function<void(const std::string&)> last_words;
    {
      const std::lock_guard lock(host_.mutex_);
      FARSIDE_TRY(host_.take_fault("shut_down"));
      Machine* machine = host_.find(vm_id);
      if (machine == nullptr) return no_vm(vm_id);
      if (!machine->is_running) return PowerResult{};
      if (!machine->reacts_to_power_button) {
        machine->is_running = false;
        return PowerResult{.was_running = true, .forced = true};
      }
      last_words = host_.last_words_;
    }
    if (last_words) last_words(vm_id);
    FARSIDE_TRY(power_off(vm_id));
    return PowerResult{.was_running = true, .forced = false};
  }

  Status power_off(const std::string& vm_id) override {
    const std::lock_guard lock(host_.mutex_);
    FARSIDE_TRY(host_.take_fault("power_off"));
    Machine* machine = host_.find(vm_id);
    if (machine == nullptr) return no_vm(vm_id);
    turn_off(*machine);
    return {};
  }

  Status start(const std::string& vm_id) override {
    const std::lock_guard lock(host_.mutex_);
    FARSIDE_TRY(host_.take_fault("start"));
    Machine* machine = host_.find(vm_id);
    if (machine == nullptr) return no_vm(vm_id);
    if (machine->is_fenced) {
      return fail(ErrorCode::kStaleEpoch,
                  fmt::format("VM '{}' is fenced on this host: it is active elsewhere",
                              machine->shape.name));
    }
    machine->is_running = true;
    return {};
  }

  Result<std::unique_ptr<Point>> create_point(const PointRequest& request) override {
    const std::lock_guard lock(host_.mutex_);
    FARSIDE_TRY(host_.take_fault("create_point"));
    Machine* machine = host_.find(request.vm_id);
    if (machine == nullptr) return no_vm(request.vm_id);
    for (const msg::Disk& disk : machine->shape.disks) {
      auto& tokens = host_.images_[disk.path].tokens;
      if (request.since.empty() || tokens.contains(request.since)) continue;
      return fail(ErrorCode::kTrackingLost,
                  fmt::format("VM '{}' has no token {}", machine->shape.name, request.since));
    }
    OpenPoint point{.serial = ++host_.serial_, .token = request.token, .disks = {}};
    std::vector<std::unique_ptr<FrozenDisk>> disks;
    for (const msg::Disk& disk : machine->shape.disks) {
      Image& image = host_.images_[disk.path];
      OpenPoint::Disk frozen{.path = disk.path, .changed = {}, .before = {}};
      if (!request.since.empty()) {
        frozen.changed = image.tokens[request.since];
        frozen.is_incremental = true;
      }
      image.tokens[request.token].clear();
      point.disks[disk.name] = std::move(frozen);
      disks.push_back(
          std::make_unique<SimDisk>(host_, request.vm_id, point.serial, disk, image.bytes));
    }
    machine->point = std::move(point);
    return std::make_unique<SimPoint>(host_, request, machine->point->serial, host_.clock_.now(),
                                      std::move(disks), definition(*machine));
  }

  Status forget_tokens(const std::string& vm_id) override {
    const std::lock_guard lock(host_.mutex_);
    FARSIDE_TRY(host_.take_fault("forget_tokens"));
    Machine* machine = host_.find(vm_id);
    if (machine == nullptr) return {};
    machine->point.reset();
    for (const msg::Disk& disk : machine->shape.disks) host_.images_[disk.path].tokens.clear();
    return {};
  }

  Result<msg::VmDefinition> definition_of(const std::string& vm_id) override {
    const std::lock_guard lock(host_.mutex_);
    FARSIDE_TRY(host_.take_fault("definition_of"));
    const Machine* machine = host_.find(vm_id);
    if (machine == nullptr) return no_vm(vm_id);
    return definition(*machine);
  }

  Result<std::vector<msg::PlanRow>> plan_vm(const NewVm& vm) override {
    return plan_of_shape(vm.shape);
  }

  Status prove_vm(const NewVm& vm, const std::string&, const std::string&) override {
    const std::lock_guard lock(host_.mutex_);
    FARSIDE_TRY(host_.take_fault("prove_vm"));
    return may_create(vm);
  }

  Result<std::string> sign_of_life(const std::string& vm_id) override {
    const std::lock_guard lock(host_.mutex_);
    FARSIDE_TRY(host_.take_fault("sign_of_life"));
    const Machine* machine = host_.find(vm_id);
    if (machine == nullptr) return no_vm(vm_id);
    if (!machine->is_running) {
      return fail(ErrorCode::kConflict, fmt::format("VM '{}' is off", machine->shape.name));
    }
    return std::string(machine->has_written ? "its guest writes" : "");
  }

  Status create_vm(const NewVm& vm) override {
    const std::lock_guard lock(host_.mutex_);
    FARSIDE_TRY(host_.take_fault("create_vm"));
    FARSIDE_TRY(may_create(vm));
    Machine machine{.shape = vm.shape, .is_running = vm.start, .is_ours = true};
    machine.shape.id = vm.id;
    machine.shape.is_replica = true;
    machine.shape.is_test = vm.is_test;
    machine.shape.disks.clear();
    for (const NewDisk& disk : vm.disks) {
      machine.shape.disks.push_back(
          {.name = disk.name, .bytes = disk.bytes, .path = disk.overlay_path, .format = "qcow2"});
      if (host_.images_.contains(disk.overlay_path)) continue;
      Image& image = host_.images_[disk.overlay_path];
      image.bytes = disk.bytes;
      image.view = disk.nbd_socket + "/" + disk.nbd_export;
    }
    if (host_.machines_.contains(vm.id)) {
      host_.machines_[vm.id].is_running |= vm.start;
    } else {
      host_.machines_[vm.id] = std::move(machine);
    }
    return {};
  }

  Result<BlockProgress> detach_view(const std::string& vm_id) override {
    const std::lock_guard lock(host_.mutex_);
    FARSIDE_TRY(host_.take_fault("detach_view"));
    const Machine* machine = host_.find(vm_id);
    if (machine == nullptr) return no_vm(vm_id);
    BlockProgress progress{.finished = true};
    for (const msg::Disk& disk : machine->shape.disks) {
      Image& image = host_.images_[disk.path];
      progress.total += image.bytes;
      std::size_t pulled = 0;
      std::uint64_t block = 0;
      for (; !image.view.empty() && block * kBlockBytes < image.bytes; ++block) {
        if (image.blocks.contains(block)) continue;
        if (pulled == kBlocksPulledAtOnce || host_.copies_break_) break;
        image.blocks[block] = host_.read_block(image, block);
        ++pulled;
      }
      if (image.view.empty() || block * kBlockBytes >= image.bytes) {
        image.view.clear();
        progress.done += image.bytes;
      } else {
        progress.done += block * kBlockBytes;
        progress.finished = false;
      }
    }
    return progress;
  }

  Result<std::string> release_vm(const std::string& vm_id) override {
    const std::lock_guard lock(host_.mutex_);
    FARSIDE_TRY(host_.take_fault("release_vm"));
    Machine* machine = host_.find(vm_id);
    if (machine == nullptr) return no_vm(vm_id);
    if (machine->is_ours && machine->shape.is_test) {
      return fail(refuse_to_release(machine->shape.name).error());
    }
    machine->is_ours = false;
    machine->shape.is_replica = false;
    return vm_id;
  }

  Status destroy_vm(const std::string& vm_id, bool delete_overlays) override {
    const std::lock_guard lock(host_.mutex_);
    FARSIDE_TRY(host_.take_fault("destroy_vm"));
    const Machine* machine = host_.find(vm_id);
    if (machine == nullptr) return {};
    if (!machine->is_ours) {
      return fail(ErrorCode::kForbidden,
                  fmt::format("VM '{}' was not created by Farside", machine->shape.name));
    }
    if (!machine->shape.is_test) return refuse_to_remove(machine->shape.name);
    remove(vm_id, delete_overlays);
    return {};
  }

  Status set_fenced(const std::string& vm_id, bool fenced) override {
    const std::lock_guard lock(host_.mutex_);
    FARSIDE_TRY(host_.take_fault("set_fenced"));
    if (Machine* machine = host_.find(vm_id)) machine->is_fenced = fenced;
    return {};
  }

  Result<std::vector<std::string>> enforce_fences() override {
    const std::lock_guard lock(host_.mutex_);
    FARSIDE_TRY(host_.take_fault("enforce_fences"));
    std::vector<std::string> turned_off;
    for (auto& [id, machine] : host_.machines_) {
      if (!machine.is_fenced || !machine.is_running) continue;
      turn_off(machine);
      turned_off.push_back(id);
    }
    return turned_off;
  }

  Status reconcile(const std::vector<std::string>& vms_to_keep) override {
    const std::lock_guard lock(host_.mutex_);
    FARSIDE_TRY(host_.take_fault("reconcile"));
    std::vector<std::string> leftovers;
    for (auto& [id, machine] : host_.machines_) {
      machine.point.reset();
      const bool is_ours = machine.is_ours && machine.shape.is_test;
      if (is_ours && std::ranges::count(vms_to_keep, id) == 0) leftovers.push_back(id);
    }
    for (const std::string& id : leftovers) remove(id, /*delete_overlays=*/true);
    return {};
  }

 private:
  Status may_create(const NewVm& vm) {
    if (const Machine* existing = host_.find(vm.id)) {
      if (!existing->is_ours) {
        return fail(ErrorCode::kForbidden, fmt::format("VM {} was not created by Farside", vm.id));
      }
    }
    for (const msg::Nic& nic : vm.shape.nics) {
      if (nic.network.empty() || std::ranges::count(host_.networks_, nic.network) > 0) continue;
      return fail(ErrorCode::kNotFound, fmt::format("this host has no network '{}'", nic.network));
    }
    return {};
  }

  static msg::VmDefinition definition(const Machine& machine) {
    msg::VmDefinition out{.platform = "sim", .shape = machine.shape};
    out.shape.state = msg::PowerState::unknown;
    return out;
  }

  // As on a real host, the frozen view is served by the process that runs the guest.
  static void turn_off(Machine& machine) {
    if (!machine.is_running) return;
    machine.is_running = false;
    if (machine.point) machine.point->is_lost = true;
  }

  static msg::Vm describe(const Machine& machine) {
    msg::Vm vm = machine.shape;
    vm.state = machine.is_running ? msg::PowerState::running : msg::PowerState::off;
    return vm;
  }

  void remove(const std::string& vm_id, bool delete_overlays) {
    const auto found = host_.machines_.find(vm_id);
    if (delete_overlays) {
      for (const msg::Disk& disk : found->second.shape.disks) host_.images_.erase(disk.path);
    }
    host_.machines_.erase(found);
  }

  Host& host_;
};

std::unique_ptr<Platform> open_platform(Host& host) {
  return std::make_unique<SimPlatform>(host);
}

}  // namespace farside::agent::sim
