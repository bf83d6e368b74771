#include "services/agent/data_plane/pending_map.h"

#include <zstd.h>

#include <algorithm>
#include <filesystem>

#include "common/base/file.h"
#include "common/base/log.h"
#include "common/schema/data.plain.h"
#include "services/agent/replica_store/layout.h"

namespace farside::data {
namespace {

std::string squeeze(const BlockSet& set) {
  const std::string bytes = set.to_bytes();
  std::string out(ZSTD_compressBound(bytes.size()), '\0');
  const std::size_t size = ZSTD_compress(out.data(), out.size(), bytes.data(), bytes.size(), 1);
  FARSIDE_ASSERT(ZSTD_isError(size) == 0);
  out.resize(size);
  return out;
}

std::optional<BlockSet> unsqueeze(std::uint64_t blocks, std::string_view packed) {
  std::string bytes((blocks + 7) / 8, '\0');
  const std::size_t size =
      ZSTD_decompress(bytes.data(), bytes.size(), packed.data(), packed.size());
  if (ZSTD_isError(size) != 0 || size != bytes.size()) return std::nullopt;
  return BlockSet::from_bytes(blocks, bytes);
}

std::optional<Pending> pending_from(std::string_view file) {
  if (file.size() < 8) return std::nullopt;
  const std::string_view body = file.substr(8);
  if (replica::hash_of(body) != replica::number_at(file, 0, 8)) return std::nullopt;
  const auto stored = msg::decode<msg::StoredPending>(body);
  if (!stored) return std::nullopt;
  Pending out{.cycle = stored->cycle,
              .attempt = stored->attempt,
              .base = stored->base,
              .epoch = stored->epoch,
              .disks = {}};
  for (const msg::StoredPendingDisk& disk : stored->disks) {
    const std::uint64_t blocks = replica::blocks_of(disk.bytes);
    auto needed = unsqueeze(blocks, disk.needed);
    auto stale = unsqueeze(blocks, disk.stale);
    if (!needed || !stale) return std::nullopt;
    out.disks.push_back({.name = disk.name,
                         .id = disk.id,
                         .bytes = disk.bytes,
                         .needed = std::move(*needed),
                         .stale = std::move(*stale)});
  }
  return out;
}

}  // namespace

Pending first_attempt(std::string cycle, std::string attempt, std::string base, std::uint64_t epoch,
                      std::vector<PendingDisk> changed) {
  for (PendingDisk& disk : changed) disk.stale = BlockSet(disk.needed.size());
  return {.cycle = std::move(cycle),
          .attempt = std::move(attempt),
          .base = std::move(base),
          .epoch = epoch,
          .disks = std::move(changed)};
}

Pending next_attempt(Pending before, std::string attempt, const std::vector<PendingDisk>& changed) {
  std::vector<PendingDisk> disks;
  for (const PendingDisk& now : changed) {
    const auto old = std::ranges::find_if(before.disks, [&](const PendingDisk& each) {
      return each.name == now.name && each.id == now.id;
    });
    PendingDisk merged = now;
    merged.stale = now.needed;
    if (old != before.disks.end()) {
      merged.needed |= old->needed;
      merged.stale |= old->stale;
    }
    disks.push_back(std::move(merged));
  }
  before.attempt = std::move(attempt);
  before.disks = std::move(disks);
  return before;
}

Pending finished(std::string cycle, std::string attempt, std::uint64_t epoch) {
  std::string base = attempt;
  return {.cycle = std::move(cycle),
          .attempt = std::move(attempt),
          .base = std::move(base),
          .epoch = epoch,
          .disks = {}};
}

BlockSet still_to_send(const PendingDisk& disk, const BlockSet& staged) {
  return disk.needed - staged;
}

Result<Pending> PendingMap::load() const {
  auto bytes = farside::read_file(path_);
  if (!bytes && bytes.error().code == ErrorCode::kNotFound) return Pending();
  if (!bytes) return fail(bytes.error());
  if (auto pending = pending_from(*bytes)) return std::move(*pending);
  log::warn("pending_map_broken", {{"path", path_}});
  return Pending();
}

Status PendingMap::save(const Pending& pending) const {
  msg::StoredPending stored{.cycle = pending.cycle,
                            .attempt = pending.attempt,
                            .base = pending.base,
                            .epoch = pending.epoch};
  for (const PendingDisk& disk : pending.disks) {
    stored.disks.push_back({.name = disk.name,
                            .bytes = disk.bytes,
                            .needed = squeeze(disk.needed),
                            .stale = squeeze(disk.stale),
                            .id = disk.id});
  }
  const std::string body = encode(stored);
  FARSIDE_TRY(farside::make_folders(std::filesystem::path(path_).parent_path().string()));
  return farside::replace_file(path_, replica::number_key(replica::hash_of(body), 8) + body);
}

Status PendingMap::clear() const {
  std::error_code error;
  std::filesystem::remove(path_, error);
  if (error) return fail(farside::from_errno(error.value(), "remove " + path_));
  const std::string folder = std::filesystem::path(path_).parent_path().string();
  if (!std::filesystem::exists(folder, error)) {
    if (error) return fail(farside::from_errno(error.value(), "look into " + folder));
    return {};
  }
  return farside::sync_folder(folder);
}

}  // namespace farside::data
