#include "services/agent/platforms/hyperv/frozen_disk.h"

#include <fmt/format.h>

#include <algorithm>
#include <cstring>
#include <utility>

#include "common/base/log.h"

namespace farside::agent::hyperv {
namespace {

constexpr std::uint64_t kReadBytesMax = 4U << 20U;
constexpr std::uint64_t kSectorBytes = 512;
constexpr int kDrainMs = 100;

void add(std::vector<Extent>& extents, const Extent& next) {
  if (next.length == 0) return;
  if (!extents.empty() && extents.back().zero == next.zero &&
      extents.back().offset + extents.back().length == next.offset) {
    extents.back().length += next.length;
  } else {
    extents.push_back(next);
  }
}

}  // namespace

VhdxFrozenDisk::~VhdxFrozenDisk() {
  // Reads under way write to buffers of others.  Each has its deadline.
  for (auto& [name, share] : leases_) {
    while (share->under_way() > 0) share->poll(kDrainMs);
  }
  for (auto& [number, source] : sources_) {
    if (const Status closed = (*source.share)->close(source.file); !closed) {
      log::debug("frozen_disk_not_closed", {{"disk", name_}, {"error", closed.error()}});
    }
  }
}

Result<std::unique_ptr<VhdxFrozenDisk>> VhdxFrozenDisk::open(Shares& shares, const VhdxDisk& disk) {
  std::unique_ptr<VhdxFrozenDisk> opened(new VhdxFrozenDisk());
  opened->shares_ = &shares;
  opened->name_ = disk.name;
  opened->paths_.push_back(disk.path);
  auto top = opened->open_file(disk.path);
  if (!top) return fail(top.error().in("open disk '" + disk.path + "'"));
  auto chain =
      vhdx::Chain::open(std::move(*top), [disk = opened.get()](const vhdx::ParentLocator& locator) {
        return disk->open_parent(locator);
      });
  if (!chain) return fail(chain.error().in("disk '" + disk.path + "'"));
  opened->chain_ = std::move(*chain);
  opened->id_ = identity_of(opened->disk_id());
  return opened;
}

Result<Shares::Lease*> VhdxFrozenDisk::lease(const std::string& share) {
  auto found = leases_.find(share);
  if (found == leases_.end()) {
    FARSIDE_ASSIGN(Shares::Lease taken, shares_->take(share));
    found = leases_.emplace(share, std::move(taken)).first;
  }
  return &found->second;
}

Result<std::unique_ptr<ByteFile>> VhdxFrozenDisk::open_file(const std::string& path) {
  FARSIDE_ASSIGN(const SharePath place, shares_->locate(path));
  FARSIDE_ASSIGN(auto* share, lease(place.share));
  return (*share)->open_file(place.path, smb::Access::kRead);
}

Result<std::unique_ptr<ByteFile>> VhdxFrozenDisk::open_parent(const vhdx::ParentLocator& locator) {
  const std::string child = paths_.back();
  std::vector<std::string> places;
  if (!locator.relative_path.empty()) {
    places.push_back(resolve_windows_path(windows_folder_of(child), locator.relative_path));
  }
  if (!locator.absolute_win32_path.empty()) places.push_back(locator.absolute_win32_path);
  Result<std::unique_ptr<ByteFile>> opened = fail(ErrorCode::kNotFound, "it does not say where");
  for (const std::string& place : places) {
    opened = open_file(place);
    if (!opened && opened.error().code == ErrorCode::kNotFound) continue;
    if (opened) paths_.push_back(place);
    break;
  }
  if (!opened) return fail(opened.error().in("open the parent of disk '" + child + "'"));
  return opened;
}

std::string VhdxFrozenDisk::disk_id() {
  return chain_->image(0).metadata().disk_id.text();
}

Result<std::vector<Extent>> VhdxFrozenDisk::changes() {
  if (!changes_) return allocated();
  std::vector<Extent> extents;
  for (const wsman::ChangedRange& range : *changes_) {
    const std::uint64_t begin = range.offset / kSectorBytes * kSectorBytes;
    const std::uint64_t end = std::min(
        bytes(), (range.offset + range.bytes + kSectorBytes - 1) / kSectorBytes * kSectorBytes);
    if (begin >= end) continue;
    FARSIDE_ASSIGN(const auto parts, chain_->allocated(begin, end - begin));
    for (const vhdx::Extent& part : parts) {
      add(extents, {.offset = part.offset, .length = part.length, .zero = part.is_zero});
    }
  }
  return extents;
}

Result<std::vector<Extent>> VhdxFrozenDisk::allocated() {
  FARSIDE_ASSIGN(const auto parts, chain_->allocated());
  std::vector<Extent> extents;
  for (const vhdx::Extent& part : parts) {
    if (!part.is_zero) add(extents, {.offset = part.offset, .length = part.length});
  }
  return extents;
}

Result<VhdxFrozenDisk::Source*> VhdxFrozenDisk::source(std::size_t number) {
  if (const auto found = sources_.find(number); found != sources_.end()) return &found->second;
  FARSIDE_ASSIGN(const SharePath place, shares_->locate(paths_.at(number)));
  Source made;
  FARSIDE_ASSIGN(made.share, lease(place.share));
  FARSIDE_ASSIGN(made.file, (*made.share)->open(place.path, smb::Access::kRead));
  return &sources_.emplace(number, made).first->second;
}

Status VhdxFrozenDisk::read_async(std::uint64_t offset, std::uint64_t length, char* to, Done done) {
  if (length == 0 || length > kReadBytesMax || offset > bytes() || length > bytes() - offset) {
    return fail(ErrorCode::kInvalidArgument,
                fmt::format("disk {}: cannot read {} bytes at {}", name_, length, offset));
  }
  FARSIDE_ASSIGN(const auto pieces, chain_->map(offset, length));
  reads_.push_back(
      {.done = std::move(done), .waiting = 1, .status = {}});  // 1: until all is asked.
  const auto read = std::prev(reads_.end());
  const auto end_part = [this, read](const Status& status) {
    if (!status && read->status) read->status = status;
    if (--read->waiting == 0) finished_.push_back(read);
  };
  Status asked;
  for (const vhdx::Piece& piece : pieces) {
    if (!piece.file) {
      std::memset(to, 0, piece.length);
    } else if (auto from = source(*piece.file); from) {
      ++read->waiting;
      asked = (*(*from)->share)
                  ->read_async((*from)->file, piece.file_offset, piece.length, to, end_part);
      if (!asked) --read->waiting;
    } else {
      asked = fail(from.error());
    }
    if (!asked) break;
    to += piece.length;
  }
  end_part(asked);
  return {};
}

Status VhdxFrozenDisk::poll(int timeout_ms) {
  const bool is_waiting = finished_.empty();
  for (auto& [name, share] : leases_) {
    if (share->under_way() > 0) share->poll(is_waiting ? timeout_ms : 0);
  }
  for (const auto read : std::exchange(finished_, {})) {
    const Read finished = std::move(*read);
    reads_.erase(read);
    finished.done(finished.status);
  }
  return {};
}

}  // namespace farside::agent::hyperv
