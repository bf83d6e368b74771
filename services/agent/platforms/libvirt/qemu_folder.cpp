#include "services/agent/platforms/libvirt/qemu_folder.h"

#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <filesystem>

#include "common/base/file.h"

namespace farside::agent::libvirt {
namespace {

constexpr mode_t kOurs = S_IRWXU;
constexpr mode_t kOthersPass = S_IRWXU | S_IXGRP | S_IXOTH;

}  // namespace

Status make_qemu_folder(const std::string& path, int levels) {
  FARSIDE_TRY(make_folders(path));
  std::filesystem::path folder(path);
  for (int level = 0; level < levels; ++level, folder = folder.parent_path()) {
    struct stat facts{};
    if (::stat(folder.c_str(), &facts) != 0) {
      return fail(from_errno(errno, "inspect folder " + folder.string()));
    }
    // By its rights, not by who has just made it: whoever did may have been killed before this.
    const bool is_as_made = (facts.st_mode & ALLPERMS) == kOurs && facts.st_uid == ::geteuid();
    if (is_as_made && ::chmod(folder.c_str(), kOthersPass) != 0) {
      return fail(from_errno(errno, "let QEMU into folder " + folder.string()));
    }
  }
  return {};
}

}  // namespace farside::agent::libvirt
