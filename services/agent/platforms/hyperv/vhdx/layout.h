// What a VHDX file is made of: sizes, places and marks that several parts of this folder share,
// and the little-endian numbers in it.
//
//   0          64 KiB    128 KiB   192 KiB    256 KiB   1 MiB
//   | file id  | header  | header  | regions  | regions | log, metadata, BAT, blocks: each at a
//   |          |         |         |          |  (copy) | multiple of 1 MiB, in any order
//
// Source: [MS-VHDX] 2.1-2.6.
#pragma once

#include <bit>
#include <cstdint>
#include <cstring>
#include <string>
#include <string_view>

#include "common/base/result.h"

namespace farside::agent::vhdx {

constexpr std::uint64_t kKiB = 1024;
constexpr std::uint64_t kMiB = 1024 * kKiB;
constexpr std::uint64_t kTiB = kMiB * kMiB;

constexpr std::string_view kFileMark = "vhdxfile";
constexpr std::uint64_t kFileMarkBytes = 64 * kKiB;
constexpr std::uint64_t kHeaderAt[2] = {64 * kKiB, 128 * kKiB};
constexpr std::uint64_t kHeaderBytes = 4 * kKiB;
constexpr std::uint64_t kRegionTableAt[2] = {192 * kKiB, 256 * kKiB};
constexpr std::uint64_t kRegionTableBytes = 64 * kKiB;
constexpr std::uint64_t kLogSectorBytes = 4 * kKiB;
constexpr std::uint64_t kMetadataTableBytes = 64 * kKiB;
constexpr std::uint64_t kBitmapBytes = kMiB;                   // One sector bitmap block.
constexpr std::uint64_t kSectorsPerBitmap = kBitmapBytes * 8;  // One chunk.
constexpr std::uint64_t kDiskBytesMax = 64 * kTiB;
constexpr std::uint64_t kFileBytesMax = 2 * kDiskBytesMax;  // Beyond, an offset is taken for noise.
constexpr std::uint32_t kBlockBytesMin = static_cast<std::uint32_t>(kMiB);
constexpr std::uint32_t kBlockBytesMax = 256U << 20U;

static_assert(std::endian::native == std::endian::little, "numbers are copied as they lie");

// Precondition: at + sizeof(T) <= bytes.size().
template <class T>
T load(std::string_view bytes, std::size_t at) {
  T value{};
  std::memcpy(&value, bytes.data() + at, sizeof(T));
  return value;
}

template <class T>
void store(std::string& bytes, std::size_t at, T value) {
  std::memcpy(bytes.data() + at, &value, sizeof(T));
}

constexpr std::uint64_t round_up(std::uint64_t value, std::uint64_t to) {
  return (value + to - 1) / to * to;
}

// Whether [offset, offset + bytes) lies in [0, end).
constexpr bool fits(std::uint64_t offset, std::uint64_t bytes, std::uint64_t end) {
  return offset <= end && bytes <= end - offset;
}

inline std::unexpected<Error> corrupt(std::string what) {
  return fail(ErrorCode::kCorrupt, std::move(what),
              "check the file on its host with Test-VHD, or take it from a backup");
}

inline std::unexpected<Error> unsupported(std::string what) {
  return fail(ErrorCode::kUnsupported, std::move(what),
              "convert the disk on its host with Convert-VHD");
}

}  // namespace farside::agent::vhdx
