// What the witness guest writes on its disks, and how to recognise it.
//
// A disk, in blocks of 4 KiB:
//
//   offset 0     1 MiB                      + slots * 4 KiB       + fill_mib      + zero_mib
//   +--------+---+--------------------------+---------------------+---------------+
//   | header |   | records, cyclic          | pseudo-random fill  | written zeros |
//   +--------+---+--------------------------+---------------------+---------------+
//
// Record n (1, 2, 3, ...) lives on disk n mod disks.  There it takes the slots in a permuted order,
// so that consecutive writes are scattered, and overwrites what was there `slots` turns ago.  Each
// record carries the digest of its predecessor: records of two different histories never form one
// chain.  Each 512-byte sector checks itself, so that a torn record can be told from a wrong one.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <optional>
#include <span>
#include <string>
#include <string_view>

namespace farside::guest {

inline constexpr std::size_t kSectorBytes = 512;
inline constexpr std::size_t kBlockBytes = 4096;
inline constexpr std::size_t kSectorsPerBlock = kBlockBytes / kSectorBytes;
inline constexpr std::uint64_t kRecordsOffset = 1U << 20U;
inline constexpr std::uint32_t kDisksMax = 16;
inline constexpr std::uint32_t kSlotsMax = 1U << 20U;

using Block = std::array<std::byte, kBlockBytes>;
using BlockView = std::span<const std::byte, kBlockBytes>;

// The first block of every disk.  Written last when a disk is prepared: its presence says that the
// fill behind it is complete.
struct Header {
  std::uint64_t run = 0;  // Which history this disk belongs to.
  std::uint32_t disk = 0;
  std::uint32_t disks = 0;
  std::uint32_t slots = 0;  // Records kept on each disk; a power of two.
  std::uint32_t fill_mib = 0;
  std::uint32_t zero_mib = 0;

  bool operator==(const Header&) const = default;

  std::uint64_t fill_offset() const { return kRecordsOffset + slots * std::uint64_t{kBlockBytes}; }
  std::uint64_t zero_offset() const { return fill_offset() + (std::uint64_t{fill_mib} << 20U); }
  std::uint64_t end() const { return zero_offset() + (std::uint64_t{zero_mib} << 20U); }
};

struct Record {
  std::uint64_t run = 0;
  std::uint64_t seq = 0;
  std::uint64_t boot = 0;  // Random; tells apart who wrote it if two guests ever ran at once.
  std::uint32_t disk = 0;
  std::uint32_t previous = 0;  // digest_of() record seq - 1.

  bool operator==(const Record&) const = default;
};

// One sector of a record, whatever its neighbours hold.
struct Sector {
  Record record;
  std::uint32_t index = 0;
};

std::uint32_t crc32c(std::span<const std::byte> bytes);
std::uint64_t run_from_text(std::string_view text);

void encode(const Header& header, Block& to);
std::optional<Header> decode_header(BlockView from);

void encode(const Record& record, Block& to);
std::optional<Record> decode_record(BlockView from);  // Empty: torn, corrupt or never written.
std::optional<Sector> decode_sector(std::span<const std::byte, kSectorBytes> from);
std::uint32_t digest_of(BlockView block);
bool is_zero(std::span<const std::byte> bytes);

void encode_fill(std::uint64_t run, std::uint32_t disk, std::uint64_t block, Block& to);

// Where record `seq` goes.
std::uint32_t disk_of(const Header& header, std::uint64_t seq);
std::uint64_t offset_of(const Header& header, std::uint64_t seq);

// The newest record not after `newest` that belongs into the same slot as `seq`; 0 = none.
std::uint64_t latest_in_slot(const Header& header, std::uint64_t seq, std::uint64_t newest);

}  // namespace farside::guest
