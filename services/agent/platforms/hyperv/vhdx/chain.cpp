#include "services/agent/platforms/hyperv/vhdx/chain.h"

#include <algorithm>

#include "services/agent/platforms/hyperv/vhdx/layout.h"

namespace farside::agent::vhdx {
namespace {

constexpr std::uint64_t kMapBytes = 1024 * kMiB;  // Mapped at once when all is listed.

void add(std::vector<Piece>& to, const Piece& piece) {
  if (piece.length == 0) return;
  if (!to.empty() && to.back().file == piece.file &&
      (!piece.file || to.back().file_offset + to.back().length == piece.file_offset)) {
    to.back().length += piece.length;
    return;
  }
  to.push_back(piece);
}

}  // namespace

Result<std::unique_ptr<Chain>> Chain::open(std::unique_ptr<hyperv::ByteFile> top,
                                           const ParentOpener& open_parent) {
  FARSIDE_ASSIGN(std::unique_ptr<Image> image, Image::open(std::move(top)));
  return open(std::move(image), open_parent);
}

Result<std::unique_ptr<Chain>> Chain::open(std::unique_ptr<Image> top,
                                           const ParentOpener& open_parent) {
  std::unique_ptr<Chain> chain(new Chain);
  chain->images_.push_back(std::move(top));
  while (const auto& locator = chain->images_.back()->metadata().parent) {
    const std::size_t depth = chain->images_.size();
    if (depth == kFilesMax) {
      return fail(ErrorCode::kTooLarge,
                  "a chain of more than " + std::to_string(kFilesMax) + " VHDX files",
                  "merge checkpoints on the host");
    }
    const auto in_parent = [&](const Error& error) {
      return fail(error.in(
          "parent " + std::to_string(depth) + " of the disk, '" +
          (locator->relative_path.empty() ? locator->absolute_win32_path : locator->relative_path) +
          "'"));
    };
    auto file = open_parent(*locator);
    if (!file) return in_parent(file.error());
    auto parent = Image::open(std::move(*file));
    if (!parent) return in_parent(parent.error());
    const Image& child = *chain->images_.back();
    if (!locator->accepts((*parent)->header().data_write)) {
      return in_parent({.code = ErrorCode::kCorrupt,
                        .what = "it was written to since its child was made: it is at " +
                                (*parent)->header().data_write.text() + ", the child takes " +
                                locator->linkage.text(),
                        .advice = "take the disk from a backup, or find the right parent"});
    }
    if ((*parent)->metadata().logical_sector_bytes != child.metadata().logical_sector_bytes) {
      return in_parent({.code = ErrorCode::kCorrupt,
                        .what = "its sectors are not as long as its child's",
                        .advice = "find the right parent"});
    }
    chain->images_.push_back(std::move(*parent));
  }
  return chain;
}

Status Chain::check_range(std::uint64_t offset, std::uint64_t length) const {
  if (fits(offset, length, disk_bytes())) return {};
  return fail(ErrorCode::kInvalidArgument,
              std::to_string(length) + " bytes at " + std::to_string(offset) + " of a disk of " +
                  std::to_string(disk_bytes()),
              "ask for what is on the disk");
}

Result<std::vector<Piece>> Chain::map(std::uint64_t offset, std::uint64_t length) {
  FARSIDE_TRY(check_range(offset, length));
  std::vector<Piece> pieces;
  FARSIDE_TRY(map_from(0, offset, length, pieces));
  return pieces;
}

// Not deeper than kFilesMax.
Status Chain::map_from(std::size_t number, std::uint64_t offset, std::uint64_t length,
                       std::vector<Piece>& to) {
  Image& image = *images_[number];
  // A child may be longer than its parent: it was resized.
  const std::uint64_t bytes = image.disk_bytes();
  const std::uint64_t inside = offset < bytes ? std::min(length, bytes - offset) : 0;
  std::vector<Segment> segments;
  if (inside != 0) FARSIDE_TRY(image.map(offset, inside, segments));
  for (const Segment& segment : segments) {
    switch (segment.source) {
      case Source::kThisFile:
        add(to, {.file = number, .file_offset = segment.file_offset, .length = segment.length});
        break;
      case Source::kZeros:
        add(to, {.length = segment.length});
        break;
      case Source::kParent:
        FARSIDE_TRY(map_from(number + 1, offset, segment.length, to));
        break;
    }
    offset += segment.length;
  }
  add(to, {.length = length - inside});
  return {};
}

Status Chain::read_at(std::uint64_t offset, std::span<char> to) {
  FARSIDE_ASSIGN(const std::vector<Piece> pieces, map(offset, to.size()));
  for (const Piece& piece : pieces) {
    const std::span<char> part = to.first(piece.length);
    if (piece.file) {
      FARSIDE_TRY(file(*piece.file).read_at(piece.file_offset, part));
    } else {
      std::ranges::fill(part, '\0');
    }
    to = to.subspan(piece.length);
  }
  return {};
}

Result<std::vector<Extent>> Chain::allocated(std::uint64_t offset, std::uint64_t length) {
  FARSIDE_TRY(check_range(offset, length));
  std::vector<Extent> extents;
  std::vector<Piece> pieces;
  while (length > 0) {
    const std::uint64_t part = std::min(length, kMapBytes);
    pieces.clear();
    FARSIDE_TRY(map_from(0, offset, part, pieces));
    for (const Piece& piece : pieces) {
      const bool is_zero = !piece.file;
      if (!extents.empty() && extents.back().is_zero == is_zero) {
        extents.back().length += piece.length;
      } else {
        extents.push_back({.offset = offset, .length = piece.length, .is_zero = is_zero});
      }
      offset += piece.length;
    }
    length -= part;
  }
  return extents;
}

}  // namespace farside::agent::vhdx
