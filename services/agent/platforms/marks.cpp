#include "services/agent/platforms/marks.h"

#include <fcntl.h>
#include <fmt/core.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <filesystem>
#include <system_error>

#include "common/base/file.h"
#include "common/base/file_name.h"
#include "common/base/folder.h"

namespace farside::agent {
namespace {

std::unexpected<Error> failed(const char* doing, const std::string& path, int number) {
  return fail(number == ENOSPC ? ErrorCode::kNoSpace : ErrorCode::kIo,
              fmt::format("{} {}: {}", doing, path, std::strerror(number)));
}

}  // namespace

Result<Marks> Marks::open(std::string folder) {
  FARSIDE_TRY(make_folders(folder));
  return Marks(std::move(folder));
}

Status Marks::add(const std::string& vm_id) const {
  FARSIDE_TRY(check_file_name("VM", vm_id));
  const std::string path = folder_ + "/" + vm_id;
  const int fd = ::open(path.c_str(), O_WRONLY | O_CREAT | O_CLOEXEC, 0600);
  if (fd < 0) return failed("create", path, errno);
  ::close(fd);
  return sync();
}

Status Marks::remove(const std::string& vm_id) const {
  FARSIDE_TRY(check_file_name("VM", vm_id));
  const std::string path = folder_ + "/" + vm_id;
  if (::unlink(path.c_str()) == 0) return sync();
  if (errno == ENOENT) return {};
  return failed("remove", path, errno);
}

bool Marks::has(const std::string& vm_id) const {
  return is_file_name(vm_id) && ::access((folder_ + "/" + vm_id).c_str(), F_OK) == 0;
}

std::vector<std::string> Marks::all() const {
  std::vector<std::string> ids;
  std::error_code error;
  for (const auto& entry : entries_of(folder_, error)) {
    ids.push_back(entry.filename().string());
  }
  std::ranges::sort(ids);
  return ids;
}

Status Marks::sync() const {
  const int fd = ::open(folder_.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC);
  if (fd < 0) return failed("open", folder_, errno);
  const bool is_synced = ::fsync(fd) == 0;
  const int number = errno;
  ::close(fd);
  if (!is_synced) return failed("sync", folder_, number);
  return {};
}

}  // namespace farside::agent
