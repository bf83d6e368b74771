#include "services/agent/platforms/libvirt/image_file.h"

#include <fcntl.h>
#include <fmt/core.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <cstdlib>
#include <cstring>
#include <filesystem>

#include "common/base/descriptor.h"
#include "services/agent/platforms/deadline.h"
#include "services/agent/platforms/libvirt/qcow2_header.h"

namespace farside::agent::libvirt {
namespace {

using std::chrono::milliseconds;
using std::chrono::seconds;

constexpr int kChainMax = 64;
// Writes this far apart have different time stamps where those have fractions of a millisecond
// (kernels count them in steps of up to 10 ms), and where they have not.
constexpr milliseconds kFineStep(50);
constexpr milliseconds kCoarseStep(2000);
constexpr seconds kStillMax(8);
// QEMU locks byte 100 + n while it uses permission n of an image, and 200 + n while it lets nobody
// else use it; permission 1 is to write.
constexpr off_t kWriterLock = 101;
constexpr off_t kNoOtherWriterLock = 201;

Descriptor open_to_look(const std::string& path) {
  return Descriptor(::open(path.c_str(), O_RDONLY | O_CLOEXEC | O_NONBLOCK));
}

std::unexpected<Error> io_error(const char* doing, const std::string& path) {
  return fail(ErrorCode::kIo, fmt::format("{} {}: {}", doing, path, std::strerror(errno)));
}

// "nbd://…", "json:{…}": a colon before any slash.
bool names_a_protocol(const std::string& name) {
  const auto colon = name.find(':');
  return colon != std::string::npos && colon < name.find('/');
}

bool is_locked(const Descriptor& file, off_t at) {
  struct flock lock{};
  lock.l_type = F_WRLCK;  // Conflicts with any lock there; QEMU's own are shared ones.
  lock.l_whence = SEEK_SET;
  lock.l_start = at;
  lock.l_len = 1;
  return file.get() >= 0 && ::fcntl(file.get(), F_OFD_GETLK, &lock) == 0 && lock.l_type != F_UNLCK;
}

}  // namespace

Result<FileState> state_of_file(const std::string& path) {
  struct stat found{};
  if (::stat(path.c_str(), &found) != 0) return io_error("look at", path);
  const auto nanoseconds = [](const timespec& time) {
    return std::int64_t{time.tv_sec} * 1'000'000'000 + time.tv_nsec;
  };
  return FileState{.path = path,
                   .device = found.st_dev,
                   .inode = found.st_ino,
                   .bytes = static_cast<std::uint64_t>(found.st_size),
                   .modified_ns = nanoseconds(found.st_mtim),
                   .changed_ns = nanoseconds(found.st_ctim)};
}

Result<std::vector<FileState>> state_of_chain(const std::string& path) {
  std::vector<FileState> chain;
  std::string at = path;
  for (std::string format = "qcow2";;) {
    FARSIDE_ASSIGN(auto state, state_of_file(at));
    chain.push_back(std::move(state));
    if (format == "raw") return chain;
    if (format != "qcow2") {
      return fail(ErrorCode::kUnsupported, fmt::format("{} has the format {}", at, format));
    }
    const auto read = read_qcow2_header(at);
    if (!read) return fail(read.error().in(at));
    const Qcow2Header& header = *read;
    if (header.has_data_file) {
      return fail(ErrorCode::kUnsupported, fmt::format("{} keeps its data in another file", at));
    }
    if (header.backing.empty()) return chain;
    if (names_a_protocol(header.backing) || chain.size() == kChainMax) {
      return fail(ErrorCode::kUnsupported,
                  fmt::format("{} stands on {}, which is no file", at, header.backing));
    }
    if (header.backing_format.empty()) {
      return fail(ErrorCode::kUnsupported,
                  fmt::format("{} does not say which format {} has", at, header.backing),
                  fmt::format("run: qemu-img rebase -u -b {} -F FORMAT {}", header.backing, at));
    }
    // Relative to the file that names it; absolute names stay as they are.
    at = std::filesystem::path(at).parent_path() / header.backing;
    format = header.backing_format;
  }
}

Result<std::vector<FileState>> still_chain(const std::string& path, const Clock& clock) {
  const Deadline deadline(kStillMax);
  for (;;) {
    FARSIDE_ASSIGN(const auto before, state_of_chain(path));
    milliseconds wait(0);
    for (const FileState& file : before) {
      const std::int64_t newest = std::max(file.modified_ns, file.changed_ns);
      const std::int64_t age_ms = clock.now().micros / 1000 - newest / 1'000'000;
      const bool is_fine = newest % 1'000'000 != 0;
      const milliseconds step = is_fine ? kFineStep : kCoarseStep;
      if (age_ms > kCoarseStep.count()) continue;
      wait = std::max(wait, step);
    }
    if (wait.count() == 0) return before;
    for (const Deadline step(wait); step.pause();) {
    }
    FARSIDE_ASSIGN(auto now, state_of_chain(path));
    if (now == before) return now;
    if (deadline.passed()) {
      return fail(ErrorCode::kBusy, fmt::format("{} is being written to", path),
                  "find out by whom: `fuser -v FILE`");
    }
  }
}

bool is_same_disk(const std::vector<FileState>& before, const std::vector<FileState>& now) {
  if (before.size() != now.size()) return false;
  for (std::size_t i = 0; i < now.size(); ++i) {
    const FileState& a = before[i];
    const FileState& b = now[i];
    if (a.device != b.device || a.inode != b.inode) return false;
    // libvirt changes the owner of a whole chain at each start.
    if (i > 0 && (a.bytes != b.bytes || a.modified_ns != b.modified_ns)) return false;
  }
  return true;
}

bool has_writer(const std::string& path) {
  return is_locked(open_to_look(path), kWriterLock);
}

bool is_held(const std::string& path) {
  const Descriptor file = open_to_look(path);
  return is_locked(file, kWriterLock) || is_locked(file, kNoOtherWriterLock);
}

}  // namespace farside::agent::libvirt
