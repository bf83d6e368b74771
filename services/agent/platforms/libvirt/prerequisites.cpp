#include "services/agent/platforms/libvirt/prerequisites.h"

#include <fcntl.h>
#include <fmt/core.h>
#include <unistd.h>

#include <array>
#include <cerrno>
#include <charconv>
#include <filesystem>
#include <fstream>
#include <system_error>

#include "services/agent/platforms/libvirt/connection.h"

namespace farside::agent::libvirt {
namespace {

constexpr std::size_t kHeadersMax = 4096;  // More than disks on a host; then it begins anew.
constexpr int kChainMax = 64;

// QEMU locks byte 100 + n while it uses permission n of an image, and 200 + n while it lets nobody
// else use it; permission 1 is to write.  Source: QEMU, block/file-posix.c, RAW_LOCK_PERM_BASE.
constexpr std::array<off_t, 2> kWriterBytes = {101, 201};

bool is_locked(const std::string& path) {
  const int fd = ::open(path.c_str(), O_RDONLY | O_CLOEXEC | O_NONBLOCK);
  if (fd < 0) return false;
  bool found = false;
  for (const off_t at : kWriterBytes) {
    struct flock lock{};
    lock.l_type = F_WRLCK;
    lock.l_whence = SEEK_SET;
    lock.l_start = at;
    lock.l_len = 1;
    if (::fcntl(fd, F_OFD_GETLK, &lock) == 0 && lock.l_type != F_UNLCK) found = true;
  }
  ::close(fd);
  return found;
}

struct Process {
  std::string name;
  pid_t parent = 0;
};

Process process(pid_t pid) {
  std::ifstream status(fmt::format("/proc/{}/status", pid));
  Process found;
  std::string word;
  for (std::string line; std::getline(status, line);) {
    if (line.starts_with("Name:\t")) found.name = line.substr(6);
    if (line.starts_with("PPid:\t")) {
      found.parent = static_cast<pid_t>(to_number(line.substr(6)));
    }
  }
  return found;
}

bool has_open(const std::filesystem::path& process, const std::string& path) {
  std::error_code error;
  for (const auto& entry : std::filesystem::directory_iterator(process / "fd", error)) {
    std::error_code gone;
    if (std::filesystem::read_symlink(entry.path(), gone) == path) return true;
  }
  return false;
}

// "nbd://", "json:": not the path of a file.
bool is_protocol(const std::string& name) {
  const std::size_t colon = name.find(':');
  return colon != std::string::npos && colon < name.find('/');
}

}  // namespace

std::string lock_holder(const std::string& path) {
  if (!is_locked(path)) return {};
  std::error_code error;
  const std::string real = std::filesystem::canonical(path, error).string();
  if (error) return {};
  for (const auto& entry : std::filesystem::directory_iterator("/proc", error)) {
    const std::string name = entry.path().filename().string();
    const auto pid = static_cast<pid_t>(to_number(name));
    if (pid <= 0 || pid == ::getpid() || !has_open(entry.path(), real)) continue;
    const Process holder = process(pid);
    if (holder.parent == ::getpid()) return {};
    return fmt::format("{} (process {})", holder.name, pid);
  }
  // It may have ended in between, or be out of sight in another container.
  return is_locked(path) ? "another program" : "";
}

Result<Qcow2Header> Prerequisites::header_of(const std::string& path) {
  struct stat about{};
  if (::stat(path.c_str(), &about) != 0) return read_qcow2_header(path);  // Says why.
  const Key key{about.st_dev, about.st_ino, about.st_mtim.tv_sec, about.st_mtim.tv_nsec};
  {
    const std::lock_guard lock(mutex_);
    const auto known = headers_.find(key);
    if (known != headers_.end()) return known->second;
  }
  FARSIDE_ASSIGN(auto header, read_qcow2_header(path));
  const std::lock_guard lock(mutex_);
  if (headers_.size() >= kHeadersMax) headers_.clear();
  headers_.insert_or_assign(key, header);
  return header;
}

std::string Prerequisites::problem_of(const std::string& path, const Qcow2Header& header,
                                      int depth) {
  if (header.is_encrypted) {
    return fmt::format(
        "{} is encrypted, and is never copied in plain text: use encryption inside "
        "the guest instead",
        path);
  }
  if (header.is_corrupt) {
    return fmt::format("{} is marked as corrupt: with the VM off, run `qemu-img check -r all {}`",
                       path, path);
  }
  if (header.backing_file.empty() || is_protocol(header.backing_file)) return {};
  // Relative to the image that names it.
  const std::string backing =
      std::filesystem::path(path).parent_path() / std::filesystem::path(header.backing_file);
  if (depth == 0) return fmt::format("{} stands on too many images: merge them", path);
  if (::access(backing.c_str(), R_OK) != 0) {
    return fmt::format("{} stands on {}, which cannot be read ({}): bring that file back", path,
                       backing, std::generic_category().message(errno));
  }
  // Never guess the format: the first bytes of a raw image are the guest's.
  if (!header.backing_format.empty() && header.backing_format != "qcow2") return {};
  const auto below = header_of(backing);
  if (!below) {
    return header.backing_format.empty() ? ""
                                         : fmt::format("{} stands on {}: {}: bring that image back",
                                                       path, backing, below.error().what);
  }
  return problem_of(backing, *below, depth - 1);
}

void Prerequisites::check(virDomainPtr domain, DomainShape& shape) {
  shape.is_persistent = virDomainIsPersistent(domain) == 1;
  if (!shape.is_persistent) shape.add_problem("the VM is transient: define it permanently");
  if (virDomainSnapshotNum(domain, 0) > 0) {
    shape.add_problem("the VM has snapshots, which exclude change tracking: delete them");
  }
  const bool is_active = virDomainIsActive(domain) == 1;
  for (DiskShape& disk : shape.disks) {
    if (!disk.is_writable_disk || disk.path.empty() || disk.format != "qcow2") continue;
    const auto named = [&](const std::string& what) {
      shape.add_problem(fmt::format("disk {}: {}", disk.name, what));
    };
    const auto header = header_of(disk.path);
    if (!header) {
      // Where QEMU may read what this process may not, QEMU is asked as before.
      if (header.error().code == ErrorCode::kForbidden) continue;
      named(fmt::format("{} cannot be used: {}: bring the image back", disk.path,
                        header.error().what));
      continue;
    }
    if (disk.bytes == 0) {
      disk.bytes = header->bytes;
      for (msg::Disk& each : shape.vm.disks) {
        if (each.name == disk.name) each.bytes = header->bytes;
      }
    }
    if (header->version < 3) {
      named(
          fmt::format("{} has the old qcow2 format (compat 0.10), which cannot remember which "
                      "blocks changed: with the VM off, run `qemu-img amend -o compat=1.1 {}`",
                      disk.path, disk.path));
    }
    if (header->has_data_file) {
      named(
          fmt::format("{} keeps its blocks in another file: with the VM off, convert it with "
                      "`qemu-img convert -O qcow2`",
                      disk.path));
    }
    const std::string wrong = problem_of(disk.path, *header, kChainMax);
    if (!wrong.empty()) named(wrong);
    struct stat about{};
    const bool is_readonly = ::access(disk.path.c_str(), W_OK) != 0 && errno != EACCES;
    if (is_readonly || (::stat(disk.path.c_str(), &about) == 0 && (about.st_mode & 0222U) == 0)) {
      named(fmt::format("{} is read-only: make it writable", disk.path));
    }
    if (is_active) continue;  // Its own QEMU has it then, and lets nobody else write.
    const std::string holder = lock_holder(disk.path);
    if (holder.empty() || virDomainIsActive(domain) == 1) continue;  // It was just started.
    named(fmt::format("{} is in use by {}: end that program", disk.path, holder));
  }
}

}  // namespace farside::agent::libvirt
