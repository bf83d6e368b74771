// The replica of one protected item: all its disks, at every recovery point that is kept.
//
//   <folder>/base-<disk>.raw      the oldest kept state (sparse), or wherever BaseDisks keeps it
//           /segments/NNNNNNNN.seg  payload of the deltas since (segment.h)
//           /index/                 RocksDB: where each version of each block lies (layout.h)
//           /definitions/<sha256>   definitions of the VM, by content, packed
//           /views/<view>/          frozen index of a view (services/agent/view)
//
// Owns: the folder.  Thread: any; calls are serialised by a mutex, long ones work in slices.
// Invariants
//   * A delta is invisible until commit_delta() wrote its point, in one synced batch, after all of
//     its payload was synced (P2).  Until then its entries carry a seq beyond every point.
//   * What flush() covered survives any crash and is there for the next attempt to resume.
//   * A block counts as received only after its bytes, unpacked, matched the hash that the source
//     took.
//   * An epoch older than the newest seen is refused, also in the middle of a delta.
//   * The state at a kept or pinned point never changes; which disks a point has, how large they
//     are and what the VM was like is part of it, whatever came or went since.
//   * A disk has a number, by which its blocks are kept, as long as it is itself: known by its
//     identity, or else by its name, and never smaller than before.
// After an error of the volume the item drops what it holds in memory and opens itself again at the
// next call; nothing acknowledged is lost.
#pragma once

#include <chrono>
#include <cstdint>
#include <functional>
#include <future>
#include <map>
#include <memory>
#include <mutex>
#include <optional>
#include <set>
#include <span>
#include <string>
#include <vector>

#include "common/base/clock.h"
#include "common/base/result.h"
#include "common/schema/replica.plain.h"
#include "common/schema/types.plain.h"
#include "common/store/rocks_store.h"
#include "services/agent/replica_store/block_set.h"
#include "services/agent/replica_store/digest.h"
#include "services/agent/replica_store/point_reader.h"
#include "services/agent/replica_store/raw_base.h"
#include "services/agent/replica_store/segment.h"

namespace farside::replica {

struct Limits {
  std::uint64_t segment_bytes = std::uint64_t{256} << 20U;
  // At most twice this much is sent again after a crash of the target.
  std::uint64_t flush_bytes = std::uint64_t{32} << 20U;
  std::chrono::milliseconds flush_every{5'000};
  std::uint64_t reserve_bytes = std::uint64_t{256} << 20U;  // Kept free, for the index and others.
  std::function<std::uint64_t(const std::string&)> free_bytes = farside::free_bytes;
  std::uint64_t ballast_bytes = std::uint64_t{128} << 20U;  // Of each volume; see ballast.h.
  std::function<bool()> give_up_ballast{};  // Whether there was any; set by the ReplicaStore.
  std::uint64_t journal_unit = std::uint64_t{1} << 30U;  // Of a policy's journalGibMax.
  BaseDisks* bases = &raw_bases();                       // Outlives the item.
  std::function<std::string()> make_hash_key{};          // For a new replica; none: without one.
};

// What a source calls a cycle or an attempt: kept with each point, in memory too.
inline constexpr std::size_t kAttemptBytesMax = 256;

struct DeltaRequest {
  std::string cycle{};  // One id for all attempts at the same delta.
  std::uint64_t epoch = 0;
  bool keep_any = false;  // Keep blocks of another cycle too: the source will compare hashes.
  std::vector<msg::ReplicaDisk> disks{};  // Of the point; empty: all that the replica has.
  std::string definition{};               // Digest of the VM's definition; empty: none.
};

struct DeltaState {
  std::uint64_t seq = 0;        // The point this delta will become.
  std::uint64_t staged = 0;     // Blocks that are here already.
  msg::RecoveryPoint newest{};  // seq 0: none yet.
  std::string newest_attempt{};
  std::vector<std::uint16_t> numbers{};  // Of the disks that were asked for.
};

struct BlockWrite {
  std::uint16_t disk = 0;
  std::uint32_t block = 0;
  Codec codec = Codec::kRaw;
  std::uint64_t hash = 0;    // Of the plain bytes.
  std::string_view payload;  // Packed; empty for kZero.
};

struct PointFacts {
  std::int64_t captured_at = 0;  // By the source's clock.
  std::int64_t arrived_at = 0;   // By ours.
  bool app_consistent = false;
  std::string attempt{};
  std::uint64_t epoch = 0;
  std::uint64_t blocks = 0;  // That the delta must consist of.
};

struct Usage {
  std::uint64_t journal_bytes = 0;  // That segment files take on the volume.
  std::uint64_t base_bytes = 0;     // That base disks take there.
  std::uint64_t live_bytes = 0;     // Of them still needed.
  std::uint64_t points = 0;
  std::uint64_t dropped = 0;    // Points that went and whose space did not come back yet.
  std::uint64_t oldest_at = 0;  // Micros; 0 = no point.
};

// A volume that cannot be read at all is no damage of so many blocks: one slice marks no more.
inline constexpr int kUnreadableMax = 16;

struct ScrubResult {
  std::string next;  // Where to go on; empty: all seen.
  std::uint64_t blocks = 0;
  std::vector<std::string> mismatches;  // Found now.
};

class Item final {
 public:
  // Creates the replica or opens it, and makes place for those of `disks` that it does not have.
  // Errors: kConflict (another process has it open), kNoSpace, kIo, kCorrupt.
  static Result<std::unique_ptr<Item>> open(std::string folder, std::string item,
                                            const std::vector<msg::ReplicaDisk>& disks,
                                            Limits limits);
  // An existing one.  Errors: kNotFound too.
  static Result<std::unique_ptr<Item>> open(std::string folder, Limits limits);
  ~Item();

