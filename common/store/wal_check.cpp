#include "common/store/wal_check.h"

#include <fmt/format.h>

#include <algorithm>
#include <cstdint>
#include <filesystem>
#include <optional>
#include <string_view>
#include <vector>

#include "common/base/crc32c.h"
#include "common/base/file.h"
#include "common/base/folder.h"

namespace farside::store {
namespace {

// RocksDB's log (its wiki: "Write Ahead Log File Format"): blocks of 32 KiB; in them records of
//   | crc 4 | length 2 | type 1 | payload |
// little-endian.  A record never crosses a block; what is left of a block and too short for a
// header is zeros.  The crc (Castagnoli, masked) is that of type and payload.
constexpr std::size_t kBlock = 32'768;
constexpr std::size_t kHeader = 7;
// A commit, of one record or several, begins with | sequence 8 | operations 4 |.  The next one has
// the sequence after its last operation.
constexpr std::size_t kBatchHeader = 12;
constexpr unsigned kFull = 1;
constexpr unsigned kFirst = 2;
constexpr unsigned kLast = 4;            // 3: in the middle.
constexpr unsigned kSetCompression = 9;  // A note to the reader, like a record.
constexpr std::uint32_t kMaskDelta = 0xa282ead8U;

std::uint64_t number_at(std::string_view bytes, std::size_t at, std::size_t length) {
  std::uint64_t value = 0;
  for (std::size_t i = length; i-- > 0;) {
    value = (value << 8U) | static_cast<unsigned char>(bytes[at + i]);
  }
  return value;
}

struct Record {
  unsigned type = 0;
  std::string_view payload;
};

std::optional<Record> record_at(std::string_view log, std::size_t at) {
  const std::size_t left = std::min(log.size() - at, kBlock - at % kBlock);
  if (left < kHeader) return std::nullopt;
  const std::size_t length = number_at(log, at + 4, 2);
  const auto type = static_cast<unsigned>(number_at(log, at + 6, 1));
  const bool is_known = (type >= kFull && type <= kLast) || type == kSetCompression;
  if (!is_known || kHeader + length > left) return std::nullopt;
  const std::uint32_t crc = Crc32c().add(log.substr(at + 6, 1 + length)).value();
  const std::uint32_t masked = ((crc >> 15U) | (crc << 17U)) + kMaskDelta;
  if (masked != number_at(log, at, 4)) return std::nullopt;
  return Record{.type = type, .payload = log.substr(at + kHeader, length)};
}

struct Scan {
  std::size_t good = 0;                // Behind it comes what is no commit; or the log's end.
  std::optional<std::uint64_t> first;  // Sequence of the first commit.
  std::uint64_t next = 0;              // What follows the last one has.
};

// Commits from the log's start on.
Scan scan(std::string_view log) {
  Scan out;
  bool is_inside = false;  // Of a commit of several records.
  std::string head;        // Of that commit.
  std::size_t at = 0;
  while (at < log.size()) {
    if (kBlock - at % kBlock < kHeader) {
      at = std::min(log.size(), (at / kBlock + 1) * kBlock);
      if (!is_inside) out.good = at;
      continue;
    }
    const auto record = record_at(log, at);
    if (!record) break;
    at += kHeader + record->payload.size();
    if (record->type != kSetCompression) {
      const bool begins = record->type == kFull || record->type == kFirst;
      if (begins == is_inside) break;
      if (begins) head.clear();
      head += record->payload.substr(0, kBatchHeader - head.size());
      is_inside = record->type != kFull && record->type != kLast;
      if (!is_inside) {
        if (head.size() < kBatchHeader) break;
        const std::uint64_t sequence = number_at(head, 0, 8);
        if (!out.first) out.first = sequence;
        out.next = sequence + number_at(head, 8, 4);
      }
    }
    if (!is_inside) out.good = at;
  }
  return out;
}

// Records may be anywhere after damage: it may have hit a length.  Only what begins a commit
// counts: of the one that a crash tore, later pieces may have reached the disk before the first.
bool has_commit_after(std::string_view log, std::size_t at) {
  for (std::size_t next = at + 1; next + kHeader <= log.size(); ++next) {
    const auto type = number_at(log, next + 6, 1);
    if ((type == kFull || type == kFirst) && record_at(log, next)) return true;
  }
  return false;
}

}  // namespace

Status check_wal(const std::string& folder) {
  std::vector<std::string> logs;
  std::error_code error;
  for (const auto& file : entries_of(folder, error)) {
    if (file.extension() == ".log") logs.push_back(file.string());
  }
  if (error && error != std::errc::no_such_file_or_directory) {
    return fail(from_errno(error.value(), "list " + folder));
  }
  std::ranges::sort(logs);  // Their numbers have leading zeros.
  std::string damaged;
  std::size_t damaged_at = 0;
  std::optional<std::uint64_t> expected;
  for (const std::string& path : logs) {
    FARSIDE_ASSIGN(const std::string log, read_file(path));
    const Scan found = scan(log);
    bool is_lost = false;
    if (found.first && !damaged.empty()) {
      // What RocksDB goes by, too: opening a store whose log is torn begins the next log where the
      // good part ends, and may be stopped before the torn one is gone.
      is_lost = found.first != expected;
      if (!is_lost) damaged.clear();
    }
    if (found.first) expected = found.next;
    if (found.good < log.size()) {
      if (damaged.empty()) {
        damaged = path;
        damaged_at = found.good;
      }
      is_lost = is_lost || has_commit_after(log, found.good);
    }
    if (!is_lost) continue;
    return fail(ErrorCode::kCorrupt,
                fmt::format("{} is damaged at byte {}, and commits follow: they would be lost",
                            damaged, damaged_at),
                "check the volume; restore the folder from a backup (a replica: disable protection "
                "of the item and enable it again)");
  }
  return {};
}

}  // namespace farside::store
