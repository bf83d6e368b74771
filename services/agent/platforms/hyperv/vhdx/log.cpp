#include "services/agent/platforms/hyperv/vhdx/log.h"

#include <algorithm>
#include <optional>

#include "services/agent/platforms/hyperv/vhdx/crc32c.h"
#include "services/agent/platforms/hyperv/vhdx/layout.h"

namespace farside::agent::vhdx {
namespace {

constexpr std::string_view kEntryMark = "loge";
constexpr std::string_view kZeroMark = "zero";
constexpr std::string_view kDataMark = "desc";
constexpr std::string_view kSectorMark = "data";
constexpr std::size_t kChecksumAt = 4;
constexpr std::uint64_t kEntryHeaderBytes = 64;
constexpr std::uint64_t kDescriptorBytes = 32;
constexpr std::size_t kLeadingBytes = 8;
constexpr std::size_t kTrailingBytes = 4;

// What there is to know of an entry without its updates.
struct Found {
  std::uint64_t sequence = 0;
  std::uint64_t at = 0;
  std::uint64_t bytes = 0;
  std::uint64_t tail = 0;
  std::uint64_t descriptors = 0;
  std::uint64_t flushed_file_bytes = 0;
  std::uint64_t last_file_bytes = 0;
};

std::uint64_t descriptor_sectors(std::uint64_t descriptors) {
  return round_up(kEntryHeaderBytes + descriptors * kDescriptorBytes, kLogSectorBytes) /
         kLogSectorBytes;
}

class Ring final {
 public:
  Ring(std::string_view log, const Guid& guid)
      : log_(log), guid_(guid), parsed_(log.size() / kLogSectorBytes) {}

  // The newest complete row of entries, oldest first; empty: none.
  std::vector<Found> active() {
    std::vector<Found> newest;
    std::uint64_t tail = 0;
    while (tail < log_.size()) {
      std::vector<Found> row;
      std::uint64_t head = tail;
      while (const auto& entry = entry_at(head % log_.size())) {
        if (!row.empty() && entry->sequence != row.back().sequence + 1) break;
        row.push_back(*entry);
        head += entry->bytes;
      }
      const auto begin =
          row.empty() ? row.end() : std::ranges::find(row, row.back().tail, &Found::at);
      if (begin == row.end()) {
        tail += kLogSectorBytes;
        continue;
      }
      tail = head;
      if (newest.empty() || row.back().sequence > newest.back().sequence) {
        // What lies before the last entry's tail has reached its place, and what is there now
        // may be newer.
        newest.assign(begin, row.end());
      }
    }
    return newest;
  }

  void add_updates(const Found& entry, std::vector<LogUpdate>& to) const {
    std::uint64_t data = descriptor_sectors(entry.descriptors);
    for (std::uint64_t i = 0; i < entry.descriptors; ++i) {
      const std::string_view descriptor = descriptor_of(entry.at, i);
      LogUpdate update{.at = load<std::uint64_t>(descriptor, 16)};
      if (descriptor.starts_with(kZeroMark)) {
        update.zero_bytes = load<std::uint64_t>(descriptor, 8);
        if (update.zero_bytes == 0) continue;
      } else {
        update.bytes = sector(entry.at, data++);
        update.bytes.replace(0, kLeadingBytes, descriptor.substr(8, kLeadingBytes));
        update.bytes.replace(kLogSectorBytes - kTrailingBytes, kTrailingBytes,
                             descriptor.substr(4, kTrailingBytes));
      }
      to.push_back(std::move(update));
    }
  }

 private:
  // Each place is looked at once: rows begin and go on at many of them.
  const std::optional<Found>& entry_at(std::uint64_t at) {
    auto& parsed = parsed_[at / kLogSectorBytes];
    if (!parsed) parsed = parse(at);
    return *parsed;
  }

  std::string_view sector(std::uint64_t entry, std::uint64_t number) const {
    return log_.substr((entry + number * kLogSectorBytes) % log_.size(), kLogSectorBytes);
  }
  std::string_view descriptor_of(std::uint64_t entry, std::uint64_t number) const {
    const std::uint64_t at = kEntryHeaderBytes + number * kDescriptorBytes;
    return sector(entry, at / kLogSectorBytes).substr(at % kLogSectorBytes, kDescriptorBytes);
  }