  std::string name();
  std::string hash_key();                                    // Of its blocks' hashes; empty: none.
  Status place(const std::vector<msg::ReplicaDisk>& disks);  // As open() does.
  std::vector<msg::ReplicaDisk> disks();  // The place is the number; without a name: free again.

  // Of a kept point.  Errors: kNotFound.
  struct DiskAt {
    std::uint16_t number = 0;
    msg::ReplicaDisk disk{};  // As of the point.
    std::string base{};       // Name of its base disk.
  };
  Result<std::vector<DiskAt>> disks_at(std::uint64_t seq);
  // What the VM was like; an empty definition if the source told none.  Errors: kCorrupt too.
  Result<msg::VmDefinition> definition_at(std::uint64_t seq);
  Result<std::string> definition_digest_at(std::uint64_t seq);

  // By content: `packed` is what pack_definition() made.  Of those that no point names only the
  // newest few stay.  Errors: kCorrupt (not of that digest), kInvalidArgument, kTooLarge, kNoSpace
  // (it would take of the reserve), kIo.
  bool has_definition(const std::string& digest);
  Status keep_definition(const std::string& digest, std::string_view packed);

  std::uint64_t epoch();
  Status raise_epoch(std::uint64_t epoch);  // A lower one is kStaleEpoch, the same is fine.

  // Starts or resumes the delta after the newest point.  Staged blocks are kept if they are of the
  // same cycle and epoch, and of a disk that the point has.  Errors: kTrackingLost (without
  // keep_any: the newest point lacks one of the disks, so that changes cannot count from it),
  // kStaleEpoch, kInvalidArgument, kNoSpace, kIo.
  Result<DeltaState> begin_delta(const DeltaRequest& request);

  // Stages blocks; a block that was staged before is replaced.  Errors: kConflict (no delta under
  // way), kInvalidArgument (no such block), kCorrupt (hash; nothing of this call is staged),
  // kNoSpace (what came before stays), kIo.
  Status append(std::span<const BlockWrite> writes);
  Status flush();

  Result<BlockSet> staged(std::uint16_t disk);
  Status unstage(std::uint16_t disk, const BlockSet& blocks);

  // Errors: kConflict (not that many blocks are staged, or the definition is not here),
  // kInvalidArgument (an attempt of too many bytes), kStaleEpoch, kNoSpace, kIo.
  Result<msg::RecoveryPoint> commit_delta(const PointFacts& facts);
  Status discard_delta();

  std::vector<msg::RecoveryPoint> points();
  std::vector<msg::RecoveryPoint> newest_points(std::size_t count);  // In order of seq.
  msg::RecoveryPoint newest();

  // Of the newest version of each block, staged ones included; for resynchronisation.
  Result<std::vector<std::uint64_t>> newest_hashes(std::uint16_t disk, std::uint32_t first,
                                                   std::uint32_t count);
  Result<std::string> digest_at(std::uint64_t seq);  // By what the index says; see digest.h.
  Status read(std::uint16_t disk, std::uint64_t seq, std::uint64_t offset, std::span<char> to);

