#include "services/agent/replica_store/point_reader.h"

#include <algorithm>
#include <array>
#include <cstring>

#include "common/base/assert.h"
#include "services/agent/replica_store/raw_base.h"
#include "services/agent/replica_store/segment.h"

namespace farside::replica {
namespace {

Result<Version> version_from(std::string_view key, std::string_view value) {
  const auto at = block_key_from(key);
  const auto entry = entry_from(value);
  if (!at || !entry) return fail(ErrorCode::kCorrupt, "the replica's index holds a broken entry");
  return Version{.key = *at, .entry = *entry};
}

}  // namespace

Result<std::optional<Version>> PointReader::find(std::uint16_t disk, std::uint32_t block,
                                                 std::uint64_t seq) const {
  std::optional<Version> found;
  Status broken;
  FARSIDE_TRY(index_.scan(kBlocks, block_prefix(disk, block),
                          to_key({.disk = disk, .block = block, .seq = seq}),
                          [&](std::string_view key, std::string_view value) {
                            if (auto version = version_from(key, value)) {
                              found = *version;
                            } else {
                              broken = fail(version.error());
                            }
                            return false;
                          }));
  FARSIDE_TRY(std::move(broken));
  return found;
}

Status PointReader::for_each(std::uint16_t disk, std::uint64_t seq, std::uint32_t first,
                             std::uint64_t end, const Visit& visit) const {
  Status broken;
  std::uint64_t done = first;  // Blocks below have had their version.
  FARSIDE_TRY(index_.scan(kBlocks, disk_prefix(disk), block_prefix(disk, first),
                          [&](std::string_view key, std::string_view value) {
                            auto version = version_from(key, value);
                            if (!version) {
                              broken = fail(version.error());
                              return false;
                            }
                            if (version->key.block >= end) return false;
                            if (version->key.block < done || version->key.seq > seq) return true;
                            done = std::uint64_t{version->key.block} + 1;
                            return visit(*version);
                          }));
  return broken;
}

Status PointReader::read_version(const Version& version, std::span<char> plain) const {
  const auto& [key, entry] = version;
  bool good = true;
  FARSIDE_ASSERT(key.disk < disks_.size());
  switch (entry.codec) {
    case Codec::kZero:
      std::memset(plain.data(), 0, plain.size());
      return {};
    case Codec::kBase: {
      FARSIDE_ASSIGN(const auto file, base(key.disk));
      // What lies beyond the end of the disk are zeros, which a base need not have.
      const std::uint32_t length = length_of(disks_[key.disk].bytes, key.block);
      FARSIDE_TRY(file->read_at(std::uint64_t{key.block} * kBlockBytes, plain.first(length)));
      std::ranges::fill(plain.subspan(length), '\0');
      break;
    }
    case Codec::kRaw:
    case Codec::kZstd: {
      if (entry.stored > kBlockBytes) {
        return fail(ErrorCode::kCorrupt, "the replica's index holds a broken length");
      }
      FARSIDE_ASSIGN(const auto file, segment(entry.segment));
      std::array<char, kBlockBytes> packed;  // NOLINT: filled by the read.
      const std::span<char> to(packed.data(), entry.stored);
      FARSIDE_TRY(file->read_at(entry.offset, to));
      good = unpack(entry.codec, {to.data(), to.size()}, plain).has_value();
      break;
    }
  }
  if (good && hash_({plain.data(), plain.size()}) == entry.hash) return {};
  return fail(ErrorCode::kCorrupt,
              "block " + std::to_string(key.block) + " of disk " + disks_[key.disk].name +
                  " as of point " + std::to_string(key.seq) + " does not match its hash",
              "the volume damaged it: check the volume; the newest point is repaired by itself, or "
              "by `farside resync`");
}

Status PointReader::read_block(std::uint16_t disk, std::uint32_t block, std::uint64_t seq,
                               std::span<char> plain) const {
  FARSIDE_ASSIGN(const std::optional<Version> version, find(disk, block, seq));
  if (version) return read_version(*version, plain);
  std::memset(plain.data(), 0, plain.size());
  return {};
}

Status PointReader::read(std::uint16_t disk, std::uint64_t seq, std::uint64_t offset,
                         std::span<char> to) const {
  FARSIDE_ASSERT(disk < disks_.size());
  const std::uint64_t bytes = disks_[disk].bytes;
  if (offset > bytes || to.size() > bytes - offset) {
    return fail(ErrorCode::kInvalidArgument, "read beyond the end of disk " + disks_[disk].name);
  }
  std::array<char, kBlockBytes> block;  // NOLINT: filled by the read.
  while (!to.empty()) {
    const std::uint64_t number = offset / kBlockBytes;
    const std::size_t skip = offset % kBlockBytes;
    const std::size_t part = std::min<std::size_t>(to.size(), kBlockBytes - skip);
    const std::span<char> whole =
        part == kBlockBytes ? to.first(kBlockBytes) : std::span<char>(block);
    FARSIDE_TRY(read_block(disk, static_cast<std::uint32_t>(number), seq, whole));
    if (part != kBlockBytes) std::memcpy(to.data(), block.data() + skip, part);
    to = to.subspan(part);
    offset += part;
  }
  return {};
}

void PointReader::forget(std::uint32_t segment) {
  const std::lock_guard lock(mutex_);
  std::erase_if(segments_, [&](const OpenSegment& each) { return each.number == segment; });
}

Result<std::shared_ptr<const File>> PointReader::segment(std::uint32_t number) const {
  const std::lock_guard lock(mutex_);
  const auto found = std::ranges::find(segments_, number, &OpenSegment::number);
  if (found != segments_.end()) {
    segments_.splice(segments_.begin(), segments_, found);
    return found->file;
  }
  FARSIDE_ASSIGN(File file, File::open_to_read(segment_path(folder_, number)));
  if (segments_.size() == kOpenSegmentsMax) segments_.pop_back();
  segments_.push_front({.number = number, .file = std::make_shared<const File>(std::move(file))});
  return segments_.front().file;
}

Result<SharedBase> PointReader::base(std::uint16_t disk) const {
  const std::lock_guard lock(mutex_);
  auto& base = bases_[disk];
  if (base == nullptr) {
    FARSIDE_ASSIGN(base, open_base_ ? open_base_(base_names_[disk])
                                    : RawBases::open_to_read(folder_, base_names_[disk]));
  }
  return base;
}

}  // namespace farside::replica
