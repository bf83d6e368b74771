#include "tests/support/guest/record.h"

#include <algorithm>

namespace farside::guest {
namespace {

constexpr std::uint32_t kSectorMagic = 0x31575346;  // "FSW1"
constexpr std::string_view kHeaderMagic = "FARSIDE-WITNESS1";

// Byte offsets within a sector:
//   0 magic u32 | 4 crc u32 of all that follows | 8 run u64 | 16 seq u64 | 24 boot u64 |
//   32 previous u32 | 36 disk u16 | 38 index u16 | 40 pattern
constexpr std::size_t kPatternOffset = 40;

constexpr std::array<std::uint32_t, 256> make_crc_table() {
  std::array<std::uint32_t, 256> table{};
  for (std::uint32_t i = 0; i < table.size(); ++i) {
    std::uint32_t value = i;
    for (int bit = 0; bit < 8; ++bit) {
      value = (value & 1U) != 0 ? (value >> 1U) ^ 0x82F63B78U : value >> 1U;
    }
    table[i] = value;
  }
  return table;
}
constexpr auto kCrcTable = make_crc_table();

std::uint64_t mix(std::uint64_t value) {
  value += 0x9E3779B97F4A7C15U;
  value = (value ^ (value >> 30U)) * 0xBF58476D1CE4E5B9U;
  value = (value ^ (value >> 27U)) * 0x94D049BB133111EBU;
  return value ^ (value >> 31U);
}

void fill_pattern(std::uint64_t seed, std::span<std::byte> to) {
  for (std::size_t at = 0; at < to.size(); at += sizeof(seed)) {
    seed = mix(seed);
    std::memcpy(to.data() + at, &seed, std::min(sizeof(seed), to.size() - at));
  }
}

template <class T>
void put(std::span<std::byte> to, std::size_t at, T value) {
  std::memcpy(to.data() + at, &value, sizeof(value));
}

template <class T>
T get(std::span<const std::byte> from, std::size_t at) {
  T value{};
  std::memcpy(&value, from.data() + at, sizeof(value));
  return value;
}

// The slots are taken in the order 0, m, 2m, ... modulo their number, with m odd: every slot once.
std::uint64_t slot_of(const Header& header, std::uint64_t turn) {
  constexpr std::uint64_t kStride = 2654435761U;
  return (turn % header.slots) * kStride % header.slots;
}

}  // namespace

std::uint32_t crc32c(std::span<const std::byte> bytes) {
  std::uint32_t value = 0xFFFFFFFFU;
  for (const std::byte byte : bytes) {
    value = kCrcTable[(value ^ std::to_integer<std::uint32_t>(byte)) & 0xFFU] ^ (value >> 8U);
  }
  return ~value;
}

std::uint64_t run_from_text(std::string_view text) {
  std::uint64_t value = text.size();
  for (const char c : text) value = mix(value ^ static_cast<unsigned char>(c));
  return value;
}

void encode(const Header& header, Block& to) {
  to.fill(std::byte{0});
  std::memcpy(to.data(), kHeaderMagic.data(), kHeaderMagic.size());
  put(to, 20, header.disk);
  put(to, 24, header.run);
  put(to, 32, header.disks);
  put(to, 36, header.slots);
  put(to, 40, header.fill_mib);
  put(to, 44, header.zero_mib);
  put(to, 16, crc32c(std::span(to).subspan(20)));
}

std::optional<Header> decode_header(BlockView from) {
  if (std::memcmp(from.data(), kHeaderMagic.data(), kHeaderMagic.size()) != 0) return std::nullopt;
  if (get<std::uint32_t>(from, 16) != crc32c(from.subspan(20))) return std::nullopt;
  Header header{.run = get<std::uint64_t>(from, 24),
                .disk = get<std::uint32_t>(from, 20),
                .disks = get<std::uint32_t>(from, 32),
                .slots = get<std::uint32_t>(from, 36),
                .fill_mib = get<std::uint32_t>(from, 40),
                .zero_mib = get<std::uint32_t>(from, 44)};
  const bool slots_ok =
      header.slots > 0 && header.slots <= kSlotsMax && (header.slots & (header.slots - 1)) == 0;
  const bool disks_ok = header.disks > 0 && header.disks <= kDisksMax && header.disk < header.disks;
  if (!slots_ok || !disks_ok) return std::nullopt;
  return header;
}

void encode(const Record& record, Block& to) {
  for (std::size_t i = 0; i < kSectorsPerBlock; ++i) {
    const auto sector = std::span(to).subspan(i * kSectorBytes, kSectorBytes);
    put(sector, 0, kSectorMagic);
    put(sector, 8, record.run);
    put(sector, 16, record.seq);
    put(sector, 24, record.boot);
    put(sector, 32, record.previous);
    put(sector, 36, static_cast<std::uint16_t>(record.disk));
    put(sector, 38, static_cast<std::uint16_t>(i));
    fill_pattern(mix(record.run ^ record.boot) ^ (record.seq << 3U) ^ i,
                 sector.subspan(kPatternOffset));
    put(sector, 4, crc32c(sector.subspan(8)));
  }
}

std::optional<Sector> decode_sector(std::span<const std::byte, kSectorBytes> from) {
  if (get<std::uint32_t>(from, 0) != kSectorMagic) return std::nullopt;
  if (get<std::uint32_t>(from, 4) != crc32c(from.subspan(8))) return std::nullopt;
  return Sector{.record = {.run = get<std::uint64_t>(from, 8),
                           .seq = get<std::uint64_t>(from, 16),
                           .boot = get<std::uint64_t>(from, 24),
                           .disk = get<std::uint16_t>(from, 36),
                           .previous = get<std::uint32_t>(from, 32)},
                .index = get<std::uint16_t>(from, 38)};
}

std::optional<Record> decode_record(BlockView from) {
  std::optional<Record> record;
  for (std::size_t i = 0; i < kSectorsPerBlock; ++i) {
    const std::span<const std::byte, kSectorBytes> bytes(from.data() + i * kSectorBytes,
                                                         kSectorBytes);
    const auto sector = decode_sector(bytes);
    if (!sector || sector->index != i) return std::nullopt;
    if (record && *record != sector->record) return std::nullopt;
    record = sector->record;
  }
  return record;
}

std::uint32_t digest_of(BlockView block) {
  return crc32c(block);
}

bool is_zero(std::span<const std::byte> bytes) {
  return std::ranges::all_of(bytes, [](std::byte b) { return b == std::byte{0}; });
}

void encode_fill(std::uint64_t run, std::uint32_t disk, std::uint64_t block, Block& to) {
  fill_pattern(mix(run ^ disk) ^ (block << 8U), to);
}

std::uint32_t disk_of(const Header& header, std::uint64_t seq) {
  return static_cast<std::uint32_t>(seq % header.disks);
}

std::uint64_t offset_of(const Header& header, std::uint64_t seq) {
  return kRecordsOffset + slot_of(header, seq / header.disks) * kBlockBytes;
}

std::uint64_t latest_in_slot(const Header& header, std::uint64_t seq, std::uint64_t newest) {
  const std::uint64_t window = std::uint64_t{header.disks} * header.slots;
  const std::uint64_t first = seq % window;  // May be 0, which is no record: records start at 1.
  if (newest < first) return 0;
  return first + (newest - first) / window * window;
}

}  // namespace farside::guest
