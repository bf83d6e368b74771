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
constexpr mode_t kAllPass = kGroupPasses | S_IXOTH;

bool is_somebody_else(const std::optional<QemuUser>& user) {
  return user && user->uid != 0 && user->uid != ::geteuid();
}

// By its rights, not by who has just made it: whoever did may have been killed before this.  Others
// may pass those of earlier releases, and those of operators that are like them.
bool is_as_made(const struct stat& facts) {
  return facts.st_uid == ::geteuid() && (facts.st_mode & ALLPERMS) == kOurs;
}

Status open_to(const QemuUser& user, const std::string& folder) {
  const bool is_given = ::chown(folder.c_str(), static_cast<uid_t>(-1), user.gid) == 0;
  if (::chmod(folder.c_str(), is_given ? kGroupPasses : kAllPass) == 0) return {};
  return fail(from_errno(errno, "let QEMU into folder " + folder));
}

Status let_pass(const QemuUser& user, const std::string& folder) {
  struct stat facts{};
  if (::stat(folder.c_str(), &facts) != 0) {
    return fail(from_errno(errno, "inspect folder " + folder));
  }
  return is_as_made(facts) ? open_to(user, folder) : Status();
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
  if (!is_somebody_else(user) || ::geteuid() != 0) return {};
  struct stat facts{};
  if (::lstat(path.c_str(), &facts) != 0) {
    return fail(from_errno(errno, "inspect folder " + path));
  }
  if (facts.st_uid == user->uid && (facts.st_mode & ALLPERMS) == kOurs) return {};
  if (::lchown(path.c_str(), user->uid, static_cast<gid_t>(-1)) == 0 &&
      ::chmod(path.c_str(), kOurs) == 0) {
    return {};
  }
  return fail(from_errno(errno, "give folder " + path + " to QEMU"));
}

Status share_with_qemu(const std::string& path, const QemuUser& user) {
  if (!is_somebody_else(user) || ::geteuid() != 0) return {};
  if (::lchown(path.c_str(), user.uid, static_cast<gid_t>(-1)) == 0) return {};
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
