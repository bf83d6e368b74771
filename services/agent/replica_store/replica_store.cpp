#include "services/agent/replica_store/replica_store.h"

#include <algorithm>
#include <filesystem>

#include "common/base/file_name.h"
#include "common/base/folder.h"
#include "common/base/log.h"
#include "common/store/format_version.h"

namespace farside::replica {
namespace {

constexpr std::string_view kGoing = ".removed-";
const store::Format kFormat{.kind = "replicas", .version = 1};

Status check_name(const std::string& item) {
  if (is_id(item)) return {};
  return fail(ErrorCode::kInvalidArgument, "'" + item + "' cannot name a replica",
              "use letters, digits, '.', '_' and '-'");
}

}  // namespace

ReplicaStore::ReplicaStore(std::string root, Limits limits)
    : root_(std::move(root)),
      limits_(std::move(limits)),
      ballast_(root_ + "/.ballast", limits_.ballast_bytes, limits_.reserve_bytes,
               limits_.free_bytes) {
  limits_.give_up_ballast = [ballast = ballast_] { return ballast.give_up(); };
}

Result<std::unique_ptr<ReplicaStore>> ReplicaStore::open(std::string root, Limits limits) {
  FARSIDE_TRY(store::claim_folder(root, kFormat));
  std::error_code error;
  for (const auto& entry : entries_of(root, error)) {
    // A removal that a crash cut short.
    if (entry.filename().string().starts_with(kGoing)) {
      const std::string item = entry.filename().string().substr(kGoing.size());
      if (const Status gone = limits.bases->remove(root + "/" + item); !gone) {
        log::warn("base_disks_not_removed", {{"item", item}, {"error", gone.error()}});
        continue;  // Where they lie is away; the next start tries again.
      }
      std::filesystem::remove_all(entry, error);
    }
  }
  std::unique_ptr<ReplicaStore> store(new ReplicaStore(std::move(root), std::move(limits)));
  // Without a replica the volume may not be mounted, and the room would be another one's.
  FARSIDE_ASSIGN(const auto items, store->list());
  if (!items.empty()) store->keep_ballast();
  return store;
}

Result<SharedItem> ReplicaStore::create(const std::string& item,
                                        const std::vector<msg::ReplicaDisk>& disks) {
  FARSIDE_TRY(check_name(item));
  const std::lock_guard lock(mutex_);
  const auto found = items_.find(item);
  if (found != items_.end()) {
    FARSIDE_TRY(found->second->place(disks));
    return found->second;
  }
  FARSIDE_ASSIGN(auto opened, Item::open(root_ + "/" + item, item, disks, limits_));
  keep_ballast();
  return items_.emplace(item, std::move(opened)).first->second;
}

Result<SharedItem> ReplicaStore::find(const std::string& item) {
  FARSIDE_TRY(check_name(item));
  const std::lock_guard lock(mutex_);
  const auto found = items_.find(item);
  if (found != items_.end()) return found->second;
  FARSIDE_ASSIGN(auto opened, Item::open(root_ + "/" + item, limits_));
  return items_.emplace(item, std::move(opened)).first->second;
}

Result<std::vector<std::string>> ReplicaStore::list() {
  std::vector<std::string> out;
  std::error_code error;
  for (const auto& entry : entries_of(root_, error)) {
    const std::string name = entry.filename().string();
    if (!check_name(name)) continue;
    std::error_code unknown;  // Whoever opens it is told why it cannot be.
    if (std::filesystem::exists(entry / "index", unknown) || unknown) out.push_back(name);
  }
  if (error) return fail(from_errno(error.value(), "list " + root_));
  std::ranges::sort(out);
  return out;
}

Status ReplicaStore::remove(const std::string& item) {
  auto found = find(item);
  if (!found && found.error().code == ErrorCode::kInvalidArgument) return fail(found.error());
  if (found && !(*found)->pins().empty()) {
    return fail(ErrorCode::kConflict, "a view of " + item + " is open",
                "clean up the test failover or complete the failover first");
  }
  const std::lock_guard lock(mutex_);
  if (const auto open = items_.extract(item)) open.mapped()->retire();
  const std::string folder = root_ + "/" + item;
  const std::string going = root_ + "/" + std::string(kGoing) + item;
  std::error_code error;
  if (!std::filesystem::exists(folder, error)) return limits_.bases->remove(folder);
  // Renamed first: from then on the replica is gone, however long erasing takes.
  std::filesystem::remove_all(going, error);
  std::filesystem::rename(folder, going, error);
  if (error) return fail(from_errno(error.value(), "remove " + folder));
  FARSIDE_TRY(sync_folder(root_));
  FARSIDE_TRY(limits_.bases->remove(folder));
  std::filesystem::remove_all(going, error);
  if (error) return fail(from_errno(error.value(), "remove " + going));
  const auto others = list();
  if (others && others->empty()) ballast_.remove();
  return {};
}

}  // namespace farside::replica