  // Every block, in order, whose content at a pinned point may differ from the base disk's; no
  // bytes means zeros.  Others get their turn meanwhile.  An error of `visit` ends it.
  using VisitBlock =
      std::function<Status(std::uint64_t offset, std::uint32_t length, std::string_view bytes)>;
  Status for_each_above_base(std::uint16_t disk, std::uint64_t seq, const VisitBlock& visit);

  // Reads the bytes of every block of the point, while others get their turn, and returns its
  // digest.  Its sums are kept, durably, for verify_since(); the point stays meanwhile and for an
  // hour after.  Damage that is found is marked, as by scrub().  An error of `watch` ends it.
  // Errors: kNotFound, kCorrupt (naming disk and block), kIo, kUnavailable.
  using Watch = std::function<Status(std::uint64_t done, std::uint64_t total)>;  // In bytes.
  Result<std::string> verify(std::uint64_t seq, const Watch& watch);
  // The same of a later point, reading only what came since that one.  Errors: kConflict too
  // (`verified` is not the point that was verified last, or a disk came later).
  Result<std::string> verify_since(std::uint64_t verified, std::uint64_t seq, const Watch& watch);

  // Drops points; their space comes back as consolidate() runs.  Errors: kConflict (the newest, or
  // pinned); dropping an unknown one is fine.
  Status drop_points(const std::vector<std::uint64_t>& seqs);
  Status retain(const msg::Policy& policy, Time now);

  // For the sake of the policy's limit of the journal, once all that was dropped has come back:
  // the oldest point that may go.  Returns whether one went.  begin_delta() and append() hold the
  // limit as it was when this or retain() was called last: kNoSpace.
  Result<bool> make_room(const msg::Policy& policy, Time now);
  // The limit counts from the first delta on that comes after a start, not from the first upkeep.
  Status limit_journal(const msg::Policy& policy, Time now);
  std::optional<Error> journal_fault();    // Why no delta is taken; none: they are.
  std::optional<Error> journal_warning();  // The limit is exceeded, and deltas are taken.

  // Makes `seq` the newest point again: everything later is gone, staged blocks too.  Errors:
  // kNotFound, kConflict (a view is open at a later point).
  Status rewind(std::uint64_t seq);

  // One slice of background work: folds dropped state into the base disk, each block once, and
  // gives space back; up to `blocks_max` with payload, more of those that are work on the index
  // alone.  Returns whether there is more to do.  May be interrupted anywhere.
  Result<bool> consolidate(std::uint64_t blocks_max);
  std::uint64_t take_moved_bytes();  // Payload that consolidate() read and wrote.

  // A block whose payload is damaged costs that block: it is marked, folding and scrub go on, and
  // points that need it cannot read it.  If the newest point is one of them, the next delta has to
  // be a comparison (begin_delta() is kTrackingLost), which replaces it from there on.
  std::uint64_t damaged();                   // Marked versions that some kept point may need.
  bool needs_repair();                       // The newest point needs one of them.
  std::vector<std::string> take_findings();  // What folding found damaged.

  // Verifies definitions, and up to `blocks_max` stored blocks, from `cursor` on ("" = from the
  // start).
  Result<ScrubResult> scrub(const std::string& cursor, std::uint64_t blocks_max);

  // The point stays, and so does every file that reads of it need, until unpin().  Also freezes the
  // index into <folder>/views/<view>/index.  Repeating it with the same point is fine.
  Status pin(const std::string& view, std::uint64_t seq);
  Status unpin(const std::string& view);
  std::map<std::string, std::uint64_t> pins();

  Usage usage();
  const std::string& folder() const { return folder_; }

  // The replica is being erased: files are closed, and every later call is kNotFound.  Whoever
  // still holds the item can no longer reach what another replica may soon have in the same folder.
  void retire();

 private:
  BlockHash block_hash();
  Item(std::string folder, Limits limits) : folder_(std::move(folder)), limits_(limits) {}

  // All below: the mutex is held.
  Status ready();  // Opens what an error closed.  Errors: kNotFound (retired), those of load().
  Status load();
  bool give_up_ballast() const { return limits_.give_up_ballast && limits_.give_up_ballast(); }
  Status commit(store::Batch& batch);  // Adds changed segment records; an error closes the item.
  void close();
  std::uint64_t newest_seq() const { return points_.empty() ? 0 : points_.rbegin()->first; }
  Status flush_locked();
  struct Dirty {  // Written to and not synced.
    std::vector<File> segments;
    std::vector<SharedBase> bases;

