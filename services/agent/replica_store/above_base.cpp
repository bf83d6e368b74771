// What of a point is not in the base disks: what deltas after the first one brought.
#include <algorithm>
#include <utility>
#include <vector>

#include "services/agent/replica_store/item.h"

namespace farside::replica {
namespace {

constexpr std::uint64_t kFirstSeq = 1;
constexpr std::size_t kSlice = 65'536;
constexpr std::size_t kVisitSlice = 1024;

}  // namespace

// By the index of all blocks: of a replica whose bases may not be exact.
Result<BlockSet> Item::above_by_index(std::uint16_t disk, std::uint64_t blocks, std::uint64_t seq) {
  BlockSet above(blocks);
  for (std::uint64_t next = 0; next < blocks;) {
    const std::lock_guard lock(mutex_);
    FARSIDE_TRY(ready());
    std::size_t seen = 0;
    std::uint64_t end = blocks;
    FARSIDE_TRY(reader_->for_each(disk, seq, static_cast<std::uint32_t>(next), blocks,
                                  [&](const Version& version) {
                                    if (version.entry.codec != Codec::kBase)
                                      above.add(version.key.block);
                                    if (++seen < kSlice) return true;
                                    end = std::uint64_t{version.key.block} + 1;
                                    return false;
                                  }));
    next = end;
  }
  return above;
}

// By the members of deltas, of which there are as many as the journal has versions: somebody waits
// for his VM.  All of the first delta is in an exact base.
Result<BlockSet> Item::above_by_members(std::uint16_t disk, std::uint64_t blocks,
                                        std::uint64_t seq) {
  BlockSet above(blocks);
  Status broken;
  std::string cursor = number_key(kFirstSeq + 1, 8);
  for (bool more = true; more;) {
    const std::lock_guard lock(mutex_);
    FARSIDE_TRY(ready());
    std::size_t seen = 0;
    FARSIDE_TRY(index_->scan(kDeltas, {}, cursor, [&](std::string_view key, std::string_view) {
      const auto member = member_key_from(key);
      if (!member) {
        broken = fail(ErrorCode::kCorrupt, "broken member of a delta in the index");
        return false;
      }
      if (member->seq > seq) return false;
      if (member->disk == disk && member->block < blocks) above.add(member->block);
      cursor = std::string(key) + '\0';  // The key right after.
      return ++seen < kSlice;
    }));
    if (!broken) return fail(broken.error());
    more = seen == kSlice;
  }
  return above;
}

Result<bool> Item::base_is_exact() {
  const std::lock_guard lock(mutex_);
  FARSIDE_TRY(ready());
  return replica_.base_is_exact;
}

Status Item::for_each_above_base(std::uint16_t disk, std::uint64_t seq, const VisitBlock& visit) {
  FARSIDE_ASSIGN(const auto shape, disks_at(seq));
  const auto at = std::ranges::find(shape, disk, &DiskAt::number);
  if (at == shape.end()) return fail(ErrorCode::kInvalidArgument, "no such disk");
  const std::uint64_t blocks = blocks_of(at->disk.bytes);
  FARSIDE_ASSIGN(const bool is_exact, base_is_exact());
  FARSIDE_ASSIGN(const BlockSet changed, is_exact ? above_by_members(disk, blocks, seq)
                                                  : above_by_index(disk, blocks, seq));
  std::vector<char> plain(kBlockBytes);
  for (auto next = changed.next(0); next;) {
    std::vector<Version> above;
    {
      const std::lock_guard lock(mutex_);
      FARSIDE_TRY(ready());
      FARSIDE_TRY(check_point(seq));
      for (; next && above.size() < kVisitSlice; next = changed.next(*next + 1)) {
        FARSIDE_ASSIGN(const auto version,
                       reader_->find(disk, static_cast<std::uint32_t>(*next), seq));
        if (version && version->entry.codec != Codec::kBase) above.push_back(*version);
      }
    }
    for (const Version& version : above) {
      const std::uint64_t offset = std::uint64_t{version.key.block} * kBlockBytes;
      const std::uint32_t length = length_of(at->disk.bytes, version.key.block);
      if (version.entry.codec == Codec::kZero) {
        FARSIDE_TRY(visit(offset, length, {}));
        continue;
      }
      {
        const std::lock_guard lock(mutex_);
        FARSIDE_TRY(ready());
        FARSIDE_TRY(reader_->read_version(version, plain));
      }
      FARSIDE_TRY(visit(offset, length, {plain.data(), length}));
    }
  }
  return {};
}

// Before the first point, where a crash or an error may have left bytes in the base of which the
// index knows nothing, or that it calls zeros: all but its data goes.
Status Item::clean_base() {
  FARSIDE_TRY(flush_locked());
  for (std::size_t i = 0; i < replica_.disks.size(); ++i) {
    const auto disk = static_cast<std::uint16_t>(i);
    const std::uint64_t blocks = blocks_of(replica_.disks[i].bytes);
    std::vector<std::pair<std::uint64_t, std::uint64_t>> holes;
    std::uint64_t next = 0;
    FARSIDE_TRY(index_->scan(kBlocks, disk_prefix(disk), {},
                             [&](std::string_view key, std::string_view value) {
                               const auto block = block_key_from(key);
                               const auto entry = entry_from(value);
                               if (!block || !entry || entry->codec != Codec::kBase) return true;
                               if (block->block > next) holes.emplace_back(next, block->block);
                               next = std::uint64_t{block->block} + 1;
                               return true;
                             }));
    if (next < blocks) holes.emplace_back(next, blocks);
    if (holes.empty()) continue;
    FARSIDE_ASSIGN(const auto file, base(disk));
    dirty_bases_.insert(disk);
    for (const auto& [first, end] : holes) {
      const std::uint64_t from = first * kBlockBytes;
      FARSIDE_TRY(file->punch(from, std::min(end * kBlockBytes, replica_.disks[i].bytes) - from));
    }
    FARSIDE_TRY(file->sync());
  }
  is_base_unsure_ = false;
  return {};
}

}  // namespace farside::replica
