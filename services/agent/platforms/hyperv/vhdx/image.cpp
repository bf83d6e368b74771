#include "services/agent/platforms/hyperv/vhdx/image.h"

#include <algorithm>
#include <cstring>

#include "common/base/assert.h"
#include "services/agent/platforms/hyperv/vhdx/layout.h"
#include "services/agent/platforms/hyperv/vhdx/sector_bits.h"

namespace farside::agent::vhdx {
namespace {

constexpr std::size_t kBitmapsKept = 64;        // 64 MiB of memory; 256 GiB of a disk at least.
constexpr std::uint64_t kReadBytes = 4 * kMiB;  // At once, of the table.

Result<std::string> read(hyperv::ByteFile& file, std::uint64_t at, std::uint64_t bytes) {
  std::string out(bytes, '\0');
  FARSIDE_TRY(file.read_at(at, out));
  return out;
}

void add(std::vector<Segment>& to, const Segment& segment) {
  if (segment.length == 0) return;
  if (!to.empty() && to.back().source == segment.source &&
      (segment.source != Source::kThisFile ||
       to.back().file_offset + to.back().length == segment.file_offset)) {
    to.back().length += segment.length;
    return;
  }
  to.push_back(segment);
}

}  // namespace

Result<std::unique_ptr<Image>> Image::open(std::unique_ptr<hyperv::ByteFile> file) {
  std::unique_ptr<Image> image(new Image(std::move(file)));
  FARSIDE_TRY(image->load());
  return image;
}

Status Image::load() {
  FARSIDE_ASSIGN(real_bytes_, file_->size());
  file_bytes_ = real_bytes_;
  if (real_bytes_ < kMiB) {
    return corrupt("a VHDX file of only " + std::to_string(real_bytes_) + " bytes");
  }
  FARSIDE_ASSIGN(const std::string mark, read(*file_, 0, kFileMark.size()));
  if (mark != kFileMark) return corrupt("not a VHDX file");
  FARSIDE_ASSIGN(const std::string first, read(*file_, kHeaderAt[0], kHeaderBytes));
  FARSIDE_ASSIGN(const std::string second, read(*file_, kHeaderAt[1], kHeaderBytes));
  FARSIDE_ASSIGN(current_, current_header(first, second));
  FARSIDE_TRY(load_log());
  FARSIDE_TRY(load_regions());
  const ReadRegion read_region = [&](std::uint64_t at, std::uint64_t bytes) -> Result<std::string> {
    std::string out(bytes, '\0');
    FARSIDE_TRY(read_logged(regions_.metadata.at + at, out));
    return out;
  };
  FARSIDE_ASSIGN(metadata_, read_metadata(read_region, regions_.metadata.bytes));
  geometry_ = std::make_unique<Geometry>(metadata_);
  FARSIDE_TRY(load_bat());
  FARSIDE_TRY(check_entries());
  if (const auto used = stretches(); !used) return fail(used.error());
  return check_log_leaves_payload_alone();
}

Status Image::load_log() {
  const Header& header = current_.header;
  if (!fits(header.log_at, header.log_bytes, real_bytes_)) {
    return corrupt("the log, " + std::to_string(header.log_bytes) + " bytes at " +
                   std::to_string(header.log_at) + ", lies beyond the file's " +
                   std::to_string(real_bytes_));
  }
  if (header.log.is_zero()) return {};
  FARSIDE_ASSIGN(const std::string log, read(*file_, header.log_at, header.log_bytes));
  FARSIDE_ASSIGN(ActiveLog active, read_log(log, header.log));
  if (real_bytes_ < active.flushed_file_bytes) {
    return corrupt("the file was cut: it has " + std::to_string(real_bytes_) + " bytes, and had " +
                   std::to_string(active.flushed_file_bytes));
  }
  file_bytes_ = std::max(real_bytes_, active.last_file_bytes);
  for (const LogUpdate& update : active.updates) {
    // Headers never change through the log, nor does the log itself.
    if (update.at < kRegionTableAt[0] || !fits(update.at, update.length(), kFileBytesMax) ||
        (update.at < header.log_at + header.log_bytes &&
         header.log_at < update.at + update.length())) {
      return corrupt("the log changes " + std::to_string(update.length()) + " bytes at " +
                     std::to_string(update.at) + ", where it must not");
    }
    file_bytes_ = std::max(file_bytes_, update.at + update.length());
  }
  if (file_bytes_ > kFileBytesMax) {
    return corrupt("the log wants a file of " + std::to_string(file_bytes_) + " bytes");
  }
  updates_ = std::move(active.updates);
  return {};
}

Status Image::load_regions() {
  std::string bytes(kRegionTableBytes, '\0');
  FARSIDE_TRY(read_logged(kRegionTableAt[0], bytes));
  auto table = parse_region_table(bytes);
  if (!table && table.error().code == ErrorCode::kCorrupt) {
    FARSIDE_TRY(read_logged(kRegionTableAt[1], bytes));
    table = parse_region_table(bytes);
  }
  FARSIDE_ASSIGN(regions_, std::move(table));
  for (const Region& region : {regions_.bat, regions_.metadata}) {
    if (!fits(region.at, region.bytes, file_bytes_)) {
      return corrupt("a region of " + std::to_string(region.bytes) + " bytes at " +
                     std::to_string(region.at) + " lies beyond the file's " +
                     std::to_string(file_bytes_));
    }
  }
  return {};
}

Status Image::load_bat() {
  const std::uint64_t bytes = round_up(geometry_->entries * sizeof(bat_[0]), kLogSectorBytes);
  if (bytes > regions_.bat.bytes) {
    return corrupt("a BAT of " + std::to_string(regions_.bat.bytes) + " bytes, where the disk of " +
                   std::to_string(metadata_.disk_bytes) + " takes " + std::to_string(bytes));
  }
  // At most half a gigabyte: 64 TiB in blocks of 1 MiB.
  bat_.resize(bytes / sizeof(bat_[0]));
  for (std::uint64_t at = 0; at < bytes; at += kReadBytes) {
    FARSIDE_TRY(read_logged(regions_.bat.at + at, {reinterpret_cast<char*>(bat_.data()) + at,
                                                   std::min(kReadBytes, bytes - at)}));
  }
  return {};
}

Status Image::check_entries() const {
  const Geometry& table = *geometry_;
  for (std::uint64_t block = 0; block < table.blocks; ++block) {
    const BatEntry entry = entry_of_block(block);
    const std::uint64_t chunk = block / table.blocks_per_chunk;
    switch (entry.state()) {
      case BlockState::kNotPresent:
      case BlockState::kUndefined:
      case BlockState::kZero:
      case BlockState::kUnmapped:
      case BlockState::kFullyPresent:
        break;
      case BlockState::kPartiallyPresent:
        if (!metadata_.parent) {
          return corrupt("block " + std::to_string(block) +
                         " is partial, on a disk without parent");
        }
        if ((entry_of_bitmap(chunk).bits() & 7U) != kBitmapPresent) {
          return corrupt("block " + std::to_string(block) + " is partial, without a bitmap");
        }
        break;
      default:
        return corrupt("block " + std::to_string(block) + " is in state " +
                       std::to_string(entry.bits() & 7U));
    }
  }
  const std::uint64_t bitmaps =
      metadata_.parent ? table.chunks : (table.blocks - 1) / table.blocks_per_chunk;
  for (std::uint64_t chunk = 0; chunk < bitmaps; ++chunk) {
    const std::uint64_t state = entry_of_bitmap(chunk).bits() & 7U;
    if (state == 0 || (state == kBitmapPresent && metadata_.parent)) continue;
    return corrupt("bitmap " + std::to_string(chunk) + " is in state " + std::to_string(state));
  }
  return {};
}

Result<std::vector<Image::Stretch>> Image::stretches() const {
  std::vector<Stretch> used{{.at = 0, .bytes = kMiB},
                            {.at = regions_.bat.at, .bytes = regions_.bat.bytes},
                            {.at = regions_.metadata.at, .bytes = regions_.metadata.bytes}};
  for (const Region& region : regions_.others) {
    if (!fits(region.at, region.bytes, file_bytes_)) {
      return corrupt("a region at " + std::to_string(region.at) + " lies beyond the file's " +
                     std::to_string(file_bytes_) + " bytes");
    }
    used.push_back({.at = region.at, .bytes = region.bytes});
  }
  if (header().log_bytes != 0) used.push_back({.at = header().log_at, .bytes = header().log_bytes});
  const Geometry& table = *geometry_;
  for (std::uint64_t block = 0; block < table.blocks; ++block) {
    const BatEntry entry = entry_of_block(block);
    if (!entry.has_payload()) continue;
    // QEMU ends a fixed file where the disk ends, in the middle of the last block.
    if (!fits(entry.at(), table.bytes_of_block(block), file_bytes_)) {
      return corrupt("block " + std::to_string(block) + " at " + std::to_string(entry.at()) +
                     " lies beyond the file's " + std::to_string(file_bytes_) + " bytes");
    }
    used.push_back({.at = entry.at(), .bytes = table.block_bytes});
  }
  for (std::uint64_t chunk = 0; metadata_.parent && chunk < table.chunks; ++chunk) {
    const BatEntry entry = entry_of_bitmap(chunk);
    if ((entry.bits() & 7U) != kBitmapPresent) continue;
    if (!fits(entry.at(), kBitmapBytes, file_bytes_)) {
      return corrupt("bitmap " + std::to_string(chunk) + " at " + std::to_string(entry.at()) +
                     " lies beyond the file's " + std::to_string(file_bytes_) + " bytes");
    }
    used.push_back({.at = entry.at(), .bytes = kBitmapBytes});
  }
  std::ranges::sort(used, {}, &Stretch::at);
  for (std::size_t i = 1; i < used.size(); ++i) {
    if (used[i - 1].at + used[i - 1].bytes > used[i].at) {
      return corrupt("what lies at " + std::to_string(used[i].at) + " of the file overlaps the " +
                     std::to_string(used[i - 1].bytes) + " bytes at " +
                     std::to_string(used[i - 1].at));
    }
  }
  return used;
}

// The format forbids it.  If it were so, those who read what map() tells them would miss it.
Status Image::check_log_leaves_payload_alone() const {
  if (updates_.empty()) return {};
  std::vector<Stretch> payload;
  for (std::uint64_t block = 0; block < geometry_->blocks; ++block) {
    const BatEntry entry = entry_of_block(block);
    if (entry.has_payload()) payload.push_back({entry.at(), geometry_->block_bytes});
  }
  std::ranges::sort(payload, {}, &Stretch::at);
  for (const LogUpdate& update : updates_) {
    const auto after =
        std::ranges::lower_bound(payload, update.at + update.length(), {}, &Stretch::at);
    if (after == payload.begin()) continue;
    const Stretch& last = *std::prev(after);
    if (last.at + last.bytes > update.at) {
      return corrupt("the log changes the disk's contents, at " + std::to_string(update.at) +
                     " of the file");
    }
  }
  return {};
}

Status Image::read_logged(std::uint64_t at, std::span<char> to) {
  FARSIDE_ASSERT(fits(at, to.size(), std::max(file_bytes_, kMiB)));
  const std::uint64_t end = at + to.size();
  const std::uint64_t real = at < real_bytes_ ? std::min(real_bytes_ - at, to.size()) : 0;
  if (real != 0) FARSIDE_TRY(file_->read_at(at, to.first(real)));
  std::ranges::fill(to.subspan(real), '\0');
  for (const LogUpdate& update : updates_) {
    const std::uint64_t from = std::max(at, update.at);
    const std::uint64_t until = std::min(end, update.at + update.length());
    if (from >= until) continue;
    if (update.bytes.empty()) {
      std::memset(to.data() + (from - at), 0, until - from);
    } else {
      std::memcpy(to.data() + (from - at), update.bytes.data() + (from - update.at), until - from);
    }
  }
  return {};
}

Result<std::string*> Image::bitmap(std::uint64_t chunk) {
  ++uses_;
  if (const auto found = bitmaps_.find(chunk); found != bitmaps_.end()) {
    found->second.used = uses_;
    return &found->second.bytes;
  }
  const BatEntry entry = entry_of_bitmap(chunk);
  std::string bytes(kBitmapBytes, '\0');
  FARSIDE_TRY(read_logged(entry.at(), bytes));
  if (bitmaps_.size() >= kBitmapsKept) {
    auto oldest = bitmaps_.end();
    for (auto it = bitmaps_.begin(); it != bitmaps_.end(); ++it) {
      if (it->second.is_pinned) continue;
      if (oldest == bitmaps_.end() || it->second.used < oldest->second.used) oldest = it;
    }
    if (oldest != bitmaps_.end()) bitmaps_.erase(oldest);
  }
  Bitmap& kept = bitmaps_[chunk];
  kept = {.bytes = std::move(bytes), .used = uses_, .is_pinned = false};
  return &kept.bytes;
}

Status Image::map(std::uint64_t offset, std::uint64_t length, std::vector<Segment>& to) {
  FARSIDE_ASSERT(fits(offset, length, metadata_.disk_bytes));
  while (length > 0) {
    const std::uint64_t block = offset / geometry_->block_bytes;
    const std::uint64_t inside = offset % geometry_->block_bytes;
    const std::uint64_t part = std::min(length, geometry_->block_bytes - inside);
    const BatEntry entry = entry_of_block(block);
    switch (entry.state()) {
      case BlockState::kFullyPresent:
        add_payload(entry.at() + inside, part, to);
        break;
      case BlockState::kPartiallyPresent:
        FARSIDE_TRY(map_partial(block, inside, part, to));
        break;
      case BlockState::kNotPresent:
        add(to, {.source = metadata_.parent ? Source::kParent : Source::kZeros, .length = part});
        break;
      default:
        add(to, {.source = Source::kZeros, .length = part});
    }
    offset += part;
    length -= part;
  }
  return {};
}

Status Image::map_partial(std::uint64_t block, std::uint64_t inside, std::uint64_t length,
                          std::vector<Segment>& to) {
  FARSIDE_ASSIGN(const std::string* bits, bitmap(block / geometry_->blocks_per_chunk));
  const std::uint64_t sector_bytes = geometry_->sector_bytes;
  const std::uint64_t first = geometry_->first_bit_of(block);
  const std::uint64_t at = entry_of_block(block).at();
  const std::uint64_t end = inside + length;
  const std::uint64_t end_sector = first + (end + sector_bytes - 1) / sector_bytes;
  while (inside < end) {
    const std::uint64_t sector = first + inside / sector_bytes;
    const std::uint64_t run = end_of_run(*bits, sector, end_sector);
    const std::uint64_t until = std::min(end, (run - first) * sector_bytes);
    if (has_bit(*bits, sector)) {
      add_payload(at + inside, until - inside, to);
    } else {
      add(to, {.source = Source::kParent, .length = until - inside});
    }
    inside = until;
  }
  return {};
}

void Image::add_payload(std::uint64_t at, std::uint64_t length, std::vector<Segment>& to) const {
  // A file that the log makes longer has zeros there, and cannot be read there yet.
  const std::uint64_t real = at < real_bytes_ ? std::min(real_bytes_ - at, length) : 0;
  add(to, {.source = Source::kThisFile, .file_offset = at, .length = real});
  add(to, {.source = Source::kZeros, .length = length - real});
}

}  // namespace farside::agent::vhdx
