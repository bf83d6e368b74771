#include "services/agent/platforms/hyperv/vhdx/writable_image.h"

#include <algorithm>

#include "services/agent/platforms/hyperv/vhdx/layout.h"
#include "services/agent/platforms/hyperv/vhdx/sector_bits.h"

namespace farside::agent::vhdx {
namespace {

// One sector of descriptors and these: less than half of the smallest log.
constexpr std::size_t kUpdatesPerEntry = 120;
// So much may have changed before it is logged unasked: it takes memory, a bitmap 1 MiB.
constexpr std::size_t kChangedSectorsMax = 4 * kUpdatesPerEntry;
constexpr std::size_t kPinnedBitmapsMax = 32;
// The file grows by this at least: on a share that is a round trip.
constexpr std::uint64_t kGrowBytes = 16 * kMiB;
constexpr std::uint64_t kEntriesPerSector = kLogSectorBytes / 8;

const std::string& zeros() {
  static const std::string kZeros(kMiB, '\0');
  return kZeros;
}

}  // namespace

Result<std::unique_ptr<WritableImage>> WritableImage::open(std::unique_ptr<hyperv::ByteFile> file,
                                                           HasNoChildren /*said*/, Random& random) {
  std::unique_ptr<WritableImage> image(new WritableImage(std::move(file), random));
  FARSIDE_TRY(image->load());
  if (image->header().log_bytes == 0) return unsupported("a VHDX file without a log, to write to");
  if (!image->header().log.is_zero()) FARSIDE_TRY(image->replay());
  return image;
}

// A crash in here leaves the log as it was, to be replayed again.
Status WritableImage::replay() {
  Header header = current_.header;
  header.file_write = Guid::random(random_);
  FARSIDE_TRY(write_one_header(header));
  const std::uint64_t old_bytes = real_bytes_;
  if (file_bytes_ > real_bytes_) FARSIDE_TRY(file_->truncate(file_bytes_));
  real_bytes_ = file_bytes_;
  for (auto update = updates_.begin(); update != updates_.end(); ++update) {
    if (!update->bytes.empty()) {
      FARSIDE_TRY(file_->write_at(update->at, update->bytes));
      continue;
    }
    // What the file has just grown by is zeros, but for what was written since; a log may speak of
    // more of them than could ever be written.
    const std::uint64_t end = update->at + update->zero_bytes;
    if (update->at < old_bytes) {
      FARSIDE_TRY(write_zeros(update->at, std::min(end, old_bytes) - update->at));
    }
    for (auto before = updates_.begin(); before != update; ++before) {
      if (before->bytes.empty() ||
          before->at < std::max(update->at, old_bytes / kLogSectorBytes * kLogSectorBytes) ||
          before->at >= end) {
        continue;
      }
      FARSIDE_TRY(write_zeros(before->at, before->bytes.size()));
    }
  }
  updates_.clear();
  FARSIDE_TRY(file_->flush());
  header = current_.header;
  header.log = {};
  return write_headers(header);
}

// Before the first change of an opening.
Status WritableImage::begin() {
  if (has_begun_) return {};
  Header header = current_.header;
  header.file_write = Guid::random(random_);
  header.data_write = Guid::random(random_);
  FARSIDE_TRY(write_headers(header));
  FARSIDE_ASSIGN(const std::vector<Stretch> used, stretches());
  // Log entries tell the file's length in MiB, which must be true; a crash may have left space at
  // the end, and QEMU leaves a part of a last block.
  const std::uint64_t end =
      std::max(round_up(real_bytes_, kMiB), used.back().at + used.back().bytes);
  if (end != real_bytes_) FARSIDE_TRY(file_->truncate(end));
  real_bytes_ = end;
  file_bytes_ = end;
  space_ = FreeSpace(end);
  std::uint64_t at = 0;
  for (const Stretch& stretch : used) {
    space_.give(at, stretch.at - at);
    at = stretch.at + stretch.bytes;
  }
  space_.give(at, end - at);
  has_begun_ = true;
  return {};
}

Status WritableImage::check_request(std::uint64_t offset, std::uint64_t length) const {
  if (is_broken_ || is_closed_) {
    return fail(ErrorCode::kConflict,
                is_closed_ ? "the VHDX file is closed" : "an earlier write to the VHDX file failed",
                "open it again");
  }
  if (!fits(offset, length, disk_bytes()) || offset % geometry_->sector_bytes != 0 ||
      length % geometry_->sector_bytes != 0) {
    return fail(ErrorCode::kInvalidArgument,
                std::to_string(length) + " bytes at " + std::to_string(offset) + " of a disk of " +
                    std::to_string(disk_bytes()) + " in sectors of " +
                    std::to_string(geometry_->sector_bytes),
                "write whole sectors of the disk");
  }
  return {};
}

Status WritableImage::guard(Status done) {
  if (!done) is_broken_ = true;
  return done;
}

// Over the header that is not current.
Status WritableImage::write_one_header(Header header) {
  const int place = 1 - current_.place;
  header.sequence = current_.header.sequence + 1;
  FARSIDE_TRY(file_->write_at(kHeaderAt[place], write_header(header)));
  FARSIDE_TRY(file_->flush());
  current_ = {.header = header, .place = place};
  return {};
}

Status WritableImage::write_headers(Header header) {
  FARSIDE_TRY(write_one_header(header));
  return write_one_header(header);
}

Status WritableImage::write_at(std::uint64_t offset, std::string_view bytes) {
  FARSIDE_TRY(check_request(offset, bytes.size()));
  if (bytes.empty()) return {};
  FARSIDE_TRY(guard(begin()));
  has_unflushed_ = true;
  while (!bytes.empty()) {
    const std::uint64_t inside = offset % geometry_->block_bytes;
    const std::uint64_t part = std::min(bytes.size(), geometry_->block_bytes - inside);
    FARSIDE_TRY(guard(write_block(offset / geometry_->block_bytes, inside, bytes.substr(0, part))));
    FARSIDE_TRY(commit_if_much());
    offset += part;
    bytes.remove_prefix(part);
  }
  return {};
}

Status WritableImage::zero(std::uint64_t offset, std::uint64_t length) {
  FARSIDE_TRY(check_request(offset, length));
  if (length == 0) return {};
  FARSIDE_TRY(guard(begin()));
  has_unflushed_ = true;
  while (length > 0) {
    const std::uint64_t inside = offset % geometry_->block_bytes;
    const std::uint64_t part = std::min(length, geometry_->block_bytes - inside);
    FARSIDE_TRY(guard(zero_block(offset / geometry_->block_bytes, inside, part)));
    FARSIDE_TRY(commit_if_much());
    offset += part;
    length -= part;
  }
  return {};
}

Status WritableImage::write_block(std::uint64_t block, std::uint64_t inside,
                                  std::string_view bytes) {
  const BatEntry entry = entry_of_block(block);
  if (!entry.has_payload()) return write_new_block(block, inside, bytes);
  FARSIDE_TRY(file_->write_at(entry.at() + inside, bytes));
  if (entry.state() == BlockState::kFullyPresent) return {};
  if (bytes.size() == geometry_->bytes_of_block(block)) {
    set_entry(geometry_->entry_of_block(block), {BlockState::kFullyPresent, entry.at()});
    return {};
  }
  return mark_present(block, inside, bytes.size(), false);
}

Status WritableImage::write_new_block(std::uint64_t block, std::uint64_t inside,
                                      std::string_view bytes) {
  const std::uint64_t index = geometry_->entry_of_block(block);
  const bool parent_has_rest = metadata_.parent &&
                               entry_of_block(block).state() == BlockState::kNotPresent &&
                               bytes.size() != geometry_->bytes_of_block(block);
  FARSIDE_ASSIGN(const FreeSpace::Place place, take(geometry_->block_bytes));
  if (!parent_has_rest && !place.is_zeros) {
    FARSIDE_TRY(write_zeros(place.at, inside));
    const std::uint64_t end = inside + bytes.size();
    FARSIDE_TRY(write_zeros(place.at + end, geometry_->block_bytes - end));
  }
  FARSIDE_TRY(file_->write_at(place.at + inside, bytes));
  if (parent_has_rest) {
    FARSIDE_TRY(need_bitmap(block / geometry_->blocks_per_chunk));
    set_entry(index, {BlockState::kPartiallyPresent, place.at});
    return mark_present(block, inside, bytes.size(), true);
  }
  set_entry(index, {BlockState::kFullyPresent, place.at});
  return {};
}

Status WritableImage::zero_block(std::uint64_t block, std::uint64_t inside, std::uint64_t length) {
  const BatEntry entry = entry_of_block(block);
  const bool is_whole = length == geometry_->bytes_of_block(block);
  const bool from_parent = entry.state() == BlockState::kNotPresent && metadata_.parent;
  if (entry.state() == BlockState::kZero) return {};
  // Blocks without payload and parent read as zeros already, but only kZero obliges all readers.
  if ((!entry.has_payload() && !from_parent) || (is_whole && !metadata_.leave_allocated)) {
    if (entry.has_payload()) {
      released_.push_back({.at = entry.at(), .bytes = geometry_->block_bytes});
    }
    set_entry(geometry_->entry_of_block(block), {BlockState::kZero, 0});
    return {};
  }
  while (length > 0) {
    const std::uint64_t part = std::min<std::uint64_t>(length, zeros().size());
    FARSIDE_TRY(write_block(block, inside, std::string_view(zeros()).substr(0, part)));
    inside += part;
    length -= part;
  }
  return {};
}

Status WritableImage::write_zeros(std::uint64_t file_offset, std::uint64_t length) {
  while (length > 0) {
    const std::uint64_t part = std::min<std::uint64_t>(length, zeros().size());
    FARSIDE_TRY(file_->write_at(file_offset, std::string_view(zeros()).substr(0, part)));
    file_offset += part;
    length -= part;
  }
  return {};
}

Result<FreeSpace::Place> WritableImage::take(std::uint64_t bytes) {
  const FreeSpace::Place place = space_.take(bytes);
  if (space_.end() > real_bytes_) {
    const std::uint64_t end = std::max(space_.end(), real_bytes_ + kGrowBytes);
    FARSIDE_TRY(file_->truncate(end));
    real_bytes_ = end;
    file_bytes_ = end;
  }
  return place;
}

void WritableImage::set_entry(std::uint64_t index, BatEntry entry) {
  bat_[index] = entry.bits();
  changed_bat_.insert(index / kEntriesPerSector);
}

// A new bitmap is written like contents, as nothing refers to it: no need to log a megabyte.
Status WritableImage::need_bitmap(std::uint64_t chunk) {
  if ((entry_of_bitmap(chunk).bits() & 7U) == kBitmapPresent) return {};
  FARSIDE_ASSIGN(const FreeSpace::Place place, take(kBitmapBytes));
  if (!place.is_zeros) FARSIDE_TRY(write_zeros(place.at, kBitmapBytes));
  bat_[geometry_->entry_of_bitmap(chunk)] = place.at | kBitmapPresent;
  changed_bat_.insert(geometry_->entry_of_bitmap(chunk) / kEntriesPerSector);
  return {};
}

// `is_first`: the block had no bits before, whatever the bitmap says: those of a block that is not
// partial have no meaning.
Status WritableImage::mark_present(std::uint64_t block, std::uint64_t inside, std::uint64_t length,
                                   bool is_first) {
  const std::uint64_t chunk = block / geometry_->blocks_per_chunk;
  FARSIDE_ASSIGN(std::string * bits, bitmap(chunk));
  const std::uint64_t sector = geometry_->sector_bytes;
  const std::uint64_t first = geometry_->first_bit_of(block);
  const std::uint64_t end = first + geometry_->bytes_of_block(block) / sector;
  std::uint64_t changed = first + inside / sector;
  std::uint64_t changed_end = changed + length / sector;
  if (!is_first && has_bit(*bits, changed) &&
      end_of_run(*bits, changed, changed_end) == changed_end) {
    return {};  // Written over: nothing to log.
  }
  if (is_first) set_bits(*bits, first, first + geometry_->block_bytes / sector, false);
  set_bits(*bits, changed, changed_end, true);
  if (has_bit(*bits, first) && end_of_run(*bits, first, end) == end) {
    set_entry(geometry_->entry_of_block(block),
              {BlockState::kFullyPresent, entry_of_block(block).at()});
  }
  if (is_first) {
    changed = first;
    changed_end = first + geometry_->block_bytes / sector;
  }
  constexpr std::uint64_t kBitsPerSector = kLogSectorBytes * 8;
  for (std::uint64_t page = changed / kBitsPerSector; page <= (changed_end - 1) / kBitsPerSector;
       ++page) {
    changed_bitmaps_.emplace(chunk, page);
  }
  bitmaps_[chunk].is_pinned = true;
  pinned_.insert(chunk);
  return {};
}

Status WritableImage::commit_if_much() {
  if (changed_bat_.size() + changed_bitmaps_.size() <= kChangedSectorsMax &&
      pinned_.size() <= kPinnedBitmapsMax) {
    return {};
  }
  return guard(commit());
}

// In an order in which they may be made one after the other: bits have no meaning before their
// block is partial, so bitmaps come first; and a bitmap's entry stands behind those of its blocks,
// so the table goes from its end to its beginning.
std::vector<LogUpdate> WritableImage::pending_updates() {
  std::vector<LogUpdate> updates;
  for (const auto& [chunk, page] : changed_bitmaps_) {
    const std::uint64_t inside = page * kLogSectorBytes;
    updates.push_back({.at = entry_of_bitmap(chunk).at() + inside,
                       .bytes = bitmaps_[chunk].bytes.substr(inside, kLogSectorBytes)});
  }
  for (auto page = changed_bat_.rbegin(); page != changed_bat_.rend(); ++page) {
    const std::uint64_t inside = *page * kLogSectorBytes;
    updates.push_back({.at = regions_.bat.at + inside,
                       .bytes = std::string(reinterpret_cast<const char*>(bat_.data()) + inside,
                                            kLogSectorBytes)});
  }
  return updates;
}

Status WritableImage::commit() {
  FARSIDE_TRY(file_->flush());
  has_unflushed_ = false;
  const std::vector<LogUpdate> updates = pending_updates();
  if (updates.empty()) return {};
  FARSIDE_TRY(commit_updates(updates));
  changed_bat_.clear();
  changed_bitmaps_.clear();
  for (const std::uint64_t chunk : pinned_) bitmaps_[chunk].is_pinned = false;
  pinned_.clear();
  for (const Stretch& stretch : released_) space_.give(stretch.at, stretch.bytes);
  released_.clear();
  return {};
}

Status WritableImage::commit_updates(const std::vector<LogUpdate>& updates) {
  const Guid guid = log_.is_zero() ? Guid::random(random_) : log_;
  const std::uint64_t half = header().log_bytes / 2;
  for (std::size_t i = 0; i < updates.size(); i += kUpdatesPerEntry) {
    const std::size_t end = std::min(updates.size(), i + kUpdatesPerEntry);
    if (i != 0) FARSIDE_TRY(file_->flush());  // The last entry's, before this one replaces it.
    const std::uint64_t sequence = log_sequence_ + 1;
    const std::uint64_t at = sequence % 2 * half;
    const auto first = updates.begin() + static_cast<std::ptrdiff_t>(i);
    const auto last = updates.begin() + static_cast<std::ptrdiff_t>(end);
    const LogEntry entry{.sequence = sequence,
                         .tail = static_cast<std::uint32_t>(at),
                         .guid = guid,
                         .flushed_file_bytes = real_bytes_,
                         .last_file_bytes = real_bytes_,
                         .updates = {first, last}};
    FARSIDE_TRY(file_->write_at(header().log_at + at, write_log_entry(entry)));
    FARSIDE_TRY(file_->flush());
    log_sequence_ = sequence;
    if (log_.is_zero()) {
      // Only now: a header that names a log without a whole entry is a corrupt file.  Until then
      // the log counts as empty, whatever is in it.
      Header header = current_.header;
      header.log = guid;
      FARSIDE_TRY(write_headers(header));
      log_ = guid;
    }
    for (auto update = first; update != last; ++update) {
      FARSIDE_TRY(file_->write_at(update->at, update->bytes));
    }
    has_unflushed_ = true;
  }
  return {};
}

Status WritableImage::flush() {
  FARSIDE_TRY(check_request(0, 0));
  if (!has_begun_) return {};
  return guard(commit());
}

Status WritableImage::close() {
  if (is_closed_) return {};
  FARSIDE_TRY(flush());
  is_closed_ = true;
  if (!has_begun_) return {};
  if (has_unflushed_) FARSIDE_TRY(guard(file_->flush()));
  if (!log_.is_zero()) {
    Header header = current_.header;
    header.log = {};
    FARSIDE_TRY(guard(write_headers(header)));
    log_ = {};
  }
  FARSIDE_ASSIGN(const std::vector<Stretch> used, stretches());
  const std::uint64_t end = used.back().at + used.back().bytes;
  if (end < real_bytes_) {
    FARSIDE_TRY(guard(file_->truncate(end)));
    FARSIDE_TRY(guard(file_->flush()));
    real_bytes_ = end;
    file_bytes_ = end;
  }
  return {};
}

}  // namespace farside::agent::vhdx
