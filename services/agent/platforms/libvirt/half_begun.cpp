#include "services/agent/platforms/libvirt/half_begun.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <unistd.h>

#include <chrono>
#include <csignal>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <iterator>
#include <mutex>
#include <optional>
#include <set>
#include <string_view>
#include <system_error>

#include "common/base/file.h"
#include "common/base/folder.h"
#include "common/base/log.h"
#include "services/agent/platforms/deadline.h"
#include "services/agent/platforms/libvirt/half_backup.h"

namespace farside::agent::libvirt {
namespace {

constexpr std::string_view kJob = "async='backup'";
constexpr std::string_view kNoJob = "async='none'";
constexpr std::string_view kBackup = "<domainbackup";
constexpr std::string_view kStarting = "reason='starting up'";
constexpr std::string_view kNoProcess = "pid='0'";

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

// QEMU's process as libvirt noted it beside the status, if it is there: its number alone might be
// that of another by now.
std::optional<pid_t> qemu_of(const std::string& root, const std::filesystem::path& status) {
  const auto noted = read_file(std::filesystem::path(status).replace_extension(".pid"));
  if (!noted) return std::nullopt;
  const auto pid = static_cast<pid_t>(std::strtol(noted->c_str(), nullptr, 10));
  if (pid <= 1) return std::nullopt;
  std::ifstream file(fmt::format("/proc/{}/cmdline", pid), std::ios::binary);
  const std::string command{std::istreambuf_iterator<char>(file), {}};
  const bool is_it = command.contains(root + "/lib/qemu/domain-") &&
                     command.contains("guest=" + status.stem().string() + ",");
  return is_it ? std::optional(pid) : std::nullopt;
}

Status forget_start(const std::string& root, const std::filesystem::path& status) {
  for (const Deadline deadline{std::chrono::seconds(10)};
       const auto qemu = qemu_of(root, status);) {
    ::kill(*qemu, SIGKILL);
    if (deadline.pause()) continue;
    return fail(ErrorCode::kTimeout,
                fmt::format("QEMU {} of VM '{}' does not end", *qemu, status.stem().string()),
                "it waits for storage that does not answer: look at the host's disks");
  }
  std::error_code error;
  std::filesystem::remove(status, error);
  if (error) return fail(from_errno(error.value(), "remove " + status.string()));
  log::warn("half_begun_start_forgotten", {{"vm", status.stem().string()}});
  return {};
}

// The path of its monitor, as libvirt noted it.
std::string monitor_of(const std::string& text) {
  constexpr std::string_view kMonitor = "<monitor path='";
  const std::size_t at = text.find(kMonitor);
  if (at == std::string::npos) return {};
  const std::size_t begin = at + kMonitor.size();
  return text.substr(begin, text.find('\'', begin) - begin);
}

Status forget_job(const std::string& root, const std::filesystem::path& status, std::string text) {
  const std::size_t job = text.find("<job ");
  const std::size_t note = job == std::string::npos ? job : text.find(kJob, job);
  if (note == std::string::npos || note > text.find('>', job) || text.contains(kBackup)) return {};
  const std::string vm = status.stem().string();
  // What QEMU may have of it goes first: without the note nobody would look for it.  Where it does
  // not answer, the next backup tells.
  const Status taken_back =
      take_back_half_backup(monitor_of(text), root + "/lib/qemu/checkpoint/" + vm);
  if (!taken_back) {
    log::warn("half_begun_backup_stays", {{"vm", vm}, {"cause", taken_back.error()}});
  }
  text.replace(note, kJob.size(), kNoJob);
  FARSIDE_TRY(replace_file(status, text));
  log::warn("half_begun_backup_forgotten", {{"vm", vm}});
  return {};
}

// In the status itself, not in what it says of the VM.
bool is_starting_without_qemu(const std::string& text) {
  const std::size_t status = text.find("<domstatus ");
  if (status == std::string::npos) return false;
  const std::string tag = text.substr(status, text.find('>', status) - status);
  return tag.contains(kStarting) && tag.contains(kNoProcess);
}

Status forget_in(const std::string& root, const std::filesystem::path& status) {
  FARSIDE_ASSIGN(std::string text, read_file(status));
  if (is_starting_without_qemu(text)) return forget_start(root, status);
  return forget_job(root, status, std::move(text));
}

}  // namespace

void forget_half_begun(const std::string& root) {
  const std::string folder = root + "/run/qemu";
  // In this order: closing the file would drop a lock of our own on it.
  if (!is_first_time(root) || is_open_elsewhere(folder)) return;
  std::error_code none;  // The driver has never run here.
  for (const auto& entry : entries_of(folder, none)) {
    if (entry.extension() != ".xml") continue;
    // One VM that cannot be put in order must not keep the agent from all others.
    if (const auto forgotten = forget_in(root, entry); !forgotten) {
      log::error("half_begun_not_forgotten",
                 {{"vm", entry.stem().string()}, {"cause", forgotten.error()}});
    }
  }
}

}  // namespace farside::agent::libvirt
