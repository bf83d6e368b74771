// What points consist of: which disks, and the VM around them.
//
// A source's disk keeps its number as long as it is itself, so that its blocks need not be sent
// again when it is called otherwise; a disk that is another gets another number, and older points
// keep what they had.
#include <algorithm>
#include <filesystem>
#include <iterator>

#include "common/base/folder.h"
#include "common/base/log.h"
#include "services/agent/replica_store/definition.h"
#include "services/agent/replica_store/item.h"

namespace farside::replica {
namespace {

constexpr std::size_t kDisksMax = 64;     // Of one point.
constexpr std::size_t kNumbersMax = 512;  // Of all that a replica ever had.
// Definitions that no point names: of the delta under way, of attempts before it, and no more.
constexpr std::size_t kUnnamedMax = 4;
constexpr std::uint64_t kDiskBytesMax = std::uint64_t{64} << 40U;  // What a VHDX may have.
// Of all disks that a replica has points of: what is staged of them is kept by a bit for each block
// in memory, 512 MiB at most.
constexpr std::uint64_t kReplicaBytesMax = std::uint64_t{256} << 40U;

std::string definition_path(const std::string& folder, const std::string& digest) {
  return folder + "/definitions/" + digest;
}

Status check_disks(const std::vector<msg::ReplicaDisk>& disks) {
  std::set<std::string> names;
  for (const msg::ReplicaDisk& disk : disks) {
    // It names files, exports and elements of XML.
    constexpr const char* kLetters =
        "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789._-";
    const bool good = !disk.name.empty() && disk.name.size() <= 64 && disk.name[0] != '.' &&
                      disk.name.find_first_not_of(kLetters) == std::string::npos &&
                      names.insert(disk.name).second;
    if (good) continue;
    return fail(ErrorCode::kInvalidArgument,
                "'" + disk.name + "' is no name of a disk, or there are two of it");
  }
  const auto huge = std::ranges::find_if(
      disks, [](const msg::ReplicaDisk& disk) { return disk.bytes > kDiskBytesMax; });
  if (huge != disks.end()) {
    return fail(ErrorCode::kTooLarge, "disk " + huge->name + " has " + std::to_string(huge->bytes) +
                                          " bytes; at most 64 TiB are replicated");
  }
  std::set<std::string> ids;
  for (const msg::ReplicaDisk& disk : disks) {
    if (disk.id.empty() || ids.insert(disk.id).second) continue;
    return fail(ErrorCode::kUnsupported,
                "two disks of one identity, '" + disk.id +
                    "', cannot be told apart from point to "
                    "point",
                "give one of them a serial number (libvirt) or an identifier "
                "(Set-VHD -ResetDiskIdentifier) of its own");
  }
  if (disks.size() > kDisksMax) {
    return fail(ErrorCode::kTooLarge, "a VM of " + std::to_string(disks.size()) +
                                          " disks; at most " + std::to_string(kDisksMax) +
                                          " are replicated");
  }
  return {};
}

Error sum_too_large(const std::string& item, std::uint64_t bytes) {
  return {.code = ErrorCode::kTooLarge,
          .what = "the disks of the replica of " + item + " and of its points have " +
                  std::to_string(bytes >> 40U) + " TiB; at most 256 are replicated",
          .advice =
              "if the VM's disks are as large as they should be, disable protection of the "
              "item and enable it again"};
}

}  // namespace

std::vector<msg::ReplicaDisk> Item::disks_now() const {
  std::vector<msg::ReplicaDisk> out;
  if (points_.empty()) {
    std::ranges::copy_if(replica_.disks, std::back_inserter(out),
                         [](const msg::ReplicaDisk& disk) { return !disk.name.empty(); });
    return out;
  }
  for (const msg::PointDisk& each : shapes_.at(points_.rbegin()->second.shape).disks) {
    out.push_back(each.disk);
  }
  return out;
}

// The number of a disk of this identity, or of the same name, that is not smaller now.
std::optional<std::uint16_t> Item::number_for(const msg::ReplicaDisk& disk, bool by_name,
                                              const std::set<std::uint16_t>& taken) const {
  for (std::size_t i = replica_.disks.size(); i-- > 0;) {  // The newest first.
    const msg::ReplicaDisk& old = replica_.disks[i];
    const auto number = static_cast<std::uint16_t>(i);
    if (taken.contains(number) || disk.bytes < old.bytes) continue;
    if (by_name ? old.name == disk.name : !disk.id.empty() && old.id == disk.id) return number;
  }
  return std::nullopt;
}

// Its number may have been another's that left for good.
Result<std::uint16_t> Item::add_disk(const msg::ReplicaDisk& disk) {
  const auto free = std::ranges::find(replica_.bases, "");
  const auto number = static_cast<std::size_t>(free - replica_.bases.begin());
  if (number == kNumbersMax) {
    return fail(ErrorCode::kTooLarge,
                "the replica of " + replica_.item + " has points of " +
                    std::to_string(kNumbersMax) + " different disks",
                "disable protection of the item and enable it again");
  }
  std::uint64_t total = disk.bytes;
  for (const msg::ReplicaDisk& each : replica_.disks) total += each.bytes;
  if (total > kReplicaBytesMax) return fail(sum_too_large(replica_.item, total));
  std::string base = disk.name;
  if (std::ranges::find(replica_.bases, base) != replica_.bases.end()) {
    base += "-" + std::to_string(number);
  }
  // One of that name that a crash left of a disk that went.
  FARSIDE_TRY(limits_.bases->remove_disk(folder_, base));
  FARSIDE_TRY(limits_.bases->create(folder_, base, disk.bytes));
  if (number == replica_.bases.size()) {
    replica_.disks.emplace_back();
    replica_.bases.emplace_back();
    staged_.emplace_back();
  }
  replica_.disks[number] = disk;
  replica_.bases[number] = std::move(base);
  staged_[number] = BlockSet(blocks_of(disk.bytes));
  return static_cast<std::uint16_t>(number);
}

Status Item::place(const std::vector<msg::ReplicaDisk>& disks) {
  const std::lock_guard lock(mutex_);
  FARSIDE_TRY(ready());
  FARSIDE_TRY(place_locked(disks));
  return {};
}

// Returns the number of each.  What failed half way is forgotten: the next call reads the index
// anew.
Result<std::vector<std::uint16_t>> Item::place_locked(const std::vector<msg::ReplicaDisk>& disks) {
  FARSIDE_TRY(check_disks(disks));
  auto placed = place_all(disks);
  if (!placed) close();
  return placed;
}

Result<std::vector<std::uint16_t>> Item::place_all(const std::vector<msg::ReplicaDisk>& disks) {
  std::vector<std::optional<std::uint16_t>> numbers(disks.size());
  std::set<std::uint16_t> taken;
  for (const bool by_name : {false, true}) {
    for (std::size_t i = 0; i < disks.size(); ++i) {
      if (numbers[i]) continue;
      numbers[i] = number_for(disks[i], by_name, taken);
      if (numbers[i]) taken.insert(*numbers[i]);
    }
  }

  std::uint64_t total = 0;
  for (std::size_t i = 0; i < replica_.disks.size(); ++i) {
    if (!taken.contains(static_cast<std::uint16_t>(i))) total += replica_.disks[i].bytes;
  }
  for (const msg::ReplicaDisk& disk : disks) total += disk.bytes;
  if (total > kReplicaBytesMax) return fail(sum_too_large(replica_.item, total));
  const msg::StoredReplica before = replica_;
  for (std::size_t i = 0; i < disks.size(); ++i) {
    if (numbers[i] && disks[i].bytes > replica_.disks[*numbers[i]].bytes) {
      const auto grown =
          limits_.bases->create(folder_, replica_.bases[*numbers[i]], disks[i].bytes);
      if (!grown && grown.error().code != ErrorCode::kUnsupported) return fail(grown.error());
      // Where bases cannot grow, a larger disk is another one.
      if (grown) {
        staged_[*numbers[i]].grow(blocks_of(disks[i].bytes));
      } else {
        numbers[i].reset();
      }
    }
    if (!numbers[i]) {
      FARSIDE_ASSIGN(numbers[i], add_disk(disks[i]));
      taken.insert(*numbers[i]);
    }
    replica_.disks[*numbers[i]] = disks[i];
  }
  std::vector<std::uint16_t> out;
  for (const auto& number : numbers) out.push_back(*number);
  if (replica_ == before && index_->get(kReplica, kReplica).value_or(std::nullopt)) return out;
  FARSIDE_TRY(sync_folder(folder_));
  store::Batch batch;
  put_replica(batch);
  FARSIDE_TRY(commit(batch));
  make_reader();
  return out;
}

// Changes count from the newest point: a disk that it lacks has nothing they could count from.
Status Item::check_tracked(const std::vector<msg::PointDisk>& disks) const {
  if (points_.empty()) return {};
  const msg::StoredShape& newest = shapes_.at(points_.rbegin()->second.shape);
  for (const msg::PointDisk& each : disks) {
    const auto old = std::ranges::find(newest.disks, each.number, &msg::PointDisk::number);
    if (old != newest.disks.end() && old->disk.id == each.disk.id) continue;
    return fail(ErrorCode::kTrackingLost, "disk " + each.disk.name + " of " + replica_.item +
                                              " is not the one of the newest recovery point");
  }
  return {};
}

std::uint32_t Item::shape_of_delta(store::Batch& batch) {
  if (!points_.empty()) {
    const std::uint32_t newest = points_.rbegin()->second.shape;
    if (shapes_.at(newest) == delta_shape_) return newest;
  }
  const std::uint32_t number = shapes_.empty() ? 1 : shapes_.rbegin()->first + 1;
  batch.put(kShapes, number_key(number, 4), encode(delta_shape_));
  return number;
}

Result<const msg::StoredShape*> Item::shape_at(std::uint64_t seq) const {
  FARSIDE_TRY(check_point(seq));
  const auto found = shapes_.find(points_.at(seq).shape);
  if (found != shapes_.end()) return &found->second;
  return fail(ErrorCode::kCorrupt, "the index of " + replica_.item + " lacks what point " +
                                       std::to_string(seq) + " consists of");
}

Result<std::vector<Item::DiskAt>> Item::disks_at(std::uint64_t seq) {
  const std::lock_guard lock(mutex_);
  FARSIDE_TRY(ready());
  FARSIDE_ASSIGN(const msg::StoredShape* const shape, shape_at(seq));
  std::vector<DiskAt> out;
  for (const msg::PointDisk& each : shape->disks) {
    if (each.number >= replica_.bases.size()) {
      return fail(ErrorCode::kCorrupt, "the index of " + replica_.item + " holds a broken shape");
    }
    out.push_back({.number = each.number, .disk = each.disk, .base = replica_.bases[each.number]});
  }
  return out;
}

Result<std::string> Item::definition_digest_at(std::uint64_t seq) {
  const std::lock_guard lock(mutex_);
  FARSIDE_TRY(ready());
  FARSIDE_ASSIGN(const msg::StoredShape* const shape, shape_at(seq));
  return shape->definition;
}

Result<msg::VmDefinition> Item::definition_at(std::uint64_t seq) {
  FARSIDE_ASSIGN(const std::string digest, definition_digest_at(seq));
  if (digest.empty()) return msg::VmDefinition{};
  FARSIDE_ASSIGN(const std::string packed, read_file(definition_path(folder_, digest)));
  return unpack_definition(digest, packed);
}

bool Item::is_kept(const std::string& digest) const {
  std::error_code error;
  return is_definition_digest(digest) &&
         std::filesystem::exists(definition_path(folder_, digest), error);
}

bool Item::has_definition(const std::string& digest) {
  const std::lock_guard lock(mutex_);
  if (!is_kept(digest)) return false;
  if (good_definitions_.contains(digest)) return true;
  const auto packed = read_file(definition_path(folder_, digest));
  if (!packed || !unpack_definition(digest, *packed)) return false;
  good_definitions_.insert(digest);
  return true;
}

Status Item::keep_definition(const std::string& digest, std::string_view packed) {
  if (!is_definition_digest(digest)) {
    return fail(ErrorCode::kInvalidArgument, "'" + digest + "' is no digest of a definition");
  }
  FARSIDE_TRY(unpack_definition(digest, packed));
  const std::lock_guard lock(mutex_);
  FARSIDE_TRY(ready());
  FARSIDE_TRY(check_here());
  FARSIDE_TRY(check_reserve(packed.size()));
  FARSIDE_TRY(make_folders(folder_ + "/definitions"));
  drop_unnamed_definitions(digest, kUnnamedMax - 1);
  FARSIDE_TRY(replace_file(definition_path(folder_, digest), packed));
  return sync_folder(folder_);
}

// All but `digest` and the newest `keep` of those that neither a point nor the delta under way
// names.  Space only: what cannot be removed is tried again with the next.
void Item::drop_unnamed_definitions(const std::string& digest, std::size_t keep) {
  std::set<std::string> named{delta_shape_.definition, digest};
  for (const auto& [number, shape] : shapes_) named.insert(shape.definition);
  std::vector<std::pair<std::filesystem::file_time_type, std::filesystem::path>> unnamed;
  std::error_code error;
  for (const auto& file : entries_of(folder_ + "/definitions", error)) {
    if (named.contains(file.filename().string())) continue;
    std::error_code ignored;
    unnamed.emplace_back(std::filesystem::last_write_time(file, ignored), file);
  }
  if (unnamed.size() <= keep) return;
  std::ranges::sort(unnamed);
  unnamed.resize(unnamed.size() - keep);
  for (const auto& [time, path] : unnamed) {
    std::error_code ignored;
    std::filesystem::remove(path, ignored);
    good_definitions_.erase(path.filename().string());
  }
}

std::set<std::uint16_t> Item::disks_in_use() const {
  std::set<std::uint16_t> used;
  for (const msg::PointDisk& each : delta_shape_.disks) used.insert(each.number);
  for (const auto& [number, shape] : shapes_) {
    for (const msg::PointDisk& each : shape.disks) used.insert(each.number);
  }
  for (std::size_t i = 0; i < staged_.size(); ++i) {
    if (!staged_[i].empty()) used.insert(static_cast<std::uint16_t>(i));
  }
  return used;
}

// The blocks first, then the record, the base last: what a crash leaves of it goes before another
// of its name is made.
Result<bool> Item::give_back_disks(std::uint64_t blocks_max) {
  if (points_.empty() || !pins_.empty()) return false;  // None was used yet; a view reads them.
  const auto used = disks_in_use();
  for (std::size_t i = 0; i < replica_.bases.size(); ++i) {
    const auto number = static_cast<std::uint16_t>(i);
    if (replica_.bases[i].empty() || used.contains(number)) continue;
    FARSIDE_ASSIGN(const bool may_change, limits_.bases->may_change(folder_, false));
    if (!may_change) return false;
    FARSIDE_ASSIGN(const auto versions, versions_in(disk_prefix(number), {}, blocks_max,
                                                    [](const BlockKey&) { return true; }));
    store::Batch batch;
    for (const Version& version : versions) erase_version(batch, version);
    const std::string base = replica_.bases[i];
    if (versions.empty()) {
      replica_.disks[i] = {};
      replica_.bases[i].clear();
      put_replica(batch);
    }
    FARSIDE_TRY(commit(batch));
    if (versions.empty()) {
      bases_.erase(number);
      staged_[i] = {};
      make_reader();
      FARSIDE_TRY(limits_.bases->remove_disk(folder_, base));
    }
    FARSIDE_TRY(reclaim());
    return true;
  }
  return false;
}

Status Item::drop_unused_shapes() {
  std::set<std::uint32_t> used;
  for (const auto& [seq, point] : points_) used.insert(point.shape);
  store::Batch batch;
  for (const auto& [number, shape] : shapes_) {
    if (!used.contains(number)) batch.erase(kShapes, number_key(number, 4));
  }
  if (batch.empty()) return {};
  FARSIDE_TRY(commit(batch));
  std::erase_if(shapes_, [&](const auto& each) { return !used.contains(each.first); });
  drop_unnamed_definitions("", 0);
  return {};
}

}  // namespace farside::replica
