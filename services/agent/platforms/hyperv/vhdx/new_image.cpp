#include "services/agent/platforms/hyperv/vhdx/new_image.h"

#include <algorithm>

#include "services/agent/platforms/hyperv/vhdx/bat.h"
#include "services/agent/platforms/hyperv/vhdx/layout.h"
#include "services/agent/platforms/hyperv/vhdx/utf16.h"

namespace farside::agent::vhdx {
namespace {

// Where Windows puts them, too.
constexpr std::uint64_t kLogAt = kMiB;
constexpr std::uint32_t kLogBytes = static_cast<std::uint32_t>(kMiB);
constexpr std::uint64_t kMetadataAt = 2 * kMiB;
constexpr std::uint32_t kMetadataBytes = static_cast<std::uint32_t>(kMiB);
constexpr std::uint64_t kBatAt = 3 * kMiB;
constexpr std::uint64_t kEntriesAtOnce = kMiB / 8;

std::string file_mark() {
  std::string bytes(kFileMarkBytes, '\0');
  const std::string creator = utf16le_of("Farside").value_or("");
  bytes.replace(0, kFileMark.size(), kFileMark);
  bytes.replace(kFileMark.size(), creator.size(), creator);
  return bytes;
}

// Of a fixed disk: block after block, from `at` on.
Status write_full_bat(hyperv::ByteFile& file, const Geometry& table, std::uint64_t at) {
  std::string part;
  std::uint64_t block = 0;
  for (std::uint64_t first = 0; first < table.entries; first += kEntriesAtOnce) {
    const std::uint64_t end = std::min(table.entries, first + kEntriesAtOnce);
    part.assign((end - first) * 8, '\0');
    for (std::uint64_t entry = first; entry < end; ++entry) {
      if (entry != table.entry_of_block(block)) continue;  // A bitmap's.
      const BatEntry full(BlockState::kFullyPresent, at + block * table.block_bytes);
      store(part, (entry - first) * 8, full.bits());
      ++block;
    }
    FARSIDE_TRY(file.write_at(kBatAt + first * 8, part));
  }
  return {};
}

}  // namespace

NewImage child_of(const Image& parent, std::string relative_path, std::string absolute_win32_path) {
  const Metadata& metadata = parent.metadata();
  return {.disk_bytes = metadata.disk_bytes,
          .logical_sector_bytes = metadata.logical_sector_bytes,
          .physical_sector_bytes = metadata.physical_sector_bytes,
          .disk_id = metadata.disk_id,
          .parent = ParentLocator{.linkage = parent.header().data_write,
                                  .linkage2 = {},
                                  .relative_path = std::move(relative_path),
                                  .volume_path = {},
                                  .absolute_win32_path = std::move(absolute_win32_path)}};
}

Status create(hyperv::ByteFile& file, const NewImage& image, Random& random) {
  if (image.is_fixed && image.parent) {
    return fail(ErrorCode::kInvalidArgument, "a fixed disk with a parent",
                "make it differencing or fixed");
  }
  const Metadata metadata{.block_bytes = image.block_bytes,
                          .leave_allocated = image.is_fixed,
                          .disk_bytes = image.disk_bytes,
                          .logical_sector_bytes = image.logical_sector_bytes,
                          .physical_sector_bytes = image.physical_sector_bytes,
                          .disk_id = image.disk_id ? *image.disk_id : Guid::random(random),
                          .parent = image.parent};
  FARSIDE_ASSIGN(const std::string items, write_metadata(metadata));
  if (items.size() > kMetadataBytes) {
    return fail(ErrorCode::kInvalidArgument, "the parent's paths are too long", "use shorter ones");
  }
  FARSIDE_ASSIGN(const std::uint64_t there, file.size());
  if (there != 0) {
    return fail(ErrorCode::kAlreadyExists,
                "a file of " + std::to_string(there) + " bytes where a new disk is to be",
                "remove it, or choose another name");
  }
  const Geometry table(metadata);
  const auto bat_bytes = static_cast<std::uint32_t>(round_up(table.entries * 8, kMiB));
  const std::uint64_t blocks_at = kBatAt + bat_bytes;
  FARSIDE_TRY(
      file.truncate(image.is_fixed ? blocks_at + table.blocks * table.block_bytes : blocks_at));
  FARSIDE_TRY(file.write_at(kMetadataAt, items));
  if (image.is_fixed) FARSIDE_TRY(write_full_bat(file, table, blocks_at));
  const std::string regions =
      write_region_table({.bat = {.at = kBatAt, .bytes = bat_bytes},
                          .metadata = {.at = kMetadataAt, .bytes = kMetadataBytes}});
  for (const std::uint64_t at : kRegionTableAt) FARSIDE_TRY(file.write_at(at, regions));
  FARSIDE_TRY(file.write_at(0, file_mark()));
  FARSIDE_TRY(file.flush());
  Header header{.sequence = 1,
                .file_write = Guid::random(random),
                .data_write = Guid::random(random),
                .log_bytes = kLogBytes,
                .log_at = kLogAt};
  for (const std::uint64_t at : kHeaderAt) {  // Last: without a header it is no VHDX file.
    FARSIDE_TRY(file.write_at(at, write_header(header)));
    ++header.sequence;
  }
  return file.flush();
}

}  // namespace farside::agent::vhdx