  std::optional<Found> parse(std::uint64_t at) const {
    const std::string_view first = sector(at, 0);
    if (!first.starts_with(kEntryMark)) return std::nullopt;
    const Found entry{.sequence = load<std::uint64_t>(first, 16),
                      .at = at,
                      .bytes = load<std::uint32_t>(first, 8),
                      .tail = load<std::uint32_t>(first, 12),
                      .descriptors = load<std::uint32_t>(first, 24),
                      .flushed_file_bytes = load<std::uint64_t>(first, 48),
                      .last_file_bytes = load<std::uint64_t>(first, 56)};
    if (Guid::load(first, 32) != guid_ || entry.sequence == 0 || entry.bytes == 0 ||
        entry.bytes % kLogSectorBytes != 0 || entry.bytes > log_.size() ||
        entry.tail % kLogSectorBytes != 0 || entry.tail >= log_.size() ||
        entry.flushed_file_bytes % kMiB != 0 || entry.last_file_bytes % kMiB != 0) {
      return std::nullopt;
    }
    const std::uint64_t sectors = entry.bytes / kLogSectorBytes;
    if (descriptor_sectors(entry.descriptors) > sectors) return std::nullopt;
    std::uint64_t data = descriptor_sectors(entry.descriptors);
    for (std::uint64_t i = 0; i < entry.descriptors; ++i) {
      const std::string_view descriptor = descriptor_of(at, i);
      if (load<std::uint64_t>(descriptor, 24) != entry.sequence ||
          load<std::uint64_t>(descriptor, 16) % kLogSectorBytes != 0) {
        return std::nullopt;
      }
      if (descriptor.starts_with(kZeroMark)) {
        if (load<std::uint64_t>(descriptor, 8) % kLogSectorBytes != 0) return std::nullopt;
        continue;
      }
      if (!descriptor.starts_with(kDataMark) || data == sectors) return std::nullopt;
      const std::string_view bytes = sector(at, data++);
      if (!bytes.starts_with(kSectorMark) ||
          load<std::uint32_t>(bytes, 4) != static_cast<std::uint32_t>(entry.sequence >> 32U) ||
          load<std::uint32_t>(bytes, kLogSectorBytes - 4) !=
              static_cast<std::uint32_t>(entry.sequence)) {
        return std::nullopt;
      }
    }
    // No other entry begins inside of one.  With that, checksums are taken over each sector once,
    // whatever lengths the entries claim.
    for (std::uint64_t i = 1; i < sectors; ++i) {
      if (sector(at, i).starts_with(kEntryMark)) return std::nullopt;
    }
    Crc32c sum;
    sum.add(first.substr(0, kChecksumAt)).add(std::string_view("\0\0\0\0", 4));
    sum.add(first.substr(kChecksumAt + 4));
    for (std::uint64_t i = 1; i < sectors; ++i) sum.add(sector(at, i));
    if (sum.value() != load<std::uint32_t>(first, kChecksumAt)) return std::nullopt;
    return entry;
  }

  std::string_view log_;
  Guid guid_;
  std::vector<std::optional<std::optional<Found>>> parsed_;
};

}  // namespace

Result<ActiveLog> read_log(std::string_view log, const Guid& guid) {
  if (log.empty()) return corrupt("a log of no bytes that is to be replayed");
  Ring ring(log, guid);
  const std::vector<Found> entries = ring.active();
  if (entries.empty()) return corrupt("the log is to be replayed, but has no complete entry");
  ActiveLog active{.updates = {},
                   .flushed_file_bytes = entries.back().flushed_file_bytes,
                   .last_file_bytes = entries.back().last_file_bytes};
  for (const Found& entry : entries) ring.add_updates(entry, active.updates);
  return active;
}

std::string write_log_entry(const LogEntry& entry) {
  const std::uint64_t first_data = descriptor_sectors(entry.updates.size()) * kLogSectorBytes;
  std::string bytes(first_data, '\0');
  bytes.replace(0, kEntryMark.size(), kEntryMark);
  store(bytes, 12, entry.tail);
  store(bytes, 16, entry.sequence);
  store(bytes, 24, static_cast<std::uint32_t>(entry.updates.size()));
  entry.guid.store(bytes, 32);
  store(bytes, 48, entry.flushed_file_bytes);
  store(bytes, 56, entry.last_file_bytes);
  std::size_t at = kEntryHeaderBytes;
  for (const LogUpdate& update : entry.updates) {
    store(bytes, at + 16, update.at);
    store(bytes, at + 24, entry.sequence);
    if (update.bytes.empty()) {
      bytes.replace(at, kZeroMark.size(), kZeroMark);
      store(bytes, at + 8, update.zero_bytes);
    } else {
      bytes.replace(at, kDataMark.size(), kDataMark);
      bytes.replace(at + 4, kTrailingBytes, update.bytes, kLogSectorBytes - kTrailingBytes);
      bytes.replace(at + 8, kLeadingBytes, update.bytes, 0, kLeadingBytes);
      std::string sector = update.bytes;
      sector.replace(0, kSectorMark.size(), kSectorMark);
      store(sector, 4, static_cast<std::uint32_t>(entry.sequence >> 32U));
      store(sector, kLogSectorBytes - 4, static_cast<std::uint32_t>(entry.sequence));
      bytes += sector;
    }
    at += kDescriptorBytes;
  }
  store(bytes, 8, static_cast<std::uint32_t>(bytes.size()));
  store(bytes, kChecksumAt, checksum_without(bytes, kChecksumAt));
  return bytes;
}

}  // namespace farside::agent::vhdx
