#include "common/base/file.h"

#include <fcntl.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>
#include <filesystem>
#include <mutex>
#include <set>
#include <system_error>

namespace farside {

namespace {

// Folders whose names this process has made durable, or found no way to.
class DurableFolders {
 public:
  bool has(const std::string& path) {
    const std::lock_guard lock(mutex_);
    return known_.contains(path);
  }
  void add(const std::string& path) {
    constexpr std::size_t kKnownMax = 4096;  // Then they are synced once more.
    const std::lock_guard lock(mutex_);
    if (known_.size() >= kKnownMax) known_.clear();
    known_.insert(path);
  }

 private:
  std::mutex mutex_;
  std::set<std::string> known_;
};

DurableFolders& durable_folders() {
  static DurableFolders folders;
  return folders;
}

}  // namespace

Error from_errno(int number, const std::string& doing) {
  const std::string what = doing + ": " + std::strerror(number);
  switch (number) {
    case ENOENT:
      return {.code = ErrorCode::kNotFound, .what = what, .advice = {}};
    case ENOSPC:
    case EDQUOT:
      return {.code = ErrorCode::kNoSpace,
              .what = what,
              .advice = "free space on the volume; replication goes on by itself"};
    case EACCES:
    case EPERM:
    case EROFS:
      return {.code = ErrorCode::kForbidden,
              .what = what,
              .advice = "let the agent's user read and write there"};
    case EIO:
    case EBADMSG:
    case EUCLEAN:
    case ENODATA:
    case EILSEQ:
      return {
          .code = ErrorCode::kIo, .what = what, .advice = "check the volume and the system's log"};
    case EMFILE:
    case ENFILE:
      return {.code = ErrorCode::kUnavailable,
              .what = what,
              .advice = "raise the limit of open files of the service, or of the system"};
    case ENOMEM:
    case ENOBUFS:
    case EAGAIN:
      return {.code = ErrorCode::kUnavailable,
              .what = what,
              .advice = "the machine is short of memory: give it more, or less to do"};
    case ESTALE:
    case ETIMEDOUT:
    case EHOSTDOWN:
    case EHOSTUNREACH:
    case ENETDOWN:
    case ENETUNREACH:
    case ENOTCONN:
    case ECONNREFUSED:
    case ECONNRESET:
    case ECONNABORTED:
    case ESHUTDOWN:
    case ENOLINK:
    case ENODEV:
    case ENXIO:
      return {.code = ErrorCode::kUnavailable,
              .what = what,
              .advice = "the volume is away: check its mount, and the network if it comes by one"};
    default:  // It says nothing about what the volume holds.
      return {.code = ErrorCode::kUnavailable,
              .what = what,
              .advice = "check the volume and the system's log"};
  }
}

void raise_open_files_limit() {
  rlimit files{};
  if (getrlimit(RLIMIT_NOFILE, &files) != 0 || files.rlim_cur >= files.rlim_max) return;
  files.rlim_cur = files.rlim_max;
  setrlimit(RLIMIT_NOFILE, &files);
}

File::~File() {
  if (fd_ >= 0) close(fd_);
}

Result<File> File::open_to_read(const std::string& path) {
  File file;
  file.path_ = path;
  file.fd_ = open(path.c_str(), O_RDONLY | O_CLOEXEC);
  if (file.fd_ < 0) return fail(from_errno(errno, "open " + path));
  return file;
}

Result<File> File::open_to_write(const std::string& path) {
  File file;
  file.path_ = path;
  file.fd_ = open(path.c_str(), O_RDWR | O_CREAT | O_CLOEXEC, 0640);
  if (file.fd_ < 0) return fail(from_errno(errno, "open " + path));
  return file;
}

Status File::read_at(std::uint64_t offset, std::span<char> to) const {
  std::size_t done = 0;
  while (done < to.size()) {
    const ssize_t n =
        pread(fd_, to.data() + done, to.size() - done, static_cast<off_t>(offset + done));
    if (n < 0 && errno == EINTR) continue;
    if (n < 0) return fail(from_errno(errno, "read " + path_));
    if (n == 0) return fail(ErrorCode::kCorrupt, path_ + " ends early");
    done += static_cast<std::size_t>(n);
  }
  return {};
}

Status File::write_at(std::uint64_t offset, std::string_view bytes) const {
  std::size_t done = 0;
  while (done < bytes.size()) {
    const ssize_t n =
        pwrite(fd_, bytes.data() + done, bytes.size() - done, static_cast<off_t>(offset + done));
    if (n < 0 && errno == EINTR) continue;
    if (n < 0) return fail(from_errno(errno, "write " + path_));
    done += static_cast<std::size_t>(n);
  }
  return {};
}

Status File::punch(std::uint64_t offset, std::uint64_t length) const {
  const int mode = FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE;
  if (fallocate(fd_, mode, static_cast<off_t>(offset), static_cast<off_t>(length)) == 0) return {};
  if (errno != EOPNOTSUPP) return fail(from_errno(errno, "punch a hole into " + path_));
  return write_at(offset, std::string(length, '\0'));  // This file system has no holes.
}

Status File::truncate(std::uint64_t bytes) const {
  if (ftruncate(fd_, static_cast<off_t>(bytes)) == 0) return {};
  return fail(from_errno(errno, "resize " + path_));
}

Status File::allocate(std::uint64_t bytes) const {
  const int failed = posix_fallocate(fd_, 0, static_cast<off_t>(bytes));
  if (failed == 0) return {};
  return fail(from_errno(failed, "allocate " + path_));
}

Status File::sync() const {
  if (fdatasync(fd_) == 0) return {};
  return fail(from_errno(errno, "sync " + path_));
}

void File::forget_cache() const {
  posix_fadvise(fd_, 0, 0, POSIX_FADV_DONTNEED);
}

Result<File> File::again() const {
  File file;
  file.path_ = path_;
  file.fd_ = fcntl(fd_, F_DUPFD_CLOEXEC, 0);
  if (file.fd_ < 0) return fail(from_errno(errno, "open " + path_ + " again"));
  return file;
}

Result<std::uint64_t> File::size() const {
  struct stat facts{};
  if (fstat(fd_, &facts) != 0) return fail(from_errno(errno, "inspect " + path_));
  return static_cast<std::uint64_t>(facts.st_size);
}

Status sync_folder(const std::string& path) {
  const int fd = open(path.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC);
  if (fd < 0) return fail(from_errno(errno, "open folder " + path));
  const int result = fsync(fd);
  const int number = errno;
  close(fd);
  if (result != 0) return fail(from_errno(number, "sync folder " + path));
  return {};
}

Status make_folders(const std::string& path) {
  const auto parent = std::filesystem::path(path).parent_path().string();
  const std::string home = parent.empty() ? "." : parent;  // Where its name lies.
  std::error_code error;
  const bool is_there = std::filesystem::is_directory(path, error);
  if (is_there && (parent == path || durable_folders().has(path))) return {};
  if (!parent.empty() && parent != path) FARSIDE_TRY(make_folders(parent));
  if (!is_there) {
    std::filesystem::create_directory(path, error);
    if (error) return fail(from_errno(error.value(), "create folder " + path));
    FARSIDE_TRY(sync_folder(home));
  } else if (const auto synced = sync_folder(home); !synced) {
    // Whoever made it may have been killed before this.  But it may as well be somebody else's,
    // which may not be read, or lie on what knows no such sync.
    if (synced.error().code == ErrorCode::kIo) return synced;
  }
  durable_folders().add(path);
  return {};
}

std::uint64_t free_bytes(const std::string& path) {
  struct statvfs facts{};
  if (statvfs(path.c_str(), &facts) != 0) return 0;
  return std::uint64_t{facts.f_bavail} * facts.f_frsize;
}

std::uint64_t used_bytes(const std::string& path) {
  struct stat facts{};
  if (stat(path.c_str(), &facts) != 0) return 0;
  return static_cast<std::uint64_t>(facts.st_blocks) * 512;
}

Status replace_file(const std::string& path, std::string_view bytes) {
  const std::string fresh = path + ".new";
  {
    FARSIDE_ASSIGN(const File file, File::open_to_write(fresh));
    FARSIDE_TRY(file.truncate(0));
    FARSIDE_TRY(file.write_at(0, bytes));
    FARSIDE_TRY(file.sync());
  }
  if (std::rename(fresh.c_str(), path.c_str()) != 0) {
    return fail(from_errno(errno, "rename " + fresh));
  }
  const std::string folder = std::filesystem::path(path).parent_path().string();
  return sync_folder(folder.empty() ? "." : folder);
}

Result<std::string> read_file(const std::string& path) {
  FARSIDE_ASSIGN(const File file, File::open_to_read(path));
  FARSIDE_ASSIGN(const std::uint64_t bytes, file.size());
  std::string out(bytes, '\0');
  FARSIDE_TRY(file.read_at(0, out));
  return out;
}

}  // namespace farside