    Status sync() const;
  };
  Result<Dirty> take_dirty();
  Status seal();    // Starts to sync what is not flushed; nothing may be sealed already.
  Status settle();  // Waits for what is sealed and adds it to the index.
  Result<SharedBase> base(std::uint16_t disk);
  void make_reader();
  Status write_one(const BlockWrite& write, std::string_view plain, std::uint64_t seq);
  Status erase_staged(std::uint16_t disk, const BlockSet* only);  // nullptr: all.
  Status punch_base(std::uint16_t disk, const std::vector<std::uint64_t>& blocks);
  Status discard_locked();
  // ---- above_base.cpp
  // These take the mutex, in slices: which blocks a point may not have from the base.
  Result<BlockSet> above_by_index(std::uint16_t disk, std::uint64_t blocks, std::uint64_t seq);
  Result<BlockSet> above_by_members(std::uint16_t disk, std::uint64_t blocks, std::uint64_t seq);
  Result<bool> base_is_exact();  // Takes the mutex.
  Status clean_base();
  // ---- shapes.cpp
  Result<std::vector<std::uint16_t>> place_locked(const std::vector<msg::ReplicaDisk>& disks);
  Result<std::vector<std::uint16_t>> place_all(const std::vector<msg::ReplicaDisk>& disks);
  std::optional<std::uint16_t> number_for(const msg::ReplicaDisk& disk, bool by_name,
                                          const std::set<std::uint16_t>& taken) const;
  Result<std::uint16_t> add_disk(const msg::ReplicaDisk& disk);
  std::vector<msg::ReplicaDisk> disks_now() const;
  bool is_kept(const std::string& digest) const;
  Status check_tracked(const std::vector<msg::PointDisk>& disks) const;
  // The number of the shape of the delta under way; the batch gets it if it is new.
  std::uint32_t shape_of_delta(store::Batch& batch);
  Result<const msg::StoredShape*> shape_at(std::uint64_t seq) const;
  // Of a disk that no kept point has, its blocks, its base and its number.  Whether there is more.
  Result<bool> give_back_disks(std::uint64_t blocks_max);
  std::set<std::uint16_t> disks_in_use() const;
  Status drop_unused_shapes();  // And the definitions that only they named.
  void drop_unnamed_definitions(const std::string& digest, std::size_t keep);

  // ---- journal.cpp
  void measure_journal(const msg::Policy& policy, Time now);
  std::uint64_t journal_full_at() const;
  Status check_journal();
  Status check_delta_fits();
  Status too_large() const;

  msg::RecoveryPoint point_from(const PointFacts& facts) const;
  Status drop_locked(const std::vector<std::uint64_t>& seqs);
  Status check_here() const;                        // Errors: kUnavailable.
  Status check_reserve(std::uint64_t bytes) const;  // That many more.  Errors: kNoSpace.
  Status check_epoch(std::uint64_t epoch) const;
  Status check_point(std::uint64_t seq) const;
  void put_replica(store::Batch& batch) const;
  void account(const BlockEntry& entry, int sign);
  void erase_version(store::Batch& batch, const Version& version);
  void punch_dead();

  // ---- damage.cpp
  bool is_damage(const Error& error, const BlockEntry& entry) const;
  bool has_lost(std::uint32_t segment) const;
  void mark_damaged(store::Batch& batch, const Version& version, const Error& why);
  void erase_block(store::Batch& batch, const BlockKey& key);
  Result<bool> is_seen_by(std::uint64_t seq, const BlockKey& key) const;
  Result<bool> is_needed(const BlockKey& key) const;
  Result<bool> sees_damage() const;  // The newest point does.
  Status load_damage();
  Status scrub_definitions();
  Result<ScrubResult> scrub_blocks(const std::string& cursor, std::uint64_t blocks_max);

  // ---- verify.cpp
  struct Pass;  // One verification under way.
  Status verify_disk(const DiskAt& at, Pass& pass);
  Status verify_block(const Version& version, Pass& pass);
  Result<std::optional<std::uint64_t>> read_again(const Version& version, Pass& pass);
  Result<bool> verify_changes(std::uint64_t verified, std::string& cursor, Pass& pass);
  Result<std::map<std::uint16_t, Sum>> verified_sums(std::uint64_t verified);
  Status keep_verified(std::uint64_t seq, const std::map<std::uint16_t, Sum>& sums);
  void hold(std::uint64_t seq, std::chrono::steady_clock::duration time);
  void hold_verified();
  bool is_held(std::uint64_t seq) const;

