#include "common/store/wal_check.h"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <bit>
#include <cstdint>
#include <cstring>
#include <filesystem>
#include <optional>
#include <string_view>
#include <vector>

#include "common/base/file.h"

namespace farside::store {
namespace {

// RocksDB's log (its wiki: "Write Ahead Log File Format"): blocks of 32 KiB; in them records of
//   | crc 4 | length 2 | type 1 | payload |   little-endian; a record never crosses a block; what
//   is
// left of a block and too short for a header is zeros.  The crc (Castagnoli, masked) is that of
// type and payload.
constexpr std::size_t kBlock = 32'768;
constexpr std::size_t kHeader = 7;
constexpr unsigned kFull = 1;
constexpr unsigned kFirst = 2;
constexpr unsigned kLast = 4;            // 3: in the middle.
constexpr unsigned kSetCompression = 9;  // A note to the reader, like a record.
constexpr std::uint32_t kPolynomial = 0x82f63b78U;
constexpr std::uint32_t kMaskDelta = 0xa282ead8U;

constexpr auto kTables = [] {
  std::array<std::array<std::uint32_t, 256>, 8> out{};
  for (std::uint32_t i = 0; i < 256; ++i) {
    std::uint32_t crc = i;
    for (int bit = 0; bit < 8; ++bit) crc = (crc >> 1U) ^ ((crc & 1U) != 0 ? kPolynomial : 0);
    out[0][i] = crc;
  }
  for (std::size_t t = 1; t < 8; ++t) {
    for (std::size_t i = 0; i < 256; ++i) {
      out[t][i] = (out[t - 1][i] >> 8U) ^ out[0][out[t - 1][i] & 0xffU];
    }
  }
  return out;
}();

std::uint32_t crc_of(std::string_view bytes) {
  std::uint32_t crc = ~0U;
  while (bytes.size() >= 8) {
    std::uint64_t word = 0;
    std::memcpy(&word, bytes.data(), 8);
    if constexpr (std::endian::native == std::endian::big) word = __builtin_bswap64(word);
    word ^= crc;
    crc = 0;
    for (unsigned i = 0; i < 8; ++i) crc ^= kTables[7 - i][(word >> (8 * i)) & 0xffU];
    bytes.remove_prefix(8);
  }
  for (const char c : bytes) {
    crc = (crc >> 8U) ^ kTables[0][(crc ^ static_cast<unsigned char>(c)) & 0xffU];
  }
  return ~crc;
}

std::uint32_t number_at(std::string_view bytes, std::size_t at, std::size_t length) {
  std::uint32_t value = 0;
  for (std::size_t i = length; i-- > 0;) {
    value = (value << 8U) | static_cast<unsigned char>(bytes[at + i]);
  }
  return value;
}

// Bytes of the good record at `at`, header included.
std::optional<std::size_t> record_at(std::string_view log, std::size_t at) {
  const std::size_t left = std::min(log.size() - at, kBlock - at % kBlock);
  if (left < kHeader) return std::nullopt;
  const std::size_t length = number_at(log, at + 4, 2);
  const unsigned type = number_at(log, at + 6, 1);
  const bool is_known = (type >= kFull && type <= kLast) || type == kSetCompression;
  if (!is_known || kHeader + length > left) return std::nullopt;
  const std::uint32_t crc = crc_of(log.substr(at + 6, 1 + length));
  const std::uint32_t masked = ((crc >> 15U) | (crc << 17U)) + kMaskDelta;
  if (masked != number_at(log, at, 4)) return std::nullopt;
  return kHeader + length;
}

// Where the first thing that is no record lies; the log's end: nowhere.
std::size_t good_until(std::string_view log) {
  std::size_t at = 0;
  while (at < log.size()) {
    if (kBlock - at % kBlock < kHeader) {
      at = std::min(log.size(), (at / kBlock + 1) * kBlock);
      continue;
    }
    const auto bytes = record_at(log, at);
    if (!bytes) return at;
    at += *bytes;
  }
  return at;
}

// Records may be anywhere after damage: it may have hit a length.  Only what begins a commit
// counts: of the one that a crash tore, later pieces may have reached the disk before the first.
bool has_commit_after(std::string_view log, std::size_t at) {
  for (std::size_t next = at + 1; next + kHeader <= log.size(); ++next) {
    const unsigned type = number_at(log, next + 6, 1);
    if ((type == kFull || type == kFirst) && record_at(log, next)) return true;
  }
  return false;
}

}  // namespace

Status check_wal(const std::string& folder) {
  std::vector<std::string> logs;
  std::error_code error;
  for (const auto& file : std::filesystem::directory_iterator(folder, error)) {
    if (file.path().extension() == ".log") logs.push_back(file.path().string());
  }
  std::ranges::sort(logs);  // Their numbers have leading zeros.
  std::string damaged;
  std::size_t damaged_at = 0;
  for (const std::string& path : logs) {
    FARSIDE_ASSIGN(const std::string log, read_file(path));
    const std::size_t good = good_until(log);
    bool goes_on = !damaged.empty() && good > 0;
    if (good < log.size()) {
      if (damaged.empty()) {
        damaged = path;
        damaged_at = good;
      }
      goes_on = goes_on || has_commit_after(log, good);
    }
    if (!goes_on) continue;
    return fail(ErrorCode::kCorrupt,
                fmt::format("{} is damaged at byte {}, and commits follow: they would be lost",
                            damaged, damaged_at),
                "check the volume; restore the folder from a backup (a replica: disable protection "
                "of the item and enable it again)");
  }
  return {};
}

}  // namespace farside::store
