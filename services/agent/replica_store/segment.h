// A segment: an append-only file of block payloads.  The index says where each is; nevertheless
// every record tells what it is, so that a segment can be checked, or salvaged, on its own.
//
//   file    | "FARSIDE SEGMENT\n" 16 | record | record | ...
//
//   record  |  0  magic "FSB1"    4 |  4  codec   1 |  5  zero         1 |  6  disk   2 |
//           |  8  block           4 | 12  stored  4 | 16  plain length 4 | 20  check  4 |
//           | 24  seq             8 | 32  hash of the plain bytes, BlockHash 8 |
//           | 40  payload, `stored` bytes                                  |
//
// Numbers are big-endian.  `check`: low half of the XXH3 of the 40 header bytes with check = 0.
// A crash may leave anything after the last record that the index names; nobody appends there: a
// new start opens a new segment.
//
// Owns: its file.  Thread: one.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>

#include "common/base/file.h"
#include "common/base/result.h"
#include "services/agent/replica_store/block_hash.h"
#include "services/agent/replica_store/layout.h"

namespace farside::replica {

inline constexpr std::string_view kSegmentMagic = "FARSIDE SEGMENT\n";
inline constexpr std::size_t kRecordHeaderBytes = 40;

// Of the file that is called exactly so; empty: no segment is.
std::optional<std::uint32_t> segment_number(std::string_view file_name);
std::string segment_path(const std::string& folder, std::uint32_t number);

class SegmentWriter final {
 public:
  SegmentWriter() = default;
  // The file must not exist.  Errors: those of File.
  static Result<SegmentWriter> create(const std::string& folder, std::uint32_t number);

  // Returns where the payload lies.  After an error the segment is as before.
  Result<BlockEntry> append(const BlockKey& key, Codec codec, std::string_view payload,
                            std::uint32_t plain_length, std::uint64_t hash);

  // Hands out the file for somebody to sync; from here on what was appended counts as synced.
  Result<File> take_dirty();
  bool is_dirty() const { return dirty_; }

  bool is_open() const { return file_.is_open(); }
  std::uint32_t number() const { return number_; }
  std::uint64_t bytes() const { return bytes_; }

 private:
  File file_;
  std::uint32_t number_ = 0;
  std::uint64_t bytes_ = 0;
  bool dirty_ = false;
};

struct SegmentCheck {
  std::uint64_t records = 0;
  std::uint64_t reclaimed = 0;   // Of them, whose payload was given back: its whole pages are zero.
  std::uint64_t bytes = 0;       // Up to the end of the last good record.
  std::uint64_t file_bytes = 0;  // More than `bytes`: a torn or damaged tail.
  std::string problem;  // What is wrong with the record at `bytes`; empty at the file's end.
};

// Walks all records and verifies every payload against its hash.  Errors: those of File, and
// kCorrupt if it is no segment at all.
Result<SegmentCheck> check_segment(const std::string& path, const BlockHash& hash = {});

}  // namespace farside::replica
