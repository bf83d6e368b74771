#include "services/agent/platforms/libvirt/half_begun_jobs.h"

#include <fcntl.h>
#include <unistd.h>

#include <filesystem>
#include <mutex>
#include <set>
#include <string_view>
#include <system_error>

#include "common/base/file.h"
#include "common/base/log.h"

namespace farside::agent::libvirt {
namespace {

constexpr std::string_view kJob = "async='backup'";
constexpr std::string_view kNoJob = "async='none'";
constexpr std::string_view kBackup = "<domainbackup";

// The driver of another process holds this lock.  Source: virpidfile.c, virPidFileAcquirePath().
bool is_open_elsewhere(const std::string& folder) {
  const int fd = ::open((folder + "/driver.pid").c_str(), O_RDONLY | O_CLOEXEC);
  if (fd < 0) return false;
  struct flock lock{};
  lock.l_type = F_WRLCK;
  lock.l_whence = SEEK_SET;
  lock.l_len = 1;
  const bool is_locked = ::fcntl(fd, F_GETLK, &lock) != 0 || lock.l_type != F_UNLCK;
  ::close(fd);
  return is_locked;
}

// Whether this process never did so before: afterwards its own driver writes there.
bool is_first_time(const std::string& root) {
  static std::mutex mutex;
  static std::set<std::string> roots;
  const std::lock_guard lock(mutex);
  return roots.insert(root).second;
}

}  // namespace

Status forget_half_begun_jobs(const std::string& root) {
  const std::string folder = root + "/run/qemu";
  // In this order: closing the file would drop a lock of our own on it.
  if (!is_first_time(root) || is_open_elsewhere(folder)) return {};
  std::error_code none;  // The driver has never run here.
  for (const auto& entry : std::filesystem::directory_iterator(folder, none)) {
    if (entry.path().extension() != ".xml") continue;
    FARSIDE_ASSIGN(std::string text, read_file(entry.path()));
    const std::size_t job = text.find("<job ");
    const std::size_t note = job == std::string::npos ? job : text.find(kJob, job);
    if (note == std::string::npos || note > text.find('>', job) || text.contains(kBackup)) continue;
    text.replace(note, kJob.size(), kNoJob);
    FARSIDE_TRY(replace_file(entry.path(), text));
    log::warn("half_begun_backup_forgotten", {{"vm", entry.path().stem().string()}});
  }
  return {};
}

}  // namespace farside::agent::libvirt
