#include "services/agent/platforms/libvirt/prerequisites.h"

#include <fcntl.h>
#include <fmt/core.h>
#include <unistd.h>

#include <cerrno>
#include <charconv>
#include <filesystem>
#include <fstream>
#include <system_error>

#include "common/base/folder.h"
#include "services/agent/platforms/libvirt/connection.h"
#include "services/agent/platforms/libvirt/image_file.h"

namespace farside::agent::libvirt {
namespace {

constexpr std::size_t kHeadersMax = 4096;  // More than disks on a host; then it begins anew.
constexpr int kChainMax = 64;

struct Process {
  std::string name;
  pid_t parent = 0;
};

Process process(pid_t pid) {
  std::ifstream status(fmt::format("/proc/{}/status", pid));
  Process found;
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
  for (const auto& entry : entries_of(process / "fd", error)) {
    std::error_code gone;
    if (std::filesystem::read_symlink(entry, gone) == path) return true;
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
  if (!is_held(path)) return {};
  std::error_code error;
  const std::string real = std::filesystem::canonical(path, error).string();
  if (error) return {};
  for (const auto& entry : entries_of("/proc", error)) {
    const std::string name = entry.filename().string();
    const auto pid = static_cast<pid_t>(to_number(name));
    if (pid <= 0 || pid == ::getpid() || !has_open(entry, real)) continue;
    const Process holder = process(pid);
    if (holder.parent == ::getpid()) return {};
    return fmt::format("{} (process {})", holder.name, pid);
  }
  // It may have ended in between, or be out of sight in another container.
  return is_held(path) ? "another program" : "";
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
  if (header.backing.empty() || is_protocol(header.backing)) return {};
  // Relative to the image that names it.
  const std::string backing =
      std::filesystem::path(path).parent_path() / std::filesystem::path(header.backing);
  if (depth == 0) return fmt::format("{} stands on too many images: merge them", path);
  if (::access(backing.c_str(), R_OK) != 0) {
    return fmt::format("{} stands on {}, which cannot be read ({}): bring that file back", path,
                       backing, std::generic_category().message(errno));
  }
  if (header.backing_format == "luks") {
    return fmt::format(
        "{} stands on {}, which is encrypted, and is never copied in plain text: use encryption "
        "inside the guest instead",
        path, backing);
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

Status Prerequisites::check(virDomainPtr domain, DomainShape& shape) {
  const int persistent = virDomainIsPersistent(domain);
  if (persistent < 0) return libvirt_error("describe VM '" + shape.vm.name + "'");
  shape.is_persistent = persistent == 1;
  if (!shape.is_persistent) shape.add_problem("the VM is transient: define it permanently");
  const int snapshots = virDomainSnapshotNum(domain, 0);
  if (snapshots < 0) return libvirt_error("snapshots of VM '" + shape.vm.name + "'");
  if (snapshots > 0) {
    shape.add_problem("the VM has snapshots, which exclude change tracking: delete them");
  }
  const int active = virDomainIsActive(domain);
  if (active < 0) return libvirt_error("state of VM '" + shape.vm.name + "'");
  const bool is_active = active == 1;
  const auto set_bytes = [&](DiskShape& disk, std::uint64_t bytes) {
    if (disk.bytes != 0) return;  // VMs of ours carry their sizes with them.
    disk.bytes = bytes;
    for (msg::Disk& each : shape.vm.disks) {
      if (each.name == disk.name) each.bytes = bytes;
    }
  };
  for (DiskShape& disk : shape.disks) {
    if (!disk.is_writable_disk || disk.path.empty()) continue;
    if (disk.format != "qcow2") {  // A problem already; but how big it is may be told.
      struct stat about{};
      if (::stat(disk.path.c_str(), &about) == 0) {
        set_bytes(disk, static_cast<std::uint64_t>(about.st_size));
      }
      continue;
    }
    const auto named = [&](const std::string& what) {
      shape.add_problem(fmt::format("disk {}: {}", disk.name, what));
    };
    const auto header = header_of(disk.path);
    if (!header) {
      named(fmt::format("{} cannot be used: {}: bring the image back", disk.path,
                        header.error().what));
      continue;
    }
    set_bytes(disk, header->bytes);
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
    if (holder.empty() || virDomainIsActive(domain) != 0) continue;  // It was just started.
    named(fmt::format("{} is in use by {}: end that program", disk.path, holder));
  }
  return {};
}

}  // namespace farside::agent::libvirt
