#include "services/agent/platforms/hyperv/vhdx_bases.h"

#include <fmt/format.h>

#include <algorithm>
#include <filesystem>

#include "common/base/file.h"
#include "services/agent/platforms/hyperv/vhdx/new_image.h"
#include "services/agent/platforms/hyperv/vhdx_base.h"

namespace farside::agent::hyperv {
namespace {

constexpr std::string_view kUnfinished = ".new";
constexpr const char* kKeptBy = "kept-by-vm";
constexpr const char* kStandsOn = "stands-on";

Status create_file(Shares& shares, const std::string& path, const vhdx::NewImage& image,
                   Random& random) {
  FARSIDE_TRY(shares.remove(path));
  FARSIDE_ASSIGN(const auto file, shares.open(path, smb::Access::kCreateNew));
  return vhdx::create(*file, image, random);
}

}  // namespace

VhdxBases::VhdxBases(Shares& shares, std::string folder)
    : shares_(shares), folder_(std::move(folder)) {}

VhdxBases::~VhdxBases() = default;

std::string VhdxBases::replica_path(const std::string& replica_folder) const {
  const std::string name = replica_folder.substr(replica_folder.rfind('/') + 1);
  return join_windows_path(folder_, "replicas\\" + name);
}

std::string VhdxBases::path_of(const std::string& replica_folder, const std::string& disk) const {
  return join_windows_path(replica_path(replica_folder), "base-" + disk + ".vhdx");
}

std::string VhdxBases::vm_folder(const std::string& vm_id) const {
  return join_windows_path(folder_, "vms\\" + vm_id);
}

Result<std::shared_ptr<VhdxBase>> VhdxBases::find(const std::string& path) {
  const std::lock_guard lock(mutex_);
  auto base = open_[path].lock();
  if (base == nullptr) {
    base = std::make_shared<VhdxBase>(shares_, random_, path);
    std::erase_if(open_, [](const auto& one) { return one.second.expired(); });
    open_[path] = base;
  }
  return base;
}

Result<replica::SharedBase> VhdxBases::open(const std::string& replica_folder,
                                            const std::string& disk) {
  FARSIDE_ASSIGN(auto base, find(path_of(replica_folder, disk)));
  FARSIDE_TRY(base->disk_bytes());  // It must be there.
  return base;
}

Result<replica::SharedBase> VhdxBases::create(const std::string& replica_folder,
                                              const std::string& disk, std::uint64_t bytes) {
  const std::string path = path_of(replica_folder, disk);
  FARSIDE_ASSIGN(const bool is_there, shares_.exists(path));
  if (!is_there) {
    FARSIDE_TRY(shares_.make_folders(replica_path(replica_folder)));
    const std::string half_made = path + std::string(kUnfinished);
    FARSIDE_TRY(create_file(shares_, half_made, {.disk_bytes = bytes}, random_));
    FARSIDE_TRY(shares_.rename(half_made, path));
  }
  FARSIDE_ASSIGN(auto base, find(path));
  FARSIDE_ASSIGN(const std::uint64_t now, base->disk_bytes());
  if (now < bytes) {
    return fail(ErrorCode::kUnsupported,
                fmt::format("base disk '{}' has {} bytes and cannot grow to {}", path, now, bytes),
                "disable protection of the item and enable it again");
  }
  return base;
}

Status VhdxBases::remove(const std::string& replica_folder) {
  FARSIDE_ASSIGN(const bool is_kept, keeps_bases(replica_folder));
  if (is_kept) return {};
  return shares_.remove_tree(replica_path(replica_folder));
}

Status VhdxBases::remove_disk(const std::string& replica_folder, const std::string& disk) {
  return shares_.remove(path_of(replica_folder, disk));
}

Result<bool> VhdxBases::may_change(const std::string& replica_folder, bool is_pinned) {
  if (is_pinned) return false;
  FARSIDE_ASSIGN(const bool is_kept, keeps_bases(replica_folder));
  return !is_kept;
}

Result<bool> VhdxBases::keeps_bases(const std::string& replica_folder) {
  return shares_.exists(join_windows_path(replica_path(replica_folder), kKeptBy));
}

Result<VhdxBases::Stand> VhdxBases::stand_of(const std::string& vm_id) {
  const std::string path = join_windows_path(vm_folder(vm_id), kStandsOn);
  FARSIDE_ASSIGN(const std::string text, shares_.read_small(path));
  const std::size_t line = text.find('\n');
  if (line == std::string::npos) {
    return fail(ErrorCode::kCorrupt, "'" + path + "' does not say what its VM stands on");
  }
  return Stand{.bases = text.substr(0, line), .replica = text.substr(line + 1)};
}

Result<bool> VhdxBases::has_kept_bases(const std::string& vm_id) {
  const auto stand = stand_of(vm_id);
  if (!stand && stand.error().code == ErrorCode::kNotFound) return false;
  if (!stand) return fail(stand.error());
  const auto keeper = shares_.read_small(join_windows_path(stand->bases, kKeptBy));
  if (!keeper && keeper.error().code != ErrorCode::kNotFound) return fail(keeper.error());
  return keeper && *keeper == vm_id;
}

Status VhdxBases::keep_bases(const std::string& vm_id) {
  FARSIDE_ASSIGN(const Stand stand, stand_of(vm_id));
  const std::string mark = join_windows_path(stand.bases, kKeptBy);
  if (const auto keeper = shares_.read_small(mark); keeper && *keeper == vm_id) return {};
  return shares_.write_small(mark, vm_id);
}

Result<std::string> VhdxBases::create_child(const NewDisk& disk, const std::string& vm_id) {
  const std::string folder = vm_folder(vm_id);
  const std::string path = join_windows_path(folder, disk.name + ".vhdx");
  FARSIDE_ASSIGN(const bool is_there, shares_.exists(path));
  if (is_there) return path;

  const std::string base_path = path_of(disk.replica_folder, disk.base_name);
  FARSIDE_ASSIGN(const auto base, find(base_path));
  FARSIDE_TRY(base->release());
  vhdx::NewImage shape;
  {
    auto file = shares_.open(base_path, smb::Access::kRead);
    if (!file) return fail(file.error().in("open base disk '" + base_path + "'"));
    FARSIDE_ASSIGN(const auto parent, vhdx::Image::open(std::move(*file)));
    shape = vhdx::child_of(*parent, relative_windows_path(folder, base_path), base_path);
  }
  FARSIDE_TRY(shares_.make_folders(folder));
  FARSIDE_TRY(shares_.write_small(join_windows_path(folder, kStandsOn),
                                  replica_path(disk.replica_folder) + "\n" + disk.replica_folder));
  const std::string half_made = path + std::string(kUnfinished);
  FARSIDE_TRY(create_file(shares_, half_made, shape, random_));
  {
    FARSIDE_ASSIGN(auto file, shares_.open(half_made, smb::Access::kReadWrite));
    FARSIDE_ASSIGN(const auto image,
                   vhdx::WritableImage::open(std::move(file), vhdx::HasNoChildren{}, random_));
    if (disk.delta) {
      FARSIDE_TRY(disk.delta(
          [&](std::uint64_t offset, std::uint32_t length, std::string_view bytes) -> Status {
            return bytes.empty() ? image->zero(offset, length) : image->write_at(offset, bytes);
          }));
    }
    FARSIDE_TRY(image->close());
  }
  FARSIDE_TRY(shares_.rename(half_made, path));
  return path;
}

Status VhdxBases::remove_unfinished(const std::string& vm_id) {
  const std::string folder = vm_folder(vm_id);
  FARSIDE_ASSIGN(const auto entries, shares_.list(folder));
  for (const smb::Entry& entry : entries) {
    if (entry.name.ends_with(kUnfinished)) {
      FARSIDE_TRY(shares_.remove(join_windows_path(folder, entry.name)));
    }
  }
  return {};
}

Status VhdxBases::remove_vm(const std::string& vm_id) {
  const std::string folder = vm_folder(vm_id);
  const auto stand = stand_of(vm_id);
  if (!stand && stand.error().code != ErrorCode::kNotFound) return fail(stand.error());
  FARSIDE_ASSIGN(const bool is_keeper, has_kept_bases(vm_id));
  if (stand && is_keeper) {
    // Whoever may write to the share can name any folder: only that of a replica goes with its VM.
    std::error_code error;
    const bool has_replica = std::filesystem::exists(stand->replica, error);
    if (error) return fail(from_errno(error.value(), "look for the replica " + stand->replica));
    const bool may_go = !has_replica && stand->bases == replica_path(stand->replica);
    FARSIDE_TRY(!may_go ? shares_.remove(join_windows_path(stand->bases, kKeptBy))
                        : shares_.remove_tree(stand->bases));
  }
  return shares_.remove_tree(folder);
}

Result<std::vector<std::string>> VhdxBases::vms_with_disks() {
  FARSIDE_ASSIGN(const auto entries, shares_.list(join_windows_path(folder_, "vms")));
  std::vector<std::string> ids;
  for (const smb::Entry& entry : entries) {
    if (entry.attributes.is_folder) ids.push_back(entry.name);
  }
  return ids;
}

}  // namespace farside::agent::hyperv
