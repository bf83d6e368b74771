#include "services/vault/desk_files.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cstring>
#include <filesystem>
#include <fstream>
#include <sstream>

namespace farside::vault {

Status write_private(const std::string& path, const std::string& text) {
  const auto temporary = path + ".new";
  const int fd = ::open(temporary.c_str(), O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
  const auto broken = [&] {
    return fail(ErrorCode::kIo, "'" + path + "' cannot be written: " + std::strerror(errno),
                "check the folder's owner and free space");
  };
  if (fd < 0) return broken();
  const bool written = ::write(fd, text.data(), text.size()) == static_cast<ssize_t>(text.size()) &&
                       ::fsync(fd) == 0;
  ::close(fd);
  if (!written || ::rename(temporary.c_str(), path.c_str()) != 0) return broken();
  return {};
}

Result<std::string> load_or_create_token(const std::string& path, Random& random) {
  if (std::error_code ec; !std::filesystem::exists(path, ec)) {
    const auto token = random.hex(32);
    FARSIDE_TRY(write_private(path, token + "\n"));
    return token;
  }
  struct stat facts{};
  if (::stat(path.c_str(), &facts) != 0 || (facts.st_mode & 077U) != 0) {
    return fail(ErrorCode::kForbidden, "token file '" + path + "' can be read by others",
                "chmod 600 it, or delete it to get a new token");
  }
  std::ifstream in(path);
  std::string token;
  in >> token;
  if (token.size() < 32) {
    return fail(ErrorCode::kCorrupt, "token file '" + path + "' is cut short",
                "delete it to get a new token");
  }
  return token;
}

}  // namespace farside::vault
