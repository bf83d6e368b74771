#include "common/bus/curve_keys.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <sys/stat.h>
#include <unistd.h>
#include <zmq.h>

#include <array>
#include <cerrno>
#include <cstdint>
#include <cstring>

#include "common/base/config.h"
#include "common/base/descriptor.h"

namespace farside::bus {
namespace {

std::string folder_of(const std::string& path) {
  const std::size_t slash = path.rfind('/');
  if (slash == std::string::npos) return ".";
  return slash == 0 ? "/" : path.substr(0, slash);
}

Error io_error(const std::string& doing, const std::string& path) {
  return {.code = ErrorCode::kIo,
          .what = fmt::format("{} {}: {}", doing, path, std::strerror(errno)),
          .advice = "check that the folder exists and belongs to the user the service runs as"};
}

Error corrupt(const std::string& path, const std::string& why) {
  return {.code = ErrorCode::kCorrupt,
          .what = fmt::format("identity file {}: {}", path, why),
          .advice =
              "restore it from a backup; without one, delete it, start again and register "
              "the new identity"};
}

}  // namespace

Result<CurveKeys> generate_keys() {
  std::array<char, kKeyTextBytes + 1> public_key{};
  std::array<char, kKeyTextBytes + 1> secret_key{};
  if (zmq_curve_keypair(public_key.data(), secret_key.data()) != 0) {
    return fail(ErrorCode::kInternal,
                fmt::format("make a CURVE key pair: {}", zmq_strerror(zmq_errno())),
                "install a libzmq that was built with CURVE");
  }
  return CurveKeys{.public_key = public_key.data(), .secret_key = secret_key.data()};
}

std::optional<KeyBytes> key_bytes(std::string_view text) {
  if (text.size() != kKeyTextBytes) return std::nullopt;
  KeyBytes bytes{};
  if (zmq_z85_decode(bytes.data(), std::string(text).c_str()) == nullptr) return std::nullopt;
  // The decoder lets some foreign characters pass; what it makes of them does not come back.
  std::array<char, kKeyTextBytes + 1> again{};
  zmq_z85_encode(again.data(), bytes.data(), bytes.size());
  return text == again.data() ? std::optional(bytes) : std::nullopt;
}

Result<CurveKeys> load_keys(const std::string& path) {
  struct stat facts{};
  if (::stat(path.c_str(), &facts) != 0) {
    if (errno == ENOENT) return fail(ErrorCode::kNotFound, "no identity file " + path);
    return fail(io_error("read identity file", path));
  }
  if ((facts.st_mode & 077U) != 0) {
    return fail(ErrorCode::kForbidden,
                fmt::format("identity file {} has mode {:04o}: others can read or change it", path,
                            facts.st_mode & 07777U),
                fmt::format("run `chmod 600 {}`; if others may have read it, delete it and "
                            "register a new identity",
                            path));
  }
  auto config = Config::from_file(path);
  if (!config) return fail(corrupt(path, config.error().what));
  CurveKeys keys{.public_key = config->text("public", ""),
                 .secret_key = config->text("secret", "")};
  if (const Status finished = config->finish(); !finished) {
    return fail(corrupt(path, finished.error().what));
  }
  if (!is_key(keys.public_key)) return fail(corrupt(path, "`public` is missing or cut"));
  if (!is_key(keys.secret_key)) return fail(corrupt(path, "`secret` is missing or cut"));
  std::array<char, kKeyTextBytes + 1> derived{};
  if (zmq_curve_public(derived.data(), keys.secret_key.c_str()) != 0 ||
      keys.public_key != derived.data()) {
    return fail(corrupt(path, "the two keys do not belong together"));
  }
  return keys;
}

Status save_keys(const std::string& path, const CurveKeys& keys) {
  const std::string text = fmt::format(
      "# The identity of a Farside process.  Whoever has this file can speak as that process.\n"
      "public = \"{}\"\nsecret = \"{}\"\n",
      keys.public_key, keys.secret_key);
  // Written aside and linked into place: a crash leaves either no identity or a whole one.
  const std::string draft = fmt::format("{}.{}.draft", path, ::getpid());
  ::unlink(draft.c_str());
  {
    const Descriptor file(::open(draft.c_str(), O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0600));
    if (!file) return fail(io_error("create identity file", draft));
    const auto written = ::write(file.get(), text.data(), text.size());
    if (written != static_cast<ssize_t>(text.size()) || ::fsync(file.get()) != 0) {
      const Error error = io_error("write identity file", draft);
      ::unlink(draft.c_str());
      return fail(error);
    }
  }
  const int linked = ::link(draft.c_str(), path.c_str());
  const int why = errno;
  ::unlink(draft.c_str());
  if (linked != 0 && why == EEXIST) {
    return fail(ErrorCode::kAlreadyExists, "identity file " + path + " exists already",
                "use it, or move it away first");
  }
  errno = why;
  if (linked != 0) return fail(io_error("create identity file", path));
  const Descriptor folder(::open(folder_of(path).c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC));
  if (!folder || ::fsync(folder.get()) != 0) {
    return fail(io_error("make durable the folder of", path));
  }
  return {};
}

Result<CurveKeys> load_or_create_keys(const std::string& path) {
  auto loaded = load_keys(path);
  if (loaded || loaded.error().code != ErrorCode::kNotFound) return loaded;
  FARSIDE_ASSIGN(CurveKeys keys, generate_keys());
  FARSIDE_TRY(save_keys(path, keys));
  return keys;
}

}  // namespace farside::bus
