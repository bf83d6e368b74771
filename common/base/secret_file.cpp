#include "common/base/secret_file.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>

#include "common/base/descriptor.h"
#include "common/base/file.h"

namespace farside {
namespace {

Status check(const struct stat& facts, const std::string& file, const std::string& path,
             SecretOwner owner) {
  if (!S_ISREG(facts.st_mode)) {
    return fail(ErrorCode::kInvalidArgument, file + " is not a regular file",
                "name the file itself");
  }
  const uid_t self = ::geteuid();
  const bool is_root_reading_others = self == 0 && owner == SecretOwner::kUsOrRootOrAnyoneForRoot;
  if (facts.st_uid != self && facts.st_uid != 0 && !is_root_reading_others) {
    return fail(ErrorCode::kForbidden,
                fmt::format("{} belongs to user {}, who can change it", file, facts.st_uid),
                fmt::format("run `chown {} {}` and `chmod 600 {}`", self, path, path));
  }
  if ((facts.st_mode & 077U) != 0) {
    return fail(
        ErrorCode::kForbidden,
        fmt::format("{} has mode {:04o}: others can read or change it", file,
                    facts.st_mode & 07777U),
        fmt::format("run `chmod 600 {}`; if others may have read it, replace what is in it", path));
  }
  return {};
}

Error open_error(int number, const std::string& file) {
  if (number == ENOENT) {
    return {.code = ErrorCode::kNotFound,
            .what = file + " cannot be read: there is no such file",
            .advice = "check its path"};
  }
  Error error = from_errno(number, file + " cannot be read");
  if (error.code == ErrorCode::kForbidden) {
    error.advice = "let it belong to the user that this program runs as, with mode 0600";
  }
  return error;
}

}  // namespace

Result<std::string> read_secret_file(const std::string& path, const std::string& what,
                                     SecretOwner owner) {
  const std::string file = fmt::format("{} '{}'", what, path);
  // A pipe in its place must not hold us up.
  const Descriptor opened(::open(path.c_str(), O_RDONLY | O_CLOEXEC | O_NONBLOCK | O_NOCTTY));
  struct stat facts{};
  if (!opened || ::fstat(opened.get(), &facts) != 0) return fail(open_error(errno, file));
  FARSIDE_TRY(check(facts, file, path, owner));
  std::string text(kSecretBytesMax + 1, '\0');
  std::size_t size = 0;
  while (size < text.size()) {
    const ssize_t got = ::read(opened.get(), text.data() + size, text.size() - size);
    if (got < 0 && errno == EINTR) continue;
    if (got < 0) return fail(open_error(errno, file));
    if (got == 0) break;
    size += static_cast<std::size_t>(got);
  }
  if (size > kSecretBytesMax) {
    return fail(ErrorCode::kTooLarge,
                fmt::format("{} has more than {} bytes", file, kSecretBytesMax),
                "check that it is the right file");
  }
  text.resize(size);
  return text;
}

Result<std::string> read_secret_line(const std::string& path, const std::string& what,
                                     SecretOwner owner) {
  FARSIDE_ASSIGN(std::string text, read_secret_file(path, what, owner));
  while (text.ends_with('\n') || text.ends_with('\r')) text.pop_back();
  if (text.empty() || text.find_first_of(std::string_view("\n\r\0", 3)) != std::string::npos) {
    return fail(
        ErrorCode::kInvalidArgument,
        fmt::format("{} '{}' {}", what, path, text.empty() ? "is empty" : "has more than one line"),
        "put it alone into the file");
  }
  return text;
}

}  // namespace farside
