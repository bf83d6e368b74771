#include "services/agent/platforms/libvirt/off_disk.h"

#include <fmt/core.h>

#include <chrono>

#include "services/agent/platforms/deadline.h"

namespace farside::agent::libvirt {
namespace {

constexpr std::chrono::seconds kConnectMax(5);

}  // namespace

Status OffDisk::serve(const std::string& bitmap) {
  disk_.reset();
  server_.reset();  // It removes its socket, which is to be the next one's.
  FARSIDE_ASSIGN(
      server_,
      ImageServer::start(
          {.path = what_.path, .socket = what_.socket, .name = what_.name, .bitmap = bitmap}));
  // The socket is there a moment before anybody listens.
  const Deadline deadline(kConnectMax);
  for (;;) {
    auto disk = NbdDisk::connect(
        {.socket = what_.socket, .name = what_.name, .id = what_.id, .bitmap = bitmap});
    if (disk) {
      disk_ = std::move(*disk);
      break;
    }
    if (disk.error().code != ErrorCode::kUnavailable || server_->has_ended() || !deadline.pause()) {
      return fail(std::move(disk).error());
    }
  }
  if (disk_->bytes() == what_.bytes) return {};
  return fail(ErrorCode::kBusy, fmt::format("{} has just been resized", what_.path));
}

Status OffDisk::open() {
  if (disk_) return {};
  auto served = serve(what_.bitmap);
  if (served || what_.bitmap.empty()) return served;
  // QEMU refuses a bitmap that is not there, or that the end of a killed guest left unfinished.
  const Error why = served.error();
  if (!serve("")) return fail(why);
  disk_.reset();
  server_.reset();
  return fail(ErrorCode::kTrackingLost, why.what);
}

Result<std::vector<Extent>> OffDisk::changes() {
  if (what_.is_unchanged) return std::vector<Extent>{};
  FARSIDE_TRY(open());
  return disk_->changes();
}

Result<std::vector<Extent>> OffDisk::allocated() {
  FARSIDE_TRY(open());
  return disk_->allocated();
}

Status OffDisk::read_async(std::uint64_t offset, std::uint64_t length, char* to, Done done) {
  FARSIDE_TRY(open());
  return disk_->read_async(offset, length, to, std::move(done));
}

Status OffDisk::poll(int timeout_ms) {
  return disk_ ? disk_->poll(timeout_ms) : Status{};
}

}  // namespace farside::agent::libvirt
