#include "services/agent/platforms/libvirt/scratch_images.h"

#include <fcntl.h>
#include <fmt/core.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <chrono>
#include <cstring>
#include <fstream>
#include <iterator>
#include <string_view>

#include "services/agent/platforms/libvirt/program.h"

namespace farside::agent::libvirt {
namespace {

constexpr std::size_t kPageBytes = 4096;
constexpr std::chrono::seconds kMakeMax(30);

std::unexpected<Error> failed(const std::string& path) {
  const int number = errno;
  return fail(number == ENOSPC ? ErrorCode::kNoSpace : ErrorCode::kIo,
              fmt::format("write {}: {}", path, std::strerror(number)));
}

// Pages of zeros stay holes.
bool write_sparsely(int fd, std::string_view bytes) {
  if (::ftruncate(fd, static_cast<off_t>(bytes.size())) != 0) return false;
  for (std::size_t at = 0; at < bytes.size(); at += kPageBytes) {
    const std::string_view page = bytes.substr(at, kPageBytes);
    if (std::ranges::all_of(page, [](char c) { return c == 0; })) continue;
    if (::pwrite(fd, page.data(), page.size(), static_cast<off_t>(at)) !=
        static_cast<ssize_t>(page.size())) {
      return false;
    }
  }
  return true;
}

}  // namespace

Result<const std::string*> ScratchImages::image(std::uint64_t bytes, const std::string& beside) {
  const std::lock_guard lock(mutex_);
  std::unique_ptr<std::string>& known = images_[bytes];
  if (known) return known.get();
  const std::string path = beside + ".new";
  FARSIDE_ASSIGN(const auto made, run_program({"qemu-img", "create", "-q", "-f", "qcow2", path,
                                               std::to_string(bytes)},
                                              kMakeMax));
  if (made.exit_code != 0) {
    ::unlink(path.c_str());
    return fail(ErrorCode::kPlatform, fmt::format("create {}: {}", path, made.output));
  }
  std::ifstream file(path, std::ios::binary);
  auto read = std::make_unique<std::string>(std::istreambuf_iterator<char>(file),
                                            std::istreambuf_iterator<char>());
  ::unlink(path.c_str());
  if (!file || read->empty()) return fail(ErrorCode::kIo, fmt::format("read {}", path));
  known = std::move(read);
  return known.get();
}

Status ScratchImages::create(const std::string& path, std::uint64_t bytes,
                             const std::string& like) {
  FARSIDE_ASSIGN(const std::string* content, image(bytes, path));
  ::unlink(path.c_str());
  const int fd = ::open(path.c_str(), O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
  if (fd < 0) return failed(path);
  // QEMU runs as another user, where libvirt has not been told to change owners by itself.
  struct stat model{};
  const bool is_given =
      ::stat(like.c_str(), &model) == 0 && ::fchown(fd, model.st_uid, model.st_gid) == 0;
  const bool is_written = write_sparsely(fd, *content);
  auto error = failed(path);
  ::close(fd);
  if (!is_given || !is_written) {
    ::unlink(path.c_str());
    return error;
  }
  return {};
}

}  // namespace farside::agent::libvirt
