#include "services/agent/platforms/sim/sim_host.h"

#include <fmt/core.h>

#include <algorithm>
#include <cstring>

#include "common/base/assert.h"

namespace farside::agent::sim {

Host::Host(std::string name, const Clock& clock, std::vector<std::string> networks)
    : name_(std::move(name)), clock_(clock), networks_(std::move(networks)) {}

void Host::make_images(msg::Vm& shape) {
  for (msg::Disk& disk : shape.disks) {
    if (disk.path.empty()) disk.path = fmt::format("/sim/{}/{}", shape.id, disk.name);
    if (disk.format.empty()) disk.format = "raw";
    images_[disk.path].bytes = disk.bytes;
  }
}

void Host::change_vm(const std::string& vm_id, const std::function<void(msg::Vm&)>& change) {
  const std::lock_guard lock(mutex_);
  Machine* machine = find(vm_id);
  FARSIDE_ASSERT(machine != nullptr);
  change(machine->shape);
  make_images(machine->shape);
}

std::optional<msg::Vm> Host::find_vm(const std::string& vm_id) const {
  const std::lock_guard lock(mutex_);
  const auto found = machines_.find(vm_id);
  return found == machines_.end() ? std::nullopt : std::optional(found->second.shape);
}

void Host::add_vm(const msg::Vm& shape, bool reacts_to_power_button) {
  const std::lock_guard lock(mutex_);
  Machine machine{.shape = shape, .reacts_to_power_button = reacts_to_power_button};
  make_images(machine.shape);
  machine.is_running = shape.state == msg::PowerState::running;
  machines_[shape.id] = std::move(machine);
}

void Host::serve(const std::string& nbd_socket, const std::string& nbd_export, View view) {
  const std::lock_guard lock(mutex_);
  views_[nbd_socket + "/" + nbd_export] = std::move(view);
}

bool Host::has_image(const std::string& path) const {
  const std::lock_guard lock(mutex_);
  return images_.contains(path);
}

bool Host::image_has_view(const std::string& path) const {
  const std::lock_guard lock(mutex_);
  const auto found = images_.find(path);
  return found != images_.end() && !found->second.view.empty();
}

std::string Host::read_image(const std::string& path, std::uint64_t offset,
                             std::uint64_t length) const {
  const std::lock_guard lock(mutex_);
  const auto found = images_.find(path);
  FARSIDE_ASSERT(found != images_.end());
  std::string out;
  for (std::uint64_t at = offset / kBlockBytes * kBlockBytes; at < offset + length;
       at += kBlockBytes) {
    out += read_block(found->second, at / kBlockBytes);
  }
  return out.substr(offset % kBlockBytes, length);
}

std::uint64_t Host::frozen_bytes_read() const {
  const std::lock_guard lock(mutex_);
  return frozen_bytes_read_;
}

bool Host::write(const std::string& vm_id, const std::string& disk, std::uint64_t offset,
                 std::span<const char> bytes) {
  FARSIDE_ASSERT(offset % kBlockBytes == 0);
  FARSIDE_ASSERT(bytes.size() % kBlockBytes == 0);
  const std::lock_guard lock(mutex_);
  Machine* machine = find(vm_id);
  if (machine == nullptr || !machine->is_running) return false;
  machine->has_written = true;
  Image& image = image_of(*machine, disk);
  FARSIDE_ASSERT(offset + bytes.size() <= image.bytes);
  for (std::uint64_t at = 0; at < bytes.size(); at += kBlockBytes) {
    const std::uint64_t block = (offset + at) / kBlockBytes;
    if (machine->point && machine->point->disks.contains(disk)) {
      auto& before = machine->point->disks[disk].before;
      if (!before.contains(block)) {
        const auto old = image.blocks.find(block);
        before[block] = old == image.blocks.end() ? std::nullopt : std::optional(old->second);
      }
    }
    image.blocks[block] = std::string(bytes.data() + at, kBlockBytes);
    for (auto& [token, dirty] : image.tokens) dirty.insert(block);
  }
  return true;
}

void Host::on_shutdown(std::function<void(const std::string& vm_id)> last_words) {
  const std::lock_guard lock(mutex_);
  last_words_ = std::move(last_words);
}

void Host::lose_tracking(const std::string& vm_id) {
  const std::lock_guard lock(mutex_);
  Machine* machine = find(vm_id);
  FARSIDE_ASSERT(machine != nullptr);
  for (const msg::Disk& disk : machine->shape.disks) images_[disk.path].tokens.clear();
  if (machine->point) machine->point->is_lost = true;
}

void Host::lose_point(const std::string& vm_id) {
  const std::lock_guard lock(mutex_);
  Machine* machine = find(vm_id);
  FARSIDE_ASSERT(machine != nullptr);
  if (machine->point) machine->point->is_lost = true;
}

void Host::break_copies(bool broken) {
  const std::lock_guard lock(mutex_);
  copies_break_ = broken;
}

void Host::fail_next(const std::string& call, Error error, int times) {
  const std::lock_guard lock(mutex_);
  faults_[call] = {std::move(error), times};
}

Machine* Host::find(const std::string& vm_id) {
  const auto found = machines_.find(vm_id);
  return found == machines_.end() ? nullptr : &found->second;
}

Image& Host::image_of(const Machine& machine, const std::string& disk) {
  const auto found = std::ranges::find(machine.shape.disks, disk, &msg::Disk::name);
  FARSIDE_ASSERT(found != machine.shape.disks.end());
  return images_[found->path];
}

std::string Host::read_block(const Image& image, std::uint64_t block) const {
  if (const auto found = image.blocks.find(block); found != image.blocks.end()) {
    return found->second;
  }
  std::string content(kBlockBytes, '\0');
  if (const auto view = views_.find(image.view); view != views_.end()) {
    view->second(block * kBlockBytes, content);
  }
  return content;
}

std::string Host::frozen_block(const OpenPoint::Disk& disk, std::uint64_t block) const {
  const auto image = images_.find(disk.path);
  FARSIDE_ASSERT(image != images_.end());
  const auto before = disk.before.find(block);
  if (before == disk.before.end()) return read_block(image->second, block);
  if (before->second) return *before->second;
  Image empty{.bytes = image->second.bytes, .blocks = {}, .view = image->second.view};
  return read_block(empty, block);
}

Status Host::take_fault(const std::string& call) {
  const auto fault = faults_.find(call);
  if (fault == faults_.end() || fault->second.second == 0) return {};
  --fault->second.second;
  return fail(fault->second.first);
}

}  // namespace farside::agent::sim
