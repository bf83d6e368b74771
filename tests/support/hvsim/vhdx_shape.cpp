#include "tests/support/hvsim/vhdx_shape.h"

#include <fmt/format.h>

#include <cstring>
#include <fstream>
#include <map>
#include <span>
#include <vector>

namespace farside::hvsim {
namespace {

constexpr std::uint64_t kRegionTable = 192U << 10U;
constexpr std::uint64_t kSecondRegionTable = 256U << 10U;
constexpr std::size_t kTableBytes = 64U << 10U;
constexpr std::size_t kItemBytesMax = 1U << 20U;

constexpr const char* kMetadataRegion = "8B7CA206-4790-4B9A-B8FE-575F050F886E";
constexpr const char* kFileParameters = "CAA16737-FA36-4D43-B3B6-33F0AA44E76B";
constexpr const char* kDiskSize = "2FA54224-CD1B-4876-B211-5DBED83BF4B8";
constexpr const char* kLogicalSector = "8141BF1D-A96F-4709-BA47-F233A8FAAB5F";
constexpr const char* kPhysicalSector = "CDA348C7-445D-4471-9CC9-E9885251C556";
constexpr const char* kDiskId = "BECA12AB-B2E6-4523-93EF-C309E000C746";
constexpr const char* kParentLocator = "A8D35F2D-B30B-454D-ABF7-D3D84834AB0C";

using Bytes = std::vector<unsigned char>;

// Little endian; zero outside of what is there.
std::uint64_t number_at(const Bytes& bytes, std::size_t at, std::size_t size) {
  std::uint64_t number = 0;
  for (std::size_t i = size; i-- > 0;) {
    number = number << 8U | (at + i < bytes.size() ? bytes[at + i] : 0U);
  }
  return number;
}

std::string guid_at(const Bytes& bytes, std::size_t at) {
  std::string text = fmt::format("{:08X}-{:04X}-{:04X}-", number_at(bytes, at, 4),
                                 number_at(bytes, at + 4, 2), number_at(bytes, at + 6, 2));
  for (std::size_t i = 8; i < 16; ++i) {
    text += fmt::format("{:02X}", number_at(bytes, at + i, 1));
    if (i == 9) text += '-';
  }
  return text;
}

Result<Bytes> read(std::ifstream& in, std::uint64_t offset, std::size_t size) {
  Bytes bytes(size);
  in.clear();
  in.seekg(static_cast<std::streamoff>(offset));
  in.read(reinterpret_cast<char*>(bytes.data()), static_cast<std::streamsize>(size));
  if (!in) return fail(ErrorCode::kCorrupt, "the file ends too early");
  return bytes;
}

// Entries of a table: their GUID, offset in the table of the rest of the entry.
std::map<std::string, std::size_t> entries_of(const Bytes& table, std::size_t count,
                                              std::size_t first, std::size_t size) {
  std::map<std::string, std::size_t> entries;
  for (std::size_t i = 0; i < count && first + (i + 1) * size <= table.size(); ++i) {
    entries[guid_at(table, first + i * size)] = first + i * size + 16;
  }
  return entries;
}

// Only what names of files need: one unit, one byte.
std::string utf16_at(const Bytes& bytes, std::size_t at, std::size_t size) {
  std::string text;
  for (std::size_t i = 0; i + 1 < size; i += 2) {
    text += static_cast<char>(number_at(bytes, at + i, 2));
  }
  return text;
}

std::string parent_of(const Bytes& locator) {
  std::map<std::string, std::string> words;
  const std::size_t count = number_at(locator, 18, 2);
  for (std::size_t i = 0; i < count; ++i) {
    const std::size_t at = 20 + i * 12;
    words[utf16_at(locator, number_at(locator, at, 4), number_at(locator, at + 8, 2))] =
        utf16_at(locator, number_at(locator, at + 4, 4), number_at(locator, at + 10, 2));
  }
  std::string absolute = words["absolute_win32_path"];
  if (absolute.starts_with(R"(\\?\)")) absolute.erase(0, 4);
  return absolute.empty() ? words["relative_path"] : absolute;
}

}  // namespace

Result<VhdxShape> read_vhdx_shape(const std::string& file) {
  std::ifstream in(file, std::ios::binary);
  if (!in) return fail(ErrorCode::kNotFound, "no file " + file);
  FARSIDE_ASSIGN(const Bytes identity, read(in, 0, 8));
  if (std::memcmp(identity.data(), "vhdxfile", 8) != 0) {
    return fail(ErrorCode::kCorrupt, "no VHDX: " + file);
  }
  Bytes regions;
  for (const std::uint64_t at : {kRegionTable, kSecondRegionTable}) {
    FARSIDE_ASSIGN(regions, read(in, at, kTableBytes));
    if (std::memcmp(regions.data(), "regi", 4) == 0) break;
  }
  const auto known = entries_of(regions, number_at(regions, 8, 4), 16, 32);
  const auto metadata = known.find(kMetadataRegion);
  if (metadata == known.end()) return fail(ErrorCode::kCorrupt, "no metadata: " + file);
  const std::uint64_t begin = number_at(regions, metadata->second, 8);
  FARSIDE_ASSIGN(const Bytes table, read(in, begin, kTableBytes));
  if (std::memcmp(table.data(), "metadata", 8) != 0) {
    return fail(ErrorCode::kCorrupt, "no metadata: " + file);
  }
  std::map<std::string, Bytes> items;
  for (const auto& [guid, at] : entries_of(table, number_at(table, 10, 2), 32, 32)) {
    const std::uint64_t size = number_at(table, at + 4, 4);
    if (size > kItemBytesMax) return fail(ErrorCode::kCorrupt, "large metadata: " + file);
    FARSIDE_ASSIGN(items[guid], read(in, begin + number_at(table, at, 4), size));
  }
  const std::uint64_t flags = number_at(items[kFileParameters], 4, 4);
  VhdxShape shape{
      .bytes = number_at(items[kDiskSize], 0, 8),
      .block_bytes = static_cast<std::uint32_t>(number_at(items[kFileParameters], 0, 4)),
      .logical_sector_bytes = static_cast<std::uint32_t>(number_at(items[kLogicalSector], 0, 4)),
      .physical_sector_bytes = static_cast<std::uint32_t>(number_at(items[kPhysicalSector], 0, 4)),
      .is_fixed = (flags & 1U) != 0,
      .has_parent = (flags & 2U) != 0,
      .disk_id = guid_at(items[kDiskId], 0),
      .parent_path = {}};
  if (shape.bytes == 0) return fail(ErrorCode::kCorrupt, "no size: " + file);
  if (shape.has_parent) shape.parent_path = parent_of(items[kParentLocator]);
  return shape;
}

}  // namespace farside::hvsim
