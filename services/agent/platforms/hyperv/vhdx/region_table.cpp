#include "services/agent/platforms/hyperv/vhdx/region_table.h"

#include <optional>
#include <utility>

#include "services/agent/platforms/hyperv/vhdx/crc32c.h"
#include "services/agent/platforms/hyperv/vhdx/guid.h"
#include "services/agent/platforms/hyperv/vhdx/layout.h"

namespace farside::agent::vhdx {
namespace {

constexpr std::string_view kMark = "regi";
constexpr std::size_t kChecksumAt = 4;
constexpr std::size_t kTableHeaderBytes = 16;
constexpr std::size_t kEntryBytes = 32;
constexpr std::uint32_t kEntriesMax = 2047;

const Guid kBat = *Guid::parse("2dc27766-f623-4200-9d64-115e9bfd4a08");
const Guid kMetadata = *Guid::parse("8b7ca206-4790-4b9a-b8fe-575f050f886e");

}  // namespace

Result<RegionTable> parse_region_table(std::string_view bytes) {
  if (bytes.size() != kRegionTableBytes || !bytes.starts_with(kMark)) {
    return corrupt("no region table");
  }
  if (load<std::uint32_t>(bytes, kChecksumAt) != checksum_without(bytes, kChecksumAt)) {
    return corrupt("the region table's checksum");
  }
  const auto count = load<std::uint32_t>(bytes, 8);
  if (count > kEntriesMax) return corrupt(std::to_string(count) + " regions");
  std::optional<Region> bat;
  std::optional<Region> metadata;
  std::vector<Region> seen;
  std::vector<Region> others;
  for (std::size_t i = 0; i < count; ++i) {
    const std::size_t at = kTableHeaderBytes + i * kEntryBytes;
    const Guid guid = Guid::load(bytes, at);
    const Region region{.at = load<std::uint64_t>(bytes, at + 16),
                        .bytes = load<std::uint32_t>(bytes, at + 24)};
    const bool required = (load<std::uint32_t>(bytes, at + 28) & 1U) != 0;
    if (region.at % kMiB != 0 || region.at < kMiB || region.bytes % kMiB != 0 ||
        region.bytes == 0 || !fits(region.at, region.bytes, kFileBytesMax)) {
      return corrupt("region " + guid.text() + " of " + std::to_string(region.bytes) +
                     " bytes at " + std::to_string(region.at));
    }
    for (const Region& other : seen) {
      if (region.at < other.at + other.bytes && other.at < region.at + region.bytes) {
        return corrupt("region " + guid.text() + " at " + std::to_string(region.at) +
                       " overlaps the one at " + std::to_string(other.at));
      }
    }
    seen.push_back(region);
    std::optional<Region>* known = guid == kBat ? &bat : guid == kMetadata ? &metadata : nullptr;
    if (known == nullptr) {
      if (required) return unsupported("a VHDX file with region " + guid.text());
      others.push_back(region);
      continue;
    }
    if (*known) return corrupt("region " + guid.text() + " twice");
    *known = region;
  }
  if (!bat || !metadata) return corrupt(std::string("no region for ") + (bat ? "metadata" : "BAT"));
  return RegionTable{.bat = *bat, .metadata = *metadata, .others = std::move(others)};
}

std::string write_region_table(const RegionTable& table) {
  std::string bytes(kRegionTableBytes, '\0');
  bytes.replace(0, kMark.size(), kMark);
  store<std::uint32_t>(bytes, 8, 2);
  std::size_t at = kTableHeaderBytes;
  const auto add = [&](const Guid& guid, const Region& region) {
    guid.store(bytes, at);
    store(bytes, at + 16, region.at);
    store(bytes, at + 24, region.bytes);
    store<std::uint32_t>(bytes, at + 28, 1);
    at += kEntryBytes;
  };
  add(kBat, table.bat);
  add(kMetadata, table.metadata);
  store(bytes, kChecksumAt, checksum_without(bytes, kChecksumAt));
  return bytes;
}

}  // namespace farside::agent::vhdx
