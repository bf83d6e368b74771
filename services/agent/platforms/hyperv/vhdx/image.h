// One open VHDX file, to read: fixed, dynamic, or the child of a differencing pair (see Chain).
// What its log holds is taken into account: read-only in memory, the file stays as it is.
//
// Owns: the file.  Thread: one at a time.
// Invariant: no two of the log, the regions, the blocks and the bitmaps overlap, and all lie within
// the file; so whoever reads what map() tells reads nothing else.
#pragma once

#include <cstdint>
#include <map>
#include <memory>
#include <string>
#include <vector>

#include "common/base/result.h"
#include "services/agent/platforms/hyperv/byte_file.h"
#include "services/agent/platforms/hyperv/vhdx/bat.h"
#include "services/agent/platforms/hyperv/vhdx/header.h"
#include "services/agent/platforms/hyperv/vhdx/log.h"
#include "services/agent/platforms/hyperv/vhdx/metadata.h"
#include "services/agent/platforms/hyperv/vhdx/region_table.h"

namespace farside::agent::vhdx {

enum class Source : std::uint8_t { kThisFile, kZeros, kParent };

// The next `length` bytes of the disk.
struct Segment {
  Source source = Source::kZeros;
  std::uint64_t file_offset = 0;  // Of kThisFile.
  std::uint64_t length = 0;

  bool operator==(const Segment&) const = default;
};

class Image {
 public:
  // Errors: kCorrupt, kUnsupported, and those of the file.
  static Result<std::unique_ptr<Image>> open(std::unique_ptr<hyperv::ByteFile> file);
  virtual ~Image() = default;
  Image(const Image&) = delete;
  Image& operator=(const Image&) = delete;

  const Metadata& metadata() const { return metadata_; }
  const Header& header() const { return current_.header; }
  std::uint64_t disk_bytes() const { return metadata_.disk_bytes; }
  hyperv::ByteFile& file() { return *file_; }

  // Adds to `to` where the bytes [offset, offset + length) of the disk are, in order and without
  // gaps.  Reads nothing of the disk's contents, but maybe sector bitmaps.
  // Precondition: the range lies on the disk.  Errors: those of the file.
  Status map(std::uint64_t offset, std::uint64_t length, std::vector<Segment>& to);

 protected:
  // A stretch of the file that something has: [at, at + bytes).
  struct Stretch {
    std::uint64_t at = 0;
    std::uint64_t bytes = 0;
  };

  explicit Image(std::unique_ptr<hyperv::ByteFile> file) : file_(std::move(file)) {}

  Status load();
  // Reads metadata, that is: what the log changed, as changed.
  Status read_logged(std::uint64_t at, std::span<char> to);
  // All stretches that are in use, by place.  Errors: kCorrupt (two overlap, or one lies outside).
  Result<std::vector<Stretch>> stretches() const;
  // The sector bitmap of a chunk, which has one.  Valid until the next call.
  Result<std::string*> bitmap(std::uint64_t chunk);
  BatEntry entry_of_block(std::uint64_t block) const {
    return BatEntry(bat_[geometry_->entry_of_block(block)]);
  }
  BatEntry entry_of_bitmap(std::uint64_t chunk) const {
    return BatEntry(bat_[geometry_->entry_of_bitmap(chunk)]);
  }

  std::unique_ptr<hyperv::ByteFile> file_;
  CurrentHeader current_;
  RegionTable regions_;
  Metadata metadata_;
  std::unique_ptr<Geometry> geometry_;
  std::vector<std::uint64_t> bat_;  // Whole log sectors, so maybe a little longer than needed.
  std::uint64_t real_bytes_ = 0;    // Of the file.
  std::uint64_t file_bytes_ = 0;    // Once the log is replayed; beyond the real ones lie zeros.
  std::vector<LogUpdate> updates_;  // Of the log, not yet made.
  struct Bitmap {
    std::string bytes;
    std::uint64_t used = 0;  // When; the one unused longest is forgotten first.
    bool is_pinned = false;  // Has changes that the file does not have.
  };
  std::map<std::uint64_t, Bitmap> bitmaps_;  // By chunk.
  std::uint64_t uses_ = 0;

 private:
  Status load_log();
  Status load_regions();
  Status load_bat();
  Status check_entries() const;
  Status check_log_leaves_payload_alone() const;
  Status map_partial(std::uint64_t block, std::uint64_t inside, std::uint64_t length,
                     std::vector<Segment>& to);
  void add_payload(std::uint64_t at, std::uint64_t length, std::vector<Segment>& to) const;
};

}  // namespace farside::agent::vhdx
