// What the volume forgot: found by folding and by scrub, marked, and told.  It costs the points
// that need the block, and nothing else.
#include <algorithm>
#include <array>
#include <filesystem>

#include "common/base/folder.h"
#include "services/agent/replica_store/definition.h"
#include "services/agent/replica_store/item.h"

namespace farside::replica {
// Only what shows that the bytes are lost.  A sector that cannot be read is as good as a wrong one
// where the file is on a volume of ours; a base disk elsewhere, or one that is not found, may only
// be out of reach.
bool Item::is_damage(const Error& error, const BlockEntry& entry) const {
  switch (error.code) {
    case ErrorCode::kCorrupt:
      return true;
    case ErrorCode::kIo:
      return entry.codec != Codec::kBase || limits_.bases == &raw_bases();
    case ErrorCode::kNotFound:
      return entry.codec != Codec::kBase && has_lost(entry.segment);
    default:
      return false;
  }
}

// The store is there, and the segment is not.
bool Item::has_lost(std::uint32_t segment) const {
  if (!check_here()) return false;
  std::error_code error;
  for (const auto& file : entries_of(folder_ + "/segments", error)) {
    if (segment_number(file.filename().string()) == segment) return false;
  }
  return !error;
}

void Item::mark_damaged(store::Batch& batch, const Version& version, const Error& why) {
  const std::string key = to_key(version.key);
  BlockEntry damaged = version.entry;
  damaged.hash = 0;  // No block has it: a comparison finds it different and sends it again.
  batch.put(kBlocks, key, to_value(damaged));
  if (!damaged_.insert(key).second) return;
  batch.put(kDamaged, key, "");
  findings_.push_back(why.what);
  if (const auto seen = is_seen_by(newest_seq(), version.key); seen && *seen) needs_repair_ = true;
}

void Item::erase_block(store::Batch& batch, const BlockKey& key) {
  const std::string bytes = to_key(key);
  batch.erase(kBlocks, bytes);
  if (damaged_.erase(bytes) > 0) batch.erase(kDamaged, bytes);
}

Result<bool> Item::is_seen_by(std::uint64_t seq, const BlockKey& key) const {
  if (!points_.contains(seq)) return false;
  FARSIDE_ASSIGN(const msg::StoredShape* const shape, shape_at(seq));
  if (std::ranges::find(shape->disks, key.disk, &msg::PointDisk::number) == shape->disks.end()) {
    return false;
  }
  FARSIDE_ASSIGN(const std::optional<Version> version, reader_->find(key.disk, key.block, seq));
  return version && version->key == key;
}

Result<bool> Item::sees_damage() const {
  for (const std::string& bytes : damaged_) {
    const auto key = block_key_from(bytes);
    if (!key) continue;
    FARSIDE_ASSIGN(const bool seen, is_seen_by(newest_seq(), *key));
    if (seen) return true;
  }
  return false;
}

Status Item::load_damage() {
  damaged_.clear();
  FARSIDE_TRY(index_->scan(kDamaged, {}, {}, [&](std::string_view key, std::string_view) {
    damaged_.emplace(key);
    return true;
  }));
  FARSIDE_ASSIGN(needs_repair_, sees_damage());
  return {};
}

std::uint64_t Item::damaged() {
  const std::lock_guard lock(mutex_);
  return damaged_.size();
}

bool Item::needs_repair() {
  const std::lock_guard lock(mutex_);
  return needs_repair_;
}

std::vector<std::string> Item::take_findings() {
  const std::lock_guard lock(mutex_);
  return std::exchange(findings_, {});
}

// One that is damaged is as good as missing: its source sends it with its next delta.
Status Item::scrub_definitions() {
  good_definitions_.clear();
  std::set<std::string> named;
  for (const auto& [number, shape] : shapes_) named.insert(shape.definition);
  for (const std::string& digest : named) {
    if (digest.empty()) continue;
    const std::string path = folder_ + "/definitions/" + digest;
    const auto packed = read_file(path);
    if (!packed) {
      // Gone or unreadable: sending it again mends that too.  Anything else may pass.
      const ErrorCode code = packed.error().code;
      if (code != ErrorCode::kNotFound && code != ErrorCode::kIo) return fail(packed.error());
      findings_.push_back(packed.error().what);
      continue;
    }
    const auto whole = unpack_definition(digest, *packed);
    if (whole) {
      good_definitions_.insert(digest);
      continue;
    }
    findings_.push_back(whole.error().what);
    if (whole.error().code != ErrorCode::kCorrupt) continue;
    std::error_code ignored;  // If it stays it is found damaged again.
    std::filesystem::remove(path, ignored);
  }
  return {};
}

// Whatever was found is told once: now, or with the next findings if something fails.
Result<ScrubResult> Item::scrub(const std::string& cursor, std::uint64_t blocks_max) {
  const std::lock_guard lock(mutex_);
  FARSIDE_TRY(ready());
  FARSIDE_TRY(check_here());
  FARSIDE_TRY(flush_locked());
  auto before = std::exchange(findings_, {});
  auto result = [&]() -> Result<ScrubResult> {
    if (cursor.empty()) FARSIDE_TRY(scrub_definitions());
    return scrub_blocks(cursor, blocks_max);
  }();
  if (result) {
    result->mismatches = std::exchange(findings_, std::move(before));
  } else {
    findings_.insert(findings_.begin(), before.begin(), before.end());
  }
  return result;
}

Result<ScrubResult> Item::scrub_blocks(const std::string& cursor, std::uint64_t blocks_max) {
  ScrubResult result;
  store::Batch marks;
  std::array<char, kBlockBytes> plain;  // NOLINT: filled by the read.
  int unreadable = 0;
  Status broken;
  const Status scanned =
      index_->scan(kBlocks, {}, cursor, [&](std::string_view key, std::string_view value) {
        if (result.blocks == blocks_max) {
          result.next = key;
          return false;
        }
        const auto at = block_key_from(key);
        const auto entry = entry_from(value);
        ++result.blocks;
        if (!at || !entry || at->disk >= replica_.disks.size()) {
          findings_.emplace_back("the index holds a broken entry");
          return true;
        }
        if (damaged_.contains(std::string(key))) return true;  // Known.
        const Version version{.key = *at, .entry = *entry};
        const Status read = reader_->read_version(version, plain);
        if (read) return true;
        if (!is_damage(read.error(), *entry) ||
            (read.error().code == ErrorCode::kIo && ++unreadable > kUnreadableMax)) {
          broken = read;
          return false;
        }
        // A version that no point sees any more may be half gone: a fold was interrupted.
        const auto seen = is_needed(*at);
        if (!seen) {
          broken = fail(seen.error());
          return false;
        }
        if (*seen) mark_damaged(marks, version, read.error());
        return true;
      });
  if (unreadable > kUnreadableMax) {
    // The volume is in trouble as a whole, and may recover: nothing of this slice is marked.
    FARSIDE_TRY(load_damage());
    return fail(std::move(broken).error());
  }
  // What was marked so far is true, whatever came after it.
  if (!marks.empty()) {
    if (const Status marked = commit(marks); !marked) {
      if (index_ != nullptr) FARSIDE_TRY(load_damage());  // Nothing is marked.
      return fail(marked.error());
    }
  }
  FARSIDE_TRY(scanned);
  FARSIDE_TRY(std::move(broken));
  return result;
}

// By some kept point.  Points between two versions see the older one, so only the first point from
// this version on has to be asked.
Result<bool> Item::is_needed(const BlockKey& key) const {
  const auto first = points_.lower_bound(key.seq);
  if (first == points_.end()) return false;
  FARSIDE_ASSIGN(const std::optional<Version> version,
                 reader_->find(key.disk, key.block, first->first));
  return version && version->key == key;
}

}  // namespace farside::replica
