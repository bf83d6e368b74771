#include "services/agent/platforms/libvirt/qemu_folder.h"

#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <filesystem>

#include "common/base/file.h"

namespace farside::agent::libvirt {
namespace {

constexpr mode_t kOurs = S_IRWXU;
constexpr mode_t kGroupPasses = kOurs | S_IXGRP;
constexpr mode_t kGroupDrops = kGroupPasses | S_IWGRP;
constexpr mode_t kAllPass = kGroupPasses | S_IXOTH;

bool is_somebody_else(const std::optional<QemuUser>& user) {
  return user && user->uid != 0 && user->uid != ::geteuid();
}

// By its rights, not by who has just made it: whoever did may have been killed before this.
bool is_as_made(const struct stat& facts) {
  const mode_t rights = facts.st_mode & ALLPERMS;
  return facts.st_uid == ::geteuid() &&
         (rights == kOurs || rights == kGroupPasses || rights == kAllPass);
}

Status open_to(const QemuUser& user, const std::string& folder, mode_t rights) {
  const bool is_given = ::chown(folder.c_str(), static_cast<uid_t>(-1), user.gid) == 0;
  if (!is_given && ::geteuid() == 0) {
    return fail(from_errno(errno, "give folder " + folder + " to QEMU's group"));
  }
  if (::chmod(folder.c_str(), is_given ? rights : kAllPass) != 0) {
    return fail(from_errno(errno, "let QEMU into folder " + folder));
  }
  return {};
}

Status let_pass(const QemuUser& user, const std::string& folder) {
  struct stat facts{};
  if (::stat(folder.c_str(), &facts) != 0) {
    return fail(from_errno(errno, "inspect folder " + folder));
  }
  const bool is_open = (facts.st_mode & ALLPERMS) == kGroupPasses && facts.st_gid == user.gid;
  return is_open || !is_as_made(facts) ? Status() : open_to(user, folder, kGroupPasses);
}

}  // namespace

Status make_qemu_folder(const std::string& path, const std::optional<QemuUser>& user, int levels) {
  FARSIDE_TRY(make_folders(path));
  if (!is_somebody_else(user)) return {};
  std::filesystem::path folder(path);
  for (int level = 0; level < levels; ++level, folder = folder.parent_path()) {
    FARSIDE_TRY(let_pass(*user, folder.string()));
  }
  return {};
}

Status make_qemu_drop(const std::string& path, const std::optional<QemuUser>& user) {
  FARSIDE_TRY(make_folders(path));
  if (!is_somebody_else(user)) return {};
  return open_to(*user, path, kGroupDrops);
}

Status share_with_qemu(const std::string& path, const QemuUser& user) {
  if (!is_somebody_else(user)) return {};
  constexpr mode_t kGroupToo = S_IRUSR | S_IWUSR | S_IRGRP | S_IWGRP;
  const bool is_given = ::chown(path.c_str(), static_cast<uid_t>(-1), user.gid) == 0;
  if ((is_given || ::geteuid() != 0) && ::chmod(path.c_str(), kGroupToo) == 0) return {};
  return fail(from_errno(errno, "let QEMU use " + path));
}

int levels_within(const std::string& path, const std::string& own) {
  if (own.empty()) return 1;
  const auto inside = std::filesystem::path(path).lexically_relative(own);
  if (inside.empty() || *inside.begin() == "..") return 1;
  const auto parts = std::distance(inside.begin(), inside.end());
  return inside == "." ? 1 : static_cast<int>(parts) + 1;
}

}  // namespace farside::agent::libvirt
