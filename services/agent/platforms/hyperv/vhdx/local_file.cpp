#include "services/agent/platforms/hyperv/vhdx/local_file.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <system_error>

namespace farside::agent::vhdx {
namespace {

std::unexpected<Error> failed(const std::string& doing, const std::string& path) {
  const int number = errno;
  ErrorCode code = ErrorCode::kIo;
  const char* advice = "check the file system and its disk";
  if (number == ENOENT || number == ENOTDIR) {
    code = ErrorCode::kNotFound;
    advice = "check the path";
  } else if (number == EEXIST) {
    code = ErrorCode::kAlreadyExists;
    advice = "choose another path";
  } else if (number == EACCES || number == EPERM || number == EROFS || number == EBADF) {
    code = ErrorCode::kForbidden;
    advice = "check the file's owner and mode";
  } else if (number == ENOSPC || number == EDQUOT) {
    code = ErrorCode::kNoSpace;
    advice = "free some space there";
  }
  return fail(
      code,
      doing + " '" + path + "': " + std::error_code(number, std::generic_category()).message(),
      advice);
}

}  // namespace

Result<std::unique_ptr<LocalFile>> LocalFile::open(const std::string& path, Mode mode) {
  int flags = O_CLOEXEC | (mode == Mode::kRead ? O_RDONLY : O_RDWR);
  if (mode == Mode::kCreate) flags |= O_CREAT | O_EXCL;
  const int fd = ::open(path.c_str(), flags, 0600);
  if (fd < 0) return failed("open", path);
  return std::unique_ptr<LocalFile>(new LocalFile(path, fd));
}

LocalFile::~LocalFile() {
  ::close(fd_);
}

Result<std::uint64_t> LocalFile::size() {
  struct stat status{};
  if (::fstat(fd_, &status) != 0) return failed("look at", path_);
  return static_cast<std::uint64_t>(status.st_size);
}

Status LocalFile::read_at(std::uint64_t offset, std::span<char> to) {
  while (!to.empty()) {
    const ssize_t count = ::pread(fd_, to.data(), to.size(), static_cast<off_t>(offset));
    if (count < 0 && errno == EINTR) continue;
    if (count < 0) return failed("read", path_);
    if (count == 0) {
      return fail(ErrorCode::kCorrupt, "'" + path_ + "' ends at " + std::to_string(offset),
                  "check whether the file was cut");
    }
    to = to.subspan(static_cast<std::size_t>(count));
    offset += static_cast<std::uint64_t>(count);
  }
  return {};
}

Status LocalFile::write_at(std::uint64_t offset, std::string_view bytes) {
  while (!bytes.empty()) {
    const ssize_t count = ::pwrite(fd_, bytes.data(), bytes.size(), static_cast<off_t>(offset));
    if (count < 0 && errno == EINTR) continue;
    if (count < 0) return failed("write", path_);
    bytes.remove_prefix(static_cast<std::size_t>(count));
    offset += static_cast<std::uint64_t>(count);
  }
  return {};
}

Status LocalFile::truncate(std::uint64_t bytes) {
  if (::ftruncate(fd_, static_cast<off_t>(bytes)) != 0) return failed("resize", path_);
  return {};
}

Status LocalFile::flush() {
  if (::fdatasync(fd_) != 0) return failed("flush", path_);
  return {};
}

}  // namespace farside::agent::vhdx
