// A disk that lies in one VHDX file, or in a differencing file and its parents.
//
// Owns: the files.  Thread: one at a time.
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <span>
#include <vector>

#include "common/base/result.h"
#include "services/agent/platforms/hyperv/byte_file.h"
#include "services/agent/platforms/hyperv/vhdx/image.h"

namespace farside::agent::vhdx {

// Opens the file that a locator tells of, for reading.
using ParentOpener = std::function<Result<std::unique_ptr<hyperv::ByteFile>>(const ParentLocator&)>;

// The next `length` bytes of the disk: in file `file` of the chain from `file_offset` on; or zeros.
struct Piece {
  std::optional<std::size_t> file;
  std::uint64_t file_offset = 0;
  std::uint64_t length = 0;

  bool operator==(const Piece&) const = default;
};

struct Extent {
  std::uint64_t offset = 0;
  std::uint64_t length = 0;
  bool is_zero = false;  // Known to be; others may hold anything, also zeros.

  bool operator==(const Extent&) const = default;
};

class Chain final {
 public:
  static constexpr std::size_t kFilesMax = 64;  // Hyper-V takes 50 checkpoints of a VM.

  // Errors: kCorrupt (also: a parent that was written to since its child was made, or of other
  // sectors), kUnsupported, kTooLarge (too long a chain), and those of `open_parent`.
  static Result<std::unique_ptr<Chain>> open(std::unique_ptr<hyperv::ByteFile> top,
                                             const ParentOpener& open_parent);
  // The same, with a top that is open already: one to write to, say.
  static Result<std::unique_ptr<Chain>> open(std::unique_ptr<Image> top,
                                             const ParentOpener& open_parent);

  std::uint64_t disk_bytes() const { return images_.front()->disk_bytes(); }
  std::size_t files() const { return images_.size(); }
  Image& image(std::size_t number) { return *images_[number]; }  // 0: the top; 1: its parent.
  hyperv::ByteFile& file(std::size_t number) { return images_[number]->file(); }

  // Where the bytes [offset, offset + length) are, in order and without gaps, as few pieces as
  // possible.  Reads none of them.  Errors: kInvalidArgument (beyond the disk), the files'.
  Result<std::vector<Piece>> map(std::uint64_t offset, std::uint64_t length);
  // Errors: as map().
  Status read_at(std::uint64_t offset, std::span<char> to);
  // The whole range, in order; neighbours differ in `is_zero`.  Errors: as map().
  Result<std::vector<Extent>> allocated(std::uint64_t offset, std::uint64_t length);
  Result<std::vector<Extent>> allocated() { return allocated(0, disk_bytes()); }

 private:
  Chain() = default;
  Status map_from(std::size_t number, std::uint64_t offset, std::uint64_t length,
                  std::vector<Piece>& to);
  Status check_range(std::uint64_t offset, std::uint64_t length) const;

  std::vector<std::unique_ptr<Image>> images_;
};

}  // namespace farside::agent::vhdx
