#include "services/vault/desk_files.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <unistd.h>

#include <cstring>
#include <filesystem>

#include "common/base/secret_file.h"

namespace farside::vault {
namespace {

constexpr std::size_t kTokenLengthMin = 32;

}  // namespace

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
  auto token = read_secret_line(path, "token file");
  if (!token && token.error().code == ErrorCode::kForbidden) {
    return fail(ErrorCode::kForbidden, token.error().what,
                fmt::format("run `chmod 600 {}`, or delete it to get a new token", path));
  }
  if (!token) return token;
  if (token->size() < kTokenLengthMin) {
    return fail(ErrorCode::kCorrupt, "token file '" + path + "' is cut short",
                "delete it to get a new token");
  }
  return token;
}

}  // namespace farside::vault