  std::uint32_t pinned_segments() const;  // Those up to this number must stay as they are.
  Result<bool> fold(std::uint64_t through, std::uint64_t blocks_max);
  Result<bool> consolidate_group(std::uint64_t after, std::uint64_t through,
                                 std::uint64_t blocks_max);
  Result<std::uint64_t> room_to_fold(std::uint64_t blocks_max);
  Result<std::vector<Version>> versions_in(
      const std::string& prefix, const std::string& from, std::uint64_t versions_max,
      const std::function<bool(const BlockKey&)>& is_wanted) const;
  Result<std::vector<Version>> versions_from(const BlockKey& newest, std::uint64_t after) const;
  Result<bool> thin(std::uint64_t members_max);
  Status forget_dropped(std::uint64_t after, std::uint64_t through);
  Status finish_rewind();
  Status reclaim();
  bool is_pinned(std::uint64_t seq) const;

  std::string folder_;
  Limits limits_;
  std::mutex mutex_;
  bool is_retired_ = false;
  std::unique_ptr<store::RocksStore> index_;
  std::shared_ptr<PointReader> reader_;  // A verification goes on reading while it is replaced.
  msg::StoredReplica replica_;
  BlockHash hash_;
  bool is_base_unsure_ = false;  // It may have bytes where the first delta has no data.
  std::map<std::uint64_t, msg::StoredPoint> points_;
  std::map<std::string, msg::StoredPin> pins_;
  std::map<std::uint32_t, msg::StoredShape> shapes_;
  std::set<std::uint64_t> dropped_;
  std::map<std::uint32_t, msg::StoredSegment> segments_;
  std::set<std::uint32_t> changed_segments_;  // Whose record the next batch must carry.
  std::vector<BlockEntry> dead_;  // Erased by the next batch; their space goes back after it.
  SegmentWriter writer_;
  std::uint32_t next_segment_ = 1;
  std::vector<File> full_segments_;            // Not synced yet.
  std::map<std::uint16_t, SharedBase> bases_;  // Open ones.
  std::set<std::uint16_t> dirty_bases_;        // Written by a first delta.

  bool delta_open_ = false;       // begin_delta() was called since the item was opened.
  msg::StoredShape delta_shape_;  // Of the point that the delta will become.
  std::vector<BlockSet> staged_;  // By disk, of seq newest_seq() + 1; flushed or not.
  store::Batch unflushed_;
  std::uint64_t unflushed_bytes_ = 0;
  struct Sealed {  // Its payload is being synced while more arrives; then the index follows.
    store::Batch batch;
    std::future<Status> synced;
  };
  std::optional<Sealed> sealed_;
  std::chrono::steady_clock::time_point flushed_at_{};
  std::set<std::string> damaged_;      // Keys of versions in column "damaged".
  std::vector<std::string> findings_;  // Not taken yet.
  bool needs_repair_ = false;
  std::set<std::string> good_definitions_;  // Verified since the last scrub.
  struct Journal {                          // As measured last.
    std::uint64_t limit = 0;                // 0: none.
    std::uint32_t floor_hours = 0;
    std::uint64_t on_disk = 0;    // Without what a delta under way has; grown with each since.
    std::uint64_t must_stay = 0;  // What points have that do not go for the limit.
    std::uint64_t refused = 0;    // Size of a delta that did not fit; 0: all did.
    bool may_retry = false;       // The next may be smaller, or what changed may fit by now.
    Time measured_at{};
    Time refused_at{};
  };
  Journal journal_;
  struct Walk {  // Of thin(), over the points after `after`, up to `through`.
    std::uint64_t after = 0;
    std::uint64_t through = 0;
    std::uint64_t seq = 0;  // Where it goes on, 0: none is under way ...
    std::string member{};   // ... at this member or after it.
  };
  Walk walk_;
  std::uint64_t moved_bytes_ = 0;  // Not taken yet.
  msg::StoredVerified verified_;   // By the last verify() that ended well.
  std::uint64_t held_ = 0;         // The point of a verification: it stays as if it were pinned ...
  std::chrono::steady_clock::time_point held_until_{};  // ... until then.
};

// The store, a session and an order may be at the same replica, and it may be removed meanwhile:
// whoever is last frees it.
using SharedItem = std::shared_ptr<Item>;

}  // namespace farside::replica
