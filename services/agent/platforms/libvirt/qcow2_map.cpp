#include "services/agent/platforms/libvirt/qcow2_map.h"

#include <fmt/core.h>

#include <algorithm>
#include <span>

namespace farside::agent::libvirt {
namespace {

// Source: QEMU, docs/interop/qcow2.txt, "Cluster mapping".
constexpr std::uint32_t kClusterBitsMin = 9;
constexpr std::uint32_t kClusterBitsMax = 21;
constexpr std::uint32_t kL1EntriesMax = 4U << 20U;  // QEMU's own limit: 32 MiB.
constexpr std::uint64_t kOffsetMask = 0x00ff'ffff'ffff'fe00;
constexpr std::uint64_t kCompressedBit = std::uint64_t{1} << 62U;
constexpr std::uint64_t kZeroBit = 1;

void append(std::vector<Extent>& extents, std::uint64_t from, std::uint64_t to) {
  if (from >= to) return;
  if (!extents.empty() && extents.back().offset + extents.back().length == from) {
    extents.back().length += to - from;
    return;
  }
  extents.push_back({.offset = from, .length = to - from, .zero = false});
}

}  // namespace

Result<Qcow2Map> Qcow2Map::open(const std::string& path) {
  FARSIDE_ASSIGN(auto header, read_qcow2_header(path));
  if (header.has_subclusters || header.has_data_file || header.is_encrypted || header.version < 3) {
    return fail(ErrorCode::kUnsupported, fmt::format("{} has a form whose map is not read", path));
  }
  if (header.cluster_bits < kClusterBitsMin || header.cluster_bits > kClusterBitsMax ||
      header.l1_entries > kL1EntriesMax) {
    return fail(ErrorCode::kCorrupt, fmt::format("{} has a header that cannot be", path));
  }
  FARSIDE_ASSIGN(auto file, File::open_to_read(path));
  FARSIDE_ASSIGN(const std::uint64_t bytes, file.size());
  Qcow2Map map(std::move(file), std::move(header), bytes);
  FARSIDE_ASSIGN(map.l1_, map.table(map.header_.l1_at, map.header_.l1_entries));
  return map;
}

Result<std::vector<std::uint64_t>> Qcow2Map::table(std::uint64_t at, std::uint64_t entries) const {
  std::vector<std::uint64_t> numbers(entries);
  std::string bytes(entries * sizeof(std::uint64_t), '\0');
  // What the file does not reach was never written.
  if (at >= file_bytes_) return numbers;
  const std::uint64_t there = std::min<std::uint64_t>(bytes.size(), file_bytes_ - at);
  FARSIDE_TRY(file_.read_at(at, std::span(bytes.data(), there)));
  for (std::size_t i = 0; i < numbers.size(); ++i) {
    for (std::size_t byte = 0; byte < sizeof(std::uint64_t); ++byte) {
      numbers[i] = (numbers[i] << 8U) | static_cast<unsigned char>(bytes[8 * i + byte]);
    }
  }
  return numbers;
}

bool Qcow2Map::is_mapped(std::uint64_t entry) const {
  if ((entry & (kCompressedBit | kZeroBit)) != 0) return true;
  const std::uint64_t at = entry & kOffsetMask;
  return at != 0 && at < file_bytes_;
}

Result<std::vector<Extent>> Qcow2Map::unmapped(std::uint64_t from, std::uint64_t to) const {
  std::vector<Extent> found;
  const std::uint64_t cluster_bytes = std::uint64_t{1} << header_.cluster_bits;
  const std::uint64_t entries = cluster_bytes / sizeof(std::uint64_t);
  const std::uint64_t l2_covers = entries * cluster_bytes;
  for (std::uint64_t at = from; at < to;) {
    const std::uint64_t index = at / l2_covers;
    const std::uint64_t end = std::min(to, (index + 1) * l2_covers);
    const std::uint64_t l2_at = index < l1_.size() ? l1_[index] & kOffsetMask : 0;
    if (l2_at == 0) {
      append(found, at, end);
      at = end;
      continue;
    }
    FARSIDE_ASSIGN(const auto l2, table(l2_at, entries));
    for (; at < end; at = std::min(end, (at / cluster_bytes + 1) * cluster_bytes)) {
      if (is_mapped(l2[at / cluster_bytes % entries])) continue;
      append(found, at, std::min(end, (at / cluster_bytes + 1) * cluster_bytes));
    }
  }
  return found;
}

}  // namespace farside::agent::libvirt
