#include "services/agent/platforms/hyperv/vhdx/metadata.h"

#include <algorithm>
#include <array>
#include <bit>
#include <utility>
#include <vector>

#include "services/agent/platforms/hyperv/vhdx/layout.h"

namespace farside::agent::vhdx {
namespace {

constexpr std::string_view kMark = "metadata";
constexpr std::size_t kEntryBytes = 32;  // As long as the table's header.
constexpr std::size_t kEntriesMax = 2047;
constexpr std::size_t kUserEntriesMax = 1024;
constexpr std::uint32_t kItemBytesMax = 1U << 20U;

constexpr std::uint32_t kIsUser = 1;
constexpr std::uint32_t kIsVirtualDisk = 2;
constexpr std::uint32_t kIsRequired = 4;

constexpr std::uint32_t kLeaveAllocated = 1;
constexpr std::uint32_t kHasParent = 2;

const Guid kFileParameters = *Guid::parse("caa16737-fa36-4d43-b3b6-33f0aa44e76b");
const Guid kDiskSize = *Guid::parse("2fa54224-cd1b-4876-b211-5dbed83bf4b8");
const Guid kDiskId = *Guid::parse("beca12ab-b2e6-4523-93ef-c309e000c746");
const Guid kLogicalSector = *Guid::parse("8141bf1d-a96f-4709-ba47-f233a8faab5f");
const Guid kPhysicalSector = *Guid::parse("cda348c7-445d-4471-9cc9-e9885251c556");
const Guid kParentLocator = *Guid::parse("a8d35f2d-b30b-454d-abf7-d3d84834ab0c");

struct Item {
  Guid id;
  std::uint32_t at = 0;
  std::uint32_t bytes = 0;
  std::uint32_t flags = 0;
};

bool is_known(const Guid& id) {
  return id == kFileParameters || id == kDiskSize || id == kDiskId || id == kLogicalSector ||
         id == kPhysicalSector || id == kParentLocator;
}

Status check_places(std::vector<Item> items, std::uint64_t region_bytes) {
  std::erase_if(items, [](const Item& item) { return item.bytes == 0; });
  std::ranges::sort(items, {}, &Item::at);
  std::uint64_t end = kMetadataTableBytes;
  for (const Item& item : items) {
    if (item.at < end || item.bytes > kItemBytesMax || !fits(item.at, item.bytes, region_bytes)) {
      return corrupt("metadata item " + item.id.text() + " of " + std::to_string(item.bytes) +
                     " bytes at " + std::to_string(item.at) +
                     " lies outside of its region or on another");
    }
    end = std::uint64_t{item.at} + item.bytes;
  }
  return {};
}

Result<std::vector<Item>> parse_table(std::string_view table) {
  if (!table.starts_with(kMark)) return corrupt("no metadata table");
  const std::size_t count = load<std::uint16_t>(table, 10);
  if (count > kEntriesMax) return corrupt(std::to_string(count) + " metadata items");
  std::vector<Item> items;
  std::size_t of_users = 0;
  std::vector<std::pair<std::array<char, 16>, bool>> names;
  for (std::size_t i = 0; i < count; ++i) {
    const std::size_t at = (i + 1) * kEntryBytes;
    const Item item{.id = Guid::load(table, at),
                    .at = load<std::uint32_t>(table, at + 16),
                    .bytes = load<std::uint32_t>(table, at + 20),
                    .flags = load<std::uint32_t>(table, at + 24)};
    const bool is_user = (item.flags & kIsUser) != 0;
    if (is_user && ++of_users > kUserEntriesMax) return corrupt("too many items of users");
    if (item.bytes == 0 && item.at != 0) {
      return corrupt("metadata item " + item.id.text() + " is empty, yet has a place");
    }
    if (!is_user && !is_known(item.id) && (item.flags & kIsRequired) != 0) {
      return unsupported("a VHDX file with metadata " + item.id.text());
    }
    if (is_user && (item.flags & kIsRequired) != 0) {
      return unsupported("a VHDX file with a user's required metadata " + item.id.text());
    }
    names.emplace_back(item.id.bytes, is_user);
    items.push_back(item);
  }
  std::ranges::sort(names);
  if (const auto twice = std::ranges::adjacent_find(names); twice != names.end()) {
    return corrupt("metadata item " + Guid{twice->first}.text() + " twice");
  }
  return items;
}

bool is_sector_size(std::uint32_t bytes) {
  return bytes == 512 || bytes == 4096;
}

// Empty: it is as the format wants it.
std::string problem_of(const Metadata& metadata) {
  if (metadata.block_bytes < kBlockBytesMin || metadata.block_bytes > kBlockBytesMax ||
      !std::has_single_bit(metadata.block_bytes)) {
    return "blocks of " + std::to_string(metadata.block_bytes) + " bytes";
  }
  if (!is_sector_size(metadata.logical_sector_bytes)) {
    return "logical sectors of " + std::to_string(metadata.logical_sector_bytes) + " bytes";
  }
  if (!is_sector_size(metadata.physical_sector_bytes)) {
    return "physical sectors of " + std::to_string(metadata.physical_sector_bytes) + " bytes";
  }
  if (metadata.disk_bytes == 0 || metadata.disk_bytes > kDiskBytesMax ||
      metadata.disk_bytes % metadata.logical_sector_bytes != 0) {
    return "a disk of " + std::to_string(metadata.disk_bytes) + " bytes";
  }
  return {};
}

}  // namespace

Result<Metadata> read_metadata(const ReadRegion& read, std::uint64_t region_bytes) {
  if (region_bytes < kMetadataTableBytes) return corrupt("a metadata region without a table");
  FARSIDE_ASSIGN(const std::string table, read(0, kMetadataTableBytes));
  FARSIDE_ASSIGN(const std::vector<Item> items, parse_table(table));
  FARSIDE_TRY(check_places(items, region_bytes));
  const auto find = [&](const Guid& id) {
    return std::ranges::find_if(
        items, [&](const Item& item) { return item.id == id && (item.flags & kIsUser) == 0; });
  };
  const auto fetch = [&](const Guid& id, std::uint32_t bytes) -> Result<std::string> {
    const auto item = find(id);
    if (item == items.end()) return corrupt("no metadata item " + id.text());
    if (item->bytes < bytes) return corrupt("metadata item " + id.text() + " is too short");
    return read(item->at, bytes);
  };

  Metadata metadata;
  FARSIDE_ASSIGN(const std::string parameters, fetch(kFileParameters, 8));
  metadata.block_bytes = load<std::uint32_t>(parameters, 0);
  const auto flags = load<std::uint32_t>(parameters, 4);
  const bool has_parent = (flags & kHasParent) != 0;
  metadata.leave_allocated = !has_parent && (flags & kLeaveAllocated) != 0;
  FARSIDE_ASSIGN(const std::string size, fetch(kDiskSize, 8));
  metadata.disk_bytes = load<std::uint64_t>(size, 0);
  FARSIDE_ASSIGN(const std::string id, fetch(kDiskId, 16));
  metadata.disk_id = Guid::load(id, 0);
  FARSIDE_ASSIGN(const std::string logical, fetch(kLogicalSector, 4));
  metadata.logical_sector_bytes = load<std::uint32_t>(logical, 0);
  FARSIDE_ASSIGN(const std::string physical, fetch(kPhysicalSector, 4));
  metadata.physical_sector_bytes = load<std::uint32_t>(physical, 0);
  if (std::string problem = problem_of(metadata); !problem.empty()) return corrupt(problem);
  if (has_parent) {
    const auto item = find(kParentLocator);
    if (item == items.end()) return corrupt("a differencing disk without a parent locator");
    FARSIDE_ASSIGN(const std::string bytes, read(item->at, item->bytes));
    FARSIDE_ASSIGN(metadata.parent, parse_parent_locator(bytes));
  }
  return metadata;
}

Result<std::string> write_metadata(const Metadata& metadata) {
  if (std::string problem = problem_of(metadata); !problem.empty()) {
    return fail(ErrorCode::kInvalidArgument, problem + ": a VHDX file cannot have them",
                "blocks are powers of 2 from 1 to 256 MiB, sectors of 512 or 4096 bytes, disks "
                "whole sectors up to 64 TiB");
  }
  std::string region(kMetadataTableBytes, '\0');
  region.replace(0, kMark.size(), kMark);
  std::uint16_t count = 0;
  const auto add = [&](const Guid& id, std::uint32_t flags, const std::string& item) {
    const std::size_t at = ++count * kEntryBytes;
    id.store(region, at);
    store(region, at + 16, static_cast<std::uint32_t>(region.size()));
    store(region, at + 20, static_cast<std::uint32_t>(item.size()));
    store(region, at + 24, flags);
    store(region, 10, count);
    region += item;
  };
  const auto bytes_of = [](auto value) {
    std::string bytes(sizeof(value), '\0');
    store(bytes, 0, value);
    return bytes;
  };
  const std::uint32_t flags = metadata.parent            ? kHasParent
                              : metadata.leave_allocated ? kLeaveAllocated
                                                         : 0;
  add(kFileParameters, kIsRequired, bytes_of((std::uint64_t{flags} << 32U) | metadata.block_bytes));
  constexpr std::uint32_t kOfDisk = kIsVirtualDisk | kIsRequired;
  add(kDiskSize, kOfDisk, bytes_of(metadata.disk_bytes));
  add(kDiskId, kOfDisk, {metadata.disk_id.bytes.begin(), metadata.disk_id.bytes.end()});
  add(kLogicalSector, kOfDisk, bytes_of(metadata.logical_sector_bytes));
  add(kPhysicalSector, kOfDisk, bytes_of(metadata.physical_sector_bytes));
  if (metadata.parent) {
    FARSIDE_ASSIGN(const std::string locator, write_parent_locator(*metadata.parent));
    add(kParentLocator, kIsRequired, locator);
  }
  return region;
}

}  // namespace farside::agent::vhdx
