// Bytes of the index that are no schema: keys that must sort, and one small entry per block
// version, of which a large replica has tens of millions.  Numbers in keys are big-endian, so that
// byte order is number order; ~seq makes the newest version of a block come first.
//
//   column "block"    key    | disk 2 | block 4 | ~seq 8 |
//                     value  | codec 1 | segment 4 | offset 8 | stored 4 | hash 8 |
//   column "delta"    key    | seq 8 | disk 2 | block 4 |          value  empty
//   column "point"    key    | seq 8 |                             value  StoredPoint
//   column "shape"    key    | number 4 |                          value  StoredShape
//   column "dropped"  key    | seq 8 |                             value  empty
//   column "segment"  key    | number 4 |                          value  StoredSegment
//   column "pin"      key    name of the view                      value  StoredPin
//   column "damaged"  key    as in "block": a version whose payload did not match its hash
//                     value  empty; the entry's own hash is 0, which no block has
//   column "replica"  key    "replica"                             value  StoredReplica
//                     key    "verified"                            value  StoredVerified
//
// A block without an entry at or before a point is zero at that point.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>

#include "services/agent/replica_store/block.h"

namespace farside::replica {

inline constexpr std::string_view kBlocks = "block";
inline constexpr std::string_view kDeltas = "delta";
inline constexpr std::string_view kPoints = "point";
inline constexpr std::string_view kShapes = "shape";
inline constexpr std::string_view kDropped = "dropped";
inline constexpr std::string_view kSegments = "segment";
inline constexpr std::string_view kPins = "pin";
inline constexpr std::string_view kDamaged = "damaged";
inline constexpr std::string_view kReplica = "replica";
inline constexpr std::string_view kVerified = "verified";  // Key in it.

inline void put_number(std::string& out, std::uint64_t value, int bytes) {
  for (int shift = 8 * (bytes - 1); shift >= 0; shift -= 8) {
    out += static_cast<char>(static_cast<unsigned char>(value >> static_cast<unsigned>(shift)));
  }
}
inline std::uint64_t number_at(std::string_view bytes, std::size_t at, std::size_t length) {
  std::uint64_t value = 0;
  for (std::size_t i = at; i < at + length; ++i) {
    value = (value << 8U) | static_cast<unsigned char>(bytes[i]);
  }
  return value;
}

struct BlockKey {
  std::uint16_t disk = 0;
  std::uint32_t block = 0;
  std::uint64_t seq = 0;
  bool operator==(const BlockKey&) const = default;
};

struct BlockEntry {
  Codec codec = Codec::kZero;
  std::uint32_t segment = 0;  // 0: in none (zero or base).
  std::uint64_t offset = 0;   // Of the payload.
  std::uint32_t stored = 0;   // Bytes of the payload.
  std::uint64_t hash = 0;     // Of the plain bytes.
  bool operator==(const BlockEntry&) const = default;
};

inline std::string number_key(std::uint64_t value, int bytes) {
  std::string key;
  put_number(key, value, bytes);
  return key;
}
inline std::string disk_prefix(std::uint16_t disk) {
  return number_key(disk, 2);
}
inline std::string block_prefix(std::uint16_t disk, std::uint32_t block) {
  std::string key = disk_prefix(disk);
  put_number(key, block, 4);
  return key;
}
inline std::string to_key(const BlockKey& at) {
  std::string key = block_prefix(at.disk, at.block);
  put_number(key, ~at.seq, 8);
  return key;
}
inline std::optional<BlockKey> block_key_from(std::string_view key) {
  if (key.size() != 14) return std::nullopt;
  return BlockKey{.disk = static_cast<std::uint16_t>(number_at(key, 0, 2)),
                  .block = static_cast<std::uint32_t>(number_at(key, 2, 4)),
                  .seq = ~number_at(key, 6, 8)};
}
inline std::string to_member_key(const BlockKey& at) {
  std::string key = number_key(at.seq, 8);
  put_number(key, at.disk, 2);
  put_number(key, at.block, 4);
  return key;
}
inline std::optional<BlockKey> member_key_from(std::string_view key) {
  if (key.size() != 14) return std::nullopt;
  return BlockKey{.disk = static_cast<std::uint16_t>(number_at(key, 8, 2)),
                  .block = static_cast<std::uint32_t>(number_at(key, 10, 4)),
                  .seq = number_at(key, 0, 8)};
}
inline std::string to_value(const BlockEntry& entry) {
  std::string out;
  put_number(out, static_cast<std::uint64_t>(entry.codec), 1);
  put_number(out, entry.segment, 4);
  put_number(out, entry.offset, 8);
  put_number(out, entry.stored, 4);
  put_number(out, entry.hash, 8);
  return out;
}
inline std::optional<BlockEntry> entry_from(std::string_view value) {
  if (value.size() != 25) return std::nullopt;
  const std::uint64_t codec = number_at(value, 0, 1);
  if (codec < 1 || codec > 4) return std::nullopt;
  return BlockEntry{.codec = static_cast<Codec>(codec),
                    .segment = static_cast<std::uint32_t>(number_at(value, 1, 4)),
                    .offset = number_at(value, 5, 8),
                    .stored = static_cast<std::uint32_t>(number_at(value, 13, 4)),
                    .hash = number_at(value, 17, 8)};
}

}  // namespace farside::replica
