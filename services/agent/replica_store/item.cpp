#include "services/agent/replica_store/item.h"

#include <algorithm>
#include <array>
#include <cstring>
#include <filesystem>
#include <utility>

#include "common/base/assert.h"
#include "common/base/folder.h"
#include "common/base/log.h"

namespace farside::replica {
namespace {

// A member of an unfinished delta costs a get and two erases; this many go into one batch.
constexpr std::size_t kEraseBatch = 4096;
constexpr std::size_t kUnflushedOperationsMax = 65'536;

Status check_attempt(const std::string& name) {
  if (name.size() <= kAttemptBytesMax) return {};
  return fail(ErrorCode::kInvalidArgument, "an attempt whose name has " +
                                               std::to_string(name.size()) + " bytes; at most " +
                                               std::to_string(kAttemptBytesMax) + " are kept");
}

constexpr store::RocksStore::Tuning kIndexTuning{.write_buffer_bytes = std::size_t{8} << 20U,
                                                 .cache_bytes = std::size_t{8} << 20U};

}  // namespace

Item::~Item() = default;

Status Item::Dirty::sync() const {
  for (const File& file : segments) FARSIDE_TRY(file.sync());
  for (const auto& base : bases) FARSIDE_TRY(base->sync());
  // Nobody reads a large delta soon; it must not push out what the host's own work keeps cached.
  for (const File& file : segments) file.forget_cache();
  return {};
}

void Item::make_reader() {
  reader_ = std::make_shared<PointReader>(
      *index_, folder_, replica_, hash_,
      [this](const std::string& name) { return limits_.bases->open(folder_, name); });
}

Result<std::unique_ptr<Item>> Item::open(std::string folder, Limits limits) {
  std::error_code error;
  if (!std::filesystem::exists(folder + "/index", error)) {
    // What cannot be looked at is not absent.
    if (error) return fail(from_errno(error.value(), "look into " + folder));
    return fail(ErrorCode::kNotFound, "no replica in " + folder);
  }
  std::unique_ptr<Item> item(new Item(std::move(folder), std::move(limits)));
  FARSIDE_TRY(item->load());
  if (item->replica_.item.empty()) {  // Killed while it was created: there is nothing in it.
    return fail(ErrorCode::kNotFound, "no replica in " + item->folder_);
  }
  return item;
}

Result<std::unique_ptr<Item>> Item::open(std::string folder, std::string name,
                                         const std::vector<msg::ReplicaDisk>& disks,
                                         Limits limits) {
  FARSIDE_TRY(make_folders(folder + "/segments"));
  std::unique_ptr<Item> item(new Item(std::move(folder), std::move(limits)));
  FARSIDE_TRY(item->load());
  if (item->replica_.item.empty()) {
    item->replica_.item = std::move(name);
    if (item->limits_.make_hash_key) item->replica_.hash_key = item->limits_.make_hash_key();
    FARSIDE_ASSIGN(item->hash_, BlockHash::with_key(item->replica_.hash_key));
  } else if (item->replica_.item != name) {
    return fail(ErrorCode::kConflict, item->folder_ + " holds the replica of " +
                                          item->replica_.item + ", not of " + name);
  }
  FARSIDE_TRY(item->place_locked(disks));
  return item;
}

Status Item::ready() {
  if (is_retired_)
    return fail(ErrorCode::kNotFound, "the replica of " + replica_.item + " is gone");
  if (index_ != nullptr) return {};
  return load();
}

void Item::close() {
  reader_.reset();
  index_.reset();
  writer_ = {};
  full_segments_.clear();
  bases_.clear();
  dirty_bases_.clear();
  sealed_.reset();
  unflushed_.clear();
  unflushed_bytes_ = 0;
  dead_.clear();
  delta_open_ = false;
  delta_shape_ = {};
}

void Item::retire() {
  const std::lock_guard lock(mutex_);
  is_retired_ = true;
  close();
}

Status Item::load() {
  close();
  points_.clear();
  pins_.clear();
  shapes_.clear();
  dropped_.clear();
  segments_.clear();
  changed_segments_.clear();
  walk_ = {};
  const auto open_index = [&] {
    return store::RocksStore::open(folder_ + "/index", store::RocksStore::Mode::kReadWrite,
                                   kIndexTuning);
  };
  auto opened = open_index();
  if (!opened && opened.error().code == ErrorCode::kNoSpace && give_up_ballast()) {
    opened = open_index();
  }
  FARSIDE_ASSIGN(auto index, std::move(opened));
  FARSIDE_ASSIGN(const std::optional<std::string> stored, index->get(kReplica, kReplica));
  replica_ = {};
  if (stored) {
    FARSIDE_ASSIGN(replica_, msg::decode<msg::StoredReplica>(*stored));
  }
  FARSIDE_ASSIGN(hash_, BlockHash::with_key(replica_.hash_key));

  FARSIDE_ASSIGN(const std::optional<std::string> verified, index->get(kReplica, kVerified));
  verified_ = {};
  if (verified) {
    FARSIDE_ASSIGN(verified_, msg::decode<msg::StoredVerified>(*verified));
  }

  Status broken;
  const auto each = [&](std::string_view column, auto&& keep) -> Status {
    FARSIDE_TRY(index->scan(column, {}, {}, [&](std::string_view key, std::string_view value) {
      broken = keep(key, value);
      return broken.has_value();
    }));
    return broken;
  };
  FARSIDE_TRY(each(kPoints, [&](std::string_view key, std::string_view value) -> Status {
    FARSIDE_ASSIGN(points_[number_at(key, 0, 8)], msg::decode<msg::StoredPoint>(value));
    return {};
  }));
  FARSIDE_TRY(each(kShapes, [&](std::string_view key, std::string_view value) -> Status {
    FARSIDE_ASSIGN(shapes_[static_cast<std::uint32_t>(number_at(key, 0, 4))],
                   msg::decode<msg::StoredShape>(value));
    return {};
  }));
  FARSIDE_TRY(each(kPins, [&](std::string_view key, std::string_view value) -> Status {
    FARSIDE_ASSIGN(pins_[std::string(key)], msg::decode<msg::StoredPin>(value));
    return {};
  }));
  FARSIDE_TRY(each(kDropped, [&](std::string_view key, std::string_view) -> Status {
    dropped_.insert(number_at(key, 0, 8));
    return {};
  }));
  FARSIDE_TRY(each(kSegments, [&](std::string_view key, std::string_view value) -> Status {
    FARSIDE_ASSIGN(segments_[static_cast<std::uint32_t>(number_at(key, 0, 4))],
                   msg::decode<msg::StoredSegment>(value));
    return {};
  }));

  hold_verified();

  staged_.clear();
  for (const msg::ReplicaDisk& disk : replica_.disks) staged_.emplace_back(blocks_of(disk.bytes));
  FARSIDE_TRY(index->scan(kDeltas, number_key(newest_seq() + 1, 8), {},
                          [&](std::string_view key, std::string_view) {
                            const auto member = member_key_from(key);
                            if (member && member->disk < staged_.size()) {
                              staged_[member->disk].add(member->block);
                            }
                            return true;
                          }));

  // Segments that no index entry ever named: written, but never flushed.
  next_segment_ = segments_.empty() ? 1 : segments_.rbegin()->first + 1;
  std::error_code error;
  for (const auto& file : entries_of(folder_ + "/segments", error)) {
    // Whatever else somebody put there is not ours.
    const auto number = segment_number(file.filename().string());
    if (number && !segments_.contains(*number)) std::filesystem::remove(file, error);
  }
  index_ = std::move(index);
  make_reader();
  is_base_unsure_ = stored && points_.empty();
  Status finished = load_damage();
  if (finished && replica_.rewind_to != 0) finished = finish_rewind();
  if (!finished) close();  // Or the next call would take it for loaded.
  return finished;
}

Status Item::commit(store::Batch& batch) {
  // The segment records below count what is not flushed yet: both go together or in this order.
  if (&batch != &unflushed_) FARSIDE_TRY(flush_locked());
  for (const std::uint32_t number : changed_segments_) {
    batch.put(kSegments, number_key(number, 4), encode(segments_[number]));
  }
  const Status committed = index_->commit(batch);
  if (!committed) {
    // Whether the batch is on disk is unknown; memory no longer tells the truth either way.
    close();
    return fail(committed.error().in("replica of " + replica_.item));
  }
  changed_segments_.clear();
  batch.clear();
  punch_dead();
  return {};
}

void Item::put_replica(store::Batch& batch) const {
  batch.put(kReplica, kReplica, encode(replica_));
}

std::string Item::name() {
  const std::lock_guard lock(mutex_);
  return replica_.item;
}

std::vector<msg::ReplicaDisk> Item::disks() {
  const std::lock_guard lock(mutex_);
  return replica_.disks;
}

std::string Item::hash_key() {
  const std::lock_guard lock(mutex_);
  return replica_.hash_key;
}

BlockHash Item::block_hash() {
  const std::lock_guard lock(mutex_);
  return hash_;
}

// ---- epochs

std::uint64_t Item::epoch() {
  const std::lock_guard lock(mutex_);
  return replica_.epoch;
}

Status Item::check_epoch(std::uint64_t epoch) const {
  if (epoch >= replica_.epoch) return {};
  return fail(ErrorCode::kStaleEpoch, "replica of " + replica_.item + " is at epoch " +
                                          std::to_string(replica_.epoch) + "; epoch " +
                                          std::to_string(epoch) + " was deposed");
}

Status Item::raise_epoch(std::uint64_t epoch) {
  const std::lock_guard lock(mutex_);
  FARSIDE_TRY(ready());
  FARSIDE_TRY(check_epoch(epoch));
  if (epoch == replica_.epoch) return {};
  replica_.epoch = epoch;
  delta_open_ = false;  // Whoever was appending is of an older epoch now.
  store::Batch batch;
  put_replica(batch);
  return commit(batch);
}

// ---- the delta under way

Result<DeltaState> Item::begin_delta(const DeltaRequest& request) {
  const std::lock_guard lock(mutex_);
  FARSIDE_TRY(ready());
  FARSIDE_TRY(check_epoch(request.epoch));
  if (request.cycle.empty()) return fail(ErrorCode::kInvalidArgument, "a delta needs a cycle id");
  FARSIDE_TRY(check_attempt(request.cycle));
  FARSIDE_TRY(check_journal());
  FARSIDE_TRY(flush_locked());
  const auto& wanted = request.disks.empty() ? disks_now() : request.disks;
  FARSIDE_ASSIGN(auto numbers, place_locked(wanted));
  msg::StoredShape shape{.disks = {}, .definition = request.definition};
  for (std::size_t i = 0; i < wanted.size(); ++i) {
    shape.disks.push_back({.number = numbers[i], .disk = wanted[i]});
  }
  if (!request.keep_any) {
    if (needs_repair_) {
      return fail(ErrorCode::kTrackingLost, "the newest recovery point of " + replica_.item +
                                                " has damaged blocks: all are compared");
    }
    FARSIDE_TRY(check_tracked(shape.disks));
  }
  const bool same = replica_.cycle_epoch == request.epoch &&
                    (replica_.cycle == request.cycle || request.keep_any);
  if (!same) FARSIDE_TRY(discard_locked());
  if (replica_.cycle != request.cycle || replica_.cycle_epoch != request.epoch ||
      replica_.epoch != request.epoch) {
    replica_.cycle = request.cycle;
    replica_.cycle_epoch = request.epoch;
    replica_.epoch = request.epoch;
    store::Batch batch;
    put_replica(batch);
    FARSIDE_TRY(commit(batch));
  }
  for (std::size_t disk = 0; disk < staged_.size(); ++disk) {
    // Of an attempt when the VM had more disks.
    const auto number = static_cast<std::uint16_t>(disk);
    if (std::ranges::find(numbers, number) != numbers.end() || staged_[disk].empty()) continue;
    FARSIDE_TRY(erase_staged(number, nullptr));
  }
  delta_shape_ = std::move(shape);
  delta_open_ = true;
  flushed_at_ = std::chrono::steady_clock::now();
  DeltaState state{.seq = newest_seq() + 1, .numbers = std::move(numbers)};
  for (const BlockSet& set : staged_) state.staged += set.count();
  if (!points_.empty()) {
    state.newest = points_.rbegin()->second.point;
    state.newest_attempt = points_.rbegin()->second.attempt;
  }
  return state;
}

// What vanished with its volume must not be begun anew where it was.
Status Item::check_here() const {
  std::error_code error;
  if (std::filesystem::exists(folder_ + "/index", error)) return {};
  return fail(ErrorCode::kUnavailable, "the replica's folder " + folder_ + " is gone",
              "mount the volume or bring its files back; replication goes on by itself");
}

Status Item::check_reserve(std::uint64_t bytes) const {
  const std::uint64_t free = limits_.free_bytes(folder_);
  if (free >= limits_.reserve_bytes && free - limits_.reserve_bytes >= bytes) return {};
  return fail(ErrorCode::kNoSpace,
              "the volume of " + folder_ + " has " + std::to_string(free >> 20U) + " MiB left; " +
                  std::to_string(limits_.reserve_bytes >> 20U) + " MiB stay reserved",
              "free space on the volume; replication goes on by itself");
}

Status Item::append(std::span<const BlockWrite> writes) {
  const std::vector<msg::ReplicaDisk> shape = disks();
  const BlockHash hash = block_hash();
  // Of packed blocks: a vector that is resized would be filled with zeros first.
  const auto packed =
      static_cast<std::size_t>(std::ranges::count(writes, Codec::kZstd, &BlockWrite::codec));
  const auto unpacked = std::make_unique_for_overwrite<char[]>(packed * kBlockBytes);
  std::size_t unpacked_blocks = 0;
  std::vector<std::string_view> plains;
  plains.reserve(writes.size());
  for (const BlockWrite& write : writes) {
    if (write.disk >= shape.size() || write.block >= blocks_of(shape[write.disk].bytes)) {
      return fail(ErrorCode::kInvalidArgument, "block " + std::to_string(write.block) +
                                                   " of disk number " + std::to_string(write.disk) +
                                                   " does not exist in this replica");
    }
    bool good = write.codec != Codec::kBase && write.payload.size() <= kBlockBytes;
    if (good && write.codec == Codec::kZero) {
      good = write.payload.empty() && write.hash == zero_hash();
    } else if (good && write.codec == Codec::kRaw) {
      good = write.payload.size() == kBlockBytes && hash(write.payload) == write.hash;
    } else if (good) {
      const std::span<char> plain(&unpacked[kBlockBytes * unpacked_blocks++], kBlockBytes);
      good = unpack(write.codec, write.payload, plain) &&
             hash({plain.data(), plain.size()}) == write.hash;
      plains.emplace_back(plain.data(), plain.size());
    }
    if (write.codec != Codec::kZstd) plains.push_back(write.payload);
    // Beyond the end of its disk a block has zeros: a base disk has no room for anything else.
    const std::uint32_t length = length_of(shape[write.disk].bytes, write.block);
    good = good && (plains.back().empty() || is_zero(plains.back().substr(length)));
    if (!good) {
      return fail(ErrorCode::kCorrupt,
                  "block " + std::to_string(write.block) + " of disk " + shape[write.disk].name +
                      " arrived damaged: its hash differs from the one taken at the source",
                  "it is sent again; if this repeats, check the memory of both hosts");
    }
  }

  const std::lock_guard lock(mutex_);
  FARSIDE_TRY(ready());
  if (!delta_open_) {
    FARSIDE_TRY(check_epoch(replica_.cycle_epoch));
    return fail(ErrorCode::kConflict, "no delta of " + replica_.item + " is under way");
  }
  FARSIDE_TRY(check_here());
  FARSIDE_TRY(check_reserve(0));
  for (std::size_t i = 0; i < writes.size(); ++i) {
    FARSIDE_TRY(write_one(writes[i], plains[i], newest_seq() + 1));
  }
  FARSIDE_TRY(check_delta_fits());
  if (sealed_ && sealed_->synced.wait_for(std::chrono::seconds(0)) == std::future_status::ready) {
    FARSIDE_TRY(settle());
  }
  // A slow link fills a batch slowly; what a crash may cost is bounded in time too.
  if (unflushed_bytes_ < limits_.flush_bytes &&
      unflushed_.operations().size() < kUnflushedOperationsMax &&
      std::chrono::steady_clock::now() - flushed_at_ < limits_.flush_every) {
    return {};
  }
  FARSIDE_TRY(settle());  // If the volume is slower than the source, this makes the source wait.
  return seal();
}

Result<SharedBase> Item::base(std::uint16_t disk) {
  auto& base = bases_[disk];
  if (base == nullptr) {
    FARSIDE_ASSIGN(base, limits_.bases->open(folder_, replica_.bases[disk]));
  }
  return base;
}

Status Item::write_one(const BlockWrite& write, std::string_view plain, std::uint64_t seq) {
  const BlockKey key{.disk = write.disk, .block = write.block, .seq = seq};
  if (staged_[write.disk].has(write.block)) {  // Sent again: the older payload is dead.
    FARSIDE_TRY(flush_locked());
    BlockSet one(staged_[write.disk].size());
    one.add(write.block);
    FARSIDE_TRY(erase_staged(write.disk, &one));
  }
  BlockEntry entry{.codec = Codec::kZero, .hash = write.hash};
  if (write.codec != Codec::kZero && points_.empty()) {
    // Nobody can read anything yet: the first delta goes where its blocks would be folded to.
    FARSIDE_ASSIGN(const auto file, base(write.disk));
    dirty_bases_.insert(write.disk);
    const std::uint32_t length = length_of(replica_.disks[write.disk].bytes, write.block);
    const bool was_unsure = std::exchange(is_base_unsure_, true);
    FARSIDE_TRY(file->write_at(std::uint64_t{write.block} * kBlockBytes, plain.substr(0, length)));
    is_base_unsure_ = was_unsure;
    entry.codec = Codec::kBase;
    unflushed_bytes_ += plain.size();
  } else if (write.codec != Codec::kZero) {
    if (!writer_.is_open() || writer_.bytes() >= limits_.segment_bytes) {
      if (writer_.is_dirty()) {
        FARSIDE_ASSIGN(File full, writer_.take_dirty());
        full_segments_.push_back(std::move(full));
      }
      FARSIDE_ASSIGN(writer_, SegmentWriter::create(folder_, next_segment_));
      ++next_segment_;
    }
    FARSIDE_ASSIGN(entry, writer_.append(key, write.codec, write.payload, kBlockBytes, write.hash));
    account(entry, +1);
    segments_[entry.segment].bytes = writer_.bytes();
  }
  unflushed_.put(kBlocks, to_key(key), to_value(entry));
  unflushed_.put(kDeltas, to_member_key(key), "");
  unflushed_bytes_ += entry.stored;
  replica_.cycle_bytes += entry.stored;
  staged_[write.disk].add(write.block);
  return {};
}

void Item::account(const BlockEntry& entry, int sign) {
  if (entry.codec != Codec::kRaw && entry.codec != Codec::kZstd) return;
  msg::StoredSegment& segment = segments_[entry.segment];
  const std::uint64_t bytes = kRecordHeaderBytes + entry.stored;
  if (sign > 0) {
    ++segment.live_records;
    segment.live_bytes += bytes;
  } else {
    segment.live_records -= std::min<std::uint64_t>(segment.live_records, 1);
    segment.live_bytes -= std::min(segment.live_bytes, bytes);
  }
  changed_segments_.insert(entry.segment);
}

Status Item::flush() {
  const std::lock_guard lock(mutex_);
  FARSIDE_TRY(ready());
  return flush_locked();
}

// All files with payload that was not synced since the last call.
Result<Item::Dirty> Item::take_dirty() {
  Dirty dirty{.segments = std::exchange(full_segments_, {}), .bases = {}};
  if (writer_.is_dirty()) {
    FARSIDE_ASSIGN(File file, writer_.take_dirty());
    dirty.segments.push_back(std::move(file));
  }
  for (const std::uint16_t disk : dirty_bases_) dirty.bases.push_back(bases_[disk]);
  dirty_bases_.clear();
  return dirty;
}

Status Item::seal() {
  FARSIDE_ASSERT(!sealed_);
  auto dirty = take_dirty();
  if (!dirty) {
    close();
    return fail(dirty.error());
  }
  put_replica(unflushed_);
  for (const std::uint32_t number : changed_segments_) {
    unflushed_.put(kSegments, number_key(number, 4), encode(segments_[number]));
  }
  changed_segments_.clear();
  sealed_.emplace(Sealed{.batch = std::exchange(unflushed_, {}),
                         .synced = std::async(std::launch::async, [dirty = std::move(*dirty)] {
                           return dirty.sync();
                         })});
  unflushed_bytes_ = 0;
  flushed_at_ = std::chrono::steady_clock::now();
  return {};
}

Status Item::settle() {
  if (!sealed_) return {};
  const Status synced = sealed_->synced.get();
  if (!synced) {
    close();  // After a failed sync nobody knows which of the pages reached the disk.
    return synced;
  }
  const Status committed = index_->commit(sealed_->batch);
  if (!committed) {
    close();
    return fail(committed.error().in("replica of " + replica_.item));
  }
  sealed_.reset();
  return {};
}

Status Item::flush_locked() {
  FARSIDE_TRY(settle());
  if (unflushed_.empty()) return {};
  const auto dirty = take_dirty();
  const Status synced = dirty ? dirty->sync() : fail(dirty.error());
  if (!synced) {
    close();
    return synced;
  }
  put_replica(unflushed_);
  FARSIDE_TRY(commit(unflushed_));
  unflushed_bytes_ = 0;
  flushed_at_ = std::chrono::steady_clock::now();
  return {};
}

Result<BlockSet> Item::staged(std::uint16_t disk) {
  const std::lock_guard lock(mutex_);
  FARSIDE_TRY(ready());
  if (disk >= staged_.size()) return fail(ErrorCode::kInvalidArgument, "no such disk");
  return staged_[disk];
}

void Item::erase_version(store::Batch& batch, const Version& version) {
  erase_block(batch, version.key);
  batch.erase(kDeltas, to_member_key(version.key));
  account(version.entry, -1);
  dead_.push_back(version.entry);
}

Status Item::erase_staged(std::uint16_t disk, const BlockSet* only) {
  const std::uint64_t seq = newest_seq() + 1;
  const BlockSet victims = only == nullptr ? staged_[disk] : staged_[disk] & *only;
  store::Batch batch;
  std::vector<std::uint64_t> erased;
  std::vector<std::uint64_t> dead;  // Of a first delta: their bytes lie in the base.
  const auto flush_batch = [&]() -> Status {
    put_replica(batch);
    FARSIDE_TRY(commit(batch));
    for (const std::uint64_t block : erased) staged_[disk].remove(block);
    erased.clear();
    return punch_base(disk, std::exchange(dead, {}));
  };
  for (auto block = victims.next(0); block; block = victims.next(*block + 1)) {
    const BlockKey key{.disk = disk, .block = static_cast<std::uint32_t>(*block), .seq = seq};
    FARSIDE_ASSIGN(const std::optional<Version> version,
                   reader_->find(disk, static_cast<std::uint32_t>(*block), seq));
    if (version && version->key == key) {
      erase_version(batch, *version);
      if (version->entry.codec == Codec::kBase) {
        // Its bytes stay in the base disk, which others may read without this index.
        batch.put(kBlocks, to_key(key), to_value({.codec = Codec::kZero, .hash = zero_hash()}));
        dead.push_back(*block);
      }
      replica_.cycle_bytes -= std::min<std::uint64_t>(replica_.cycle_bytes, version->entry.stored);
    } else {
      batch.erase(kDeltas, to_member_key(key));
    }
    erased.push_back(*block);
    if (erased.size() >= kEraseBatch) FARSIDE_TRY(flush_batch());
  }
  return erased.empty() ? Status() : flush_batch();
}

// After the index has called them zeros.  What a crash in between leaves goes before the first
// point is made: see clean_base().
Status Item::punch_base(std::uint16_t disk, const std::vector<std::uint64_t>& blocks) {
  if (blocks.empty()) return {};
  const bool was_unsure = std::exchange(is_base_unsure_, true);
  FARSIDE_ASSIGN(const auto file, base(disk));
  dirty_bases_.insert(disk);
  for (const std::uint64_t block : blocks) {
    FARSIDE_TRY(file->punch(block * kBlockBytes, length_of(replica_.disks[disk].bytes, block)));
  }
  is_base_unsure_ = was_unsure;
  return {};
}

Status Item::unstage(std::uint16_t disk, const BlockSet& blocks) {
  const std::lock_guard lock(mutex_);
  FARSIDE_TRY(ready());
  if (disk >= staged_.size()) return fail(ErrorCode::kInvalidArgument, "no such disk");
  FARSIDE_TRY(flush_locked());
  return erase_staged(disk, &blocks);
}

Status Item::discard_delta() {
  const std::lock_guard lock(mutex_);
  FARSIDE_TRY(ready());
  delta_open_ = false;
  return discard_locked();
}

Status Item::discard_locked() {
  // What was never flushed is simply forgotten.
  if (sealed_ || !unflushed_.empty()) FARSIDE_TRY(load());
  for (std::size_t disk = 0; disk < staged_.size(); ++disk) {
    FARSIDE_TRY(erase_staged(static_cast<std::uint16_t>(disk), nullptr));
  }
  replica_.cycle.clear();
  replica_.cycle_bytes = 0;
  store::Batch batch;
  put_replica(batch);
  FARSIDE_TRY(commit(batch));
  return reclaim();
}

// A source whose clock runs back, or ahead of ours, is believed in all but the time: its point has
// that of its arrival, so that replication goes on and the list of points stays one of times.
msg::RecoveryPoint Item::point_from(const PointFacts& facts) const {
  constexpr std::int64_t kAheadMax = std::int64_t{5} * 60 * 1'000'000;
  msg::RecoveryPoint point{.seq = newest_seq() + 1,
                           .captured_at = facts.captured_at,
                           .app_consistent = facts.app_consistent,
                           .bytes = replica_.cycle_bytes,
                           .epoch = facts.epoch,
                           .arrived_at = facts.arrived_at};
  const bool runs_back =
      !points_.empty() && facts.captured_at < points_.rbegin()->second.point.captured_at;
  if (facts.captured_at > facts.arrived_at + kAheadMax || runs_back) {
    point.captured_at = facts.arrived_at;
    point.claimed_at = facts.captured_at;
  }
  return point;
}

Result<msg::RecoveryPoint> Item::commit_delta(const PointFacts& facts) {
  const std::lock_guard lock(mutex_);
  FARSIDE_TRY(ready());
  FARSIDE_TRY(check_epoch(facts.epoch));
  FARSIDE_TRY(check_attempt(facts.attempt));
  if (!delta_open_) {
    return fail(ErrorCode::kConflict, "no delta of " + replica_.item + " is under way");
  }
  std::uint64_t blocks = 0;
  for (const BlockSet& set : staged_) blocks += set.count();
  if (blocks != facts.blocks) {
    return fail(ErrorCode::kConflict, "the delta of " + replica_.item + " consists of " +
                                          std::to_string(facts.blocks) + " blocks, but " +
                                          std::to_string(blocks) + " are here");
  }
  if (!delta_shape_.definition.empty() && !is_kept(delta_shape_.definition)) {
    return fail(ErrorCode::kConflict, "the definition of the VM of " + replica_.item +
                                          " is not here; the source sends it with its next try");
  }
  if (points_.empty() && is_base_unsure_ && limits_.bases->are_read_directly()) {
    FARSIDE_TRY(clean_base());
  }
  const std::uint32_t shape = shape_of_delta(unflushed_);
  const msg::StoredPoint point{
      .point = point_from(facts), .attempt = facts.attempt, .blocks = blocks, .shape = shape};
  // The payload is synced first; then this one batch makes the delta visible, whole.
  const msg::StoredReplica before = replica_;
  replica_.cycle.clear();
  replica_.cycle_bytes = 0;
  if (points_.empty()) replica_.base_is_exact = !is_base_unsure_;
  unflushed_.put(kPoints, number_key(point.point.seq, 8), encode(point));
  const Status flushed = flush_locked();
  if (!flushed) {
    replica_ = before;
    return fail(flushed.error());
  }
  shapes_[shape] = delta_shape_;
  points_[point.point.seq] = point;
  journal_.on_disk += point.point.bytes;
  journal_.must_stay += point.point.bytes;
  journal_.refused = 0;
  delta_open_ = false;
  for (std::size_t i = 0; i < staged_.size(); ++i) staged_[i] = BlockSet(staged_[i].size());
  bases_.clear();
  // The point is durable, whatever is known of damage: unknown counts as damaged.
  if (needs_repair_) needs_repair_ = sees_damage().value_or(true);
  return point.point;
}

// ---- reading

std::vector<msg::RecoveryPoint> Item::points() {
  const std::lock_guard lock(mutex_);
  std::vector<msg::RecoveryPoint> out;
  for (const auto& [seq, stored] : points_) out.push_back(stored.point);
  return out;
}

std::vector<msg::RecoveryPoint> Item::newest_points(std::size_t count) {
  const std::lock_guard lock(mutex_);
  std::vector<msg::RecoveryPoint> out;
  out.reserve(std::min(count, points_.size()));
  for (auto at = points_.rbegin(); at != points_.rend() && out.size() < count; ++at) {
    out.push_back(at->second.point);
  }
  std::ranges::reverse(out);
  return out;
}

msg::RecoveryPoint Item::newest() {
  const std::lock_guard lock(mutex_);
  return points_.empty() ? msg::RecoveryPoint{} : points_.rbegin()->second.point;
}

Result<std::vector<std::uint64_t>> Item::newest_hashes(std::uint16_t disk, std::uint32_t first,
                                                       std::uint32_t count) {
  const std::lock_guard lock(mutex_);
  FARSIDE_TRY(ready());
  if (disk >= replica_.disks.size() ||
      std::uint64_t{first} + count > blocks_of(replica_.disks[disk].bytes)) {
    return fail(ErrorCode::kInvalidArgument, "no such blocks");
  }
  std::vector<std::uint64_t> hashes(count, zero_hash());
  FARSIDE_TRY(reader_->for_each(disk, newest_seq() + 1, first, std::uint64_t{first} + count,
                                [&](const Version& version) {
                                  hashes[version.key.block - first] = version.entry.hash;
                                  return true;
                                }));
  return hashes;
}

Status Item::check_point(std::uint64_t seq) const {
  if (points_.contains(seq)) return {};
  return fail(ErrorCode::kNotFound, "no point " + std::to_string(seq) + " of " + replica_.item);
}

Status Item::read(std::uint16_t disk, std::uint64_t seq, std::uint64_t offset, std::span<char> to) {
  const std::lock_guard lock(mutex_);
  FARSIDE_TRY(ready());
  FARSIDE_TRY(check_point(seq));
  FARSIDE_ASSIGN(const msg::StoredShape* const shape, shape_at(seq));
  const auto at = std::ranges::find(shape->disks, disk, &msg::PointDisk::number);
  if (at == shape->disks.end()) return fail(ErrorCode::kInvalidArgument, "no such disk");
  if (offset > at->disk.bytes || to.size() > at->disk.bytes - offset) {
    return fail(ErrorCode::kInvalidArgument, "read beyond the end of disk " + at->disk.name);
  }
  return reader_->read(disk, seq, offset, to);
}

// ---- pins

bool Item::is_pinned(std::uint64_t seq) const {
  return is_held(seq) ||
         std::ranges::any_of(pins_, [&](const auto& pin) { return pin.second.seq == seq; });
}

Status Item::pin(const std::string& view, std::uint64_t seq) {
  const std::lock_guard lock(mutex_);
  FARSIDE_TRY(ready());
  if (view.empty() || view.find('/') != std::string::npos || view.starts_with('.')) {
    return fail(ErrorCode::kInvalidArgument, "'" + view + "' is no name of a view");
  }
  if (!points_.contains(seq)) {
    return fail(ErrorCode::kNotFound, "no point " + std::to_string(seq) + " of " + replica_.item,
                "list the recovery points of the item and choose one of them");
  }
  const auto old = pins_.find(view);
  if (old != pins_.end() && old->second.seq != seq) {
    return fail(ErrorCode::kConflict, "view " + view + " is open at point " +
                                          std::to_string(old->second.seq) + " already");
  }
  const std::string frozen = folder_ + "/views/" + view + "/index";
  if (old == pins_.end()) {
    const msg::StoredPin pin{.seq = seq, .last_segment = next_segment_ - 1};
    store::Batch batch;
    batch.put(kPins, view, encode(pin));
    FARSIDE_TRY(commit(batch));
    pins_[view] = pin;
  } else {
    std::error_code error;
    if (std::filesystem::exists(frozen, error)) return {};
    if (error) return fail(from_errno(error.value(), "look into " + frozen));
  }
  FARSIDE_TRY(make_folders(folder_ + "/views/" + view));
  return index_->checkpoint(frozen);
}

Status Item::unpin(const std::string& view) {
  const std::lock_guard lock(mutex_);
  FARSIDE_TRY(ready());
  if (!pins_.contains(view)) return {};
  std::error_code error;
  std::filesystem::remove_all(folder_ + "/views/" + view, error);
  if (error) return fail(from_errno(error.value(), "remove view " + view));
  store::Batch batch;
  batch.erase(kPins, view);
  FARSIDE_TRY(commit(batch));
  pins_.erase(view);
  return reclaim();
}

std::map<std::string, std::uint64_t> Item::pins() {
  const std::lock_guard lock(mutex_);
  std::map<std::string, std::uint64_t> out;
  for (const auto& [view, pin] : pins_) out[view] = pin.seq;
  return out;
}

Usage Item::usage() {
  const std::lock_guard lock(mutex_);
  Usage usage;
  for (const auto& [number, segment] : segments_) {
    usage.journal_bytes += used_bytes(segment_path(folder_, number));
    usage.live_bytes += segment.live_bytes;
  }
  for (std::size_t disk = 0; disk < replica_.disks.size(); ++disk) {
    if (replica_.bases[disk].empty()) continue;
    if (const auto open = base(static_cast<std::uint16_t>(disk))) {
      usage.base_bytes += (*open)->used_bytes();
    }
  }
  usage.points = points_.size();
  usage.dropped = dropped_.size();
  if (!points_.empty()) {
    usage.oldest_at = static_cast<std::uint64_t>(points_.begin()->second.point.captured_at);
  }
  return usage;
}

}  // namespace farside::replica
