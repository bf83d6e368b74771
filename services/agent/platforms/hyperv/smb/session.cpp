#include "services/agent/platforms/hyperv/smb/session.h"

#include <fcntl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <cstdio>
#include <cstring>

namespace farside::agent::smb {
namespace {

// libsmbclient speaks in errno; several of its NTSTATUS values share one.
ErrorCode code_of(int number) {
  switch (number) {
    case ENOENT:
    case ENODEV:
      return ErrorCode::kNotFound;
    case EACCES:
    case EPERM:
    case EROFS:
      return ErrorCode::kForbidden;
    case EEXIST:
      return ErrorCode::kAlreadyExists;
    case EBUSY:  // A sharing violation.
    case ETXTBSY:
    case EAGAIN:
    case ENOTEMPTY:
    case EISDIR:
    case ENOTDIR:
      return ErrorCode::kConflict;
    case ENOSPC:
    case EDQUOT:
      return ErrorCode::kNoSpace;
    case EFBIG:
      return ErrorCode::kTooLarge;
    case EINVAL:
    case ENAMETOOLONG:
      return ErrorCode::kInvalidArgument;
    case ECONNABORTED:
    case ECONNREFUSED:
    case ECONNRESET:
    case EHOSTDOWN:
    case EHOSTUNREACH:
    case ENETDOWN:
    case ENETRESET:
    case ENETUNREACH:
    case ENOTCONN:
    case EPIPE:
    case ESHUTDOWN:
    case ETIMEDOUT:
    case EBADF:  // The server does not know the file any more: the session was replaced.
      return ErrorCode::kUnavailable;
    default:
      return ErrorCode::kIo;
  }
}

std::unexpected<Error> failed(int number, const std::string& doing, const std::string& path) {
  const ErrorCode code = code_of(number);
  std::string why = std::strerror(number);
  std::string advice;
  if (code == ErrorCode::kConflict && number == EBUSY) {
    why = "somebody else has it open (sharing violation)";
  } else if (code == ErrorCode::kForbidden) {
    advice = "grant the agent's user the right on the share and on the file";
  } else if (code == ErrorCode::kNoSpace) {
    advice = "free space on the share's volume";
  }
  return fail(code, doing + " " + path + ": " + why, advice);
}

// Everything but what a URL may hold as it stands; slashes stay.
std::string escaped(std::string_view path) {
  std::string out;
  for (const char c : path) {
    const auto byte = static_cast<unsigned char>(c);
    const bool plain = (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') ||
                       c == '-' || c == '_' || c == '.' || c == '/';
    if (plain) {
      out += c;
    } else {
      std::array<char, 4> code{};
      std::snprintf(code.data(), code.size(), "%%%02X", byte);
      out += code.data();
    }
  }
  return out;
}

std::string with_slashes(std::string path) {
  std::ranges::replace(path, '\\', '/');
  while (path.starts_with('/')) path.erase(0, 1);
  while (path.ends_with('/')) path.pop_back();
  return path;
}

// Nothing of a smb.conf on this machine should decide how we speak.
Status set_policy(SMBCCTX* context, const Connect& login) {
  const std::string text = std::string("[global]\n") +
                           "client min protocol = SMB2_02\n"
                           "client max protocol = SMB3_11\n"
                           "client signing = " +
                           (login.sign ? "required" : "desired") +
                           "\n"
                           "name resolve order = host\n"
                           "unix charset = UTF-8\n"
                           "load printers = no\n";
  const int memory = ::memfd_create("farside-smb.conf", MFD_CLOEXEC);
  if (memory < 0 || ::write(memory, text.data(), text.size()) != std::ssize(text)) {
    if (memory >= 0) ::close(memory);
    return fail(ErrorCode::kInternal, "cannot write libsmbclient's settings");
  }
  const std::string path = "/proc/self/fd/" + std::to_string(memory);
  const int refused = smbc_setConfiguration(context, path.c_str());
  ::close(memory);
  if (refused != 0) return fail(ErrorCode::kInternal, "libsmbclient refused its settings");
  if (smbc_setOptionProtocols(context, "SMB2_02", "SMB3_11") == 0) {
    return fail(ErrorCode::kInternal, "libsmbclient does not know SMB 3.1.1");
  }
  return {};
}

}  // namespace

Session::~Session() {
  if (context_ != nullptr) smbc_free_context(context_, 1);
}

Status Session::connect(const Connect& request) {
  if (context_ != nullptr) return fail(ErrorCode::kConflict, "the session is connected already");
  if (request.server.empty() || request.share.empty() ||
      (request.server + request.share).find_first_of("/\\") != std::string::npos) {
    return fail(ErrorCode::kInvalidArgument, "an SMB server and a share's name are needed");
  }
  login_ = request;
  SMBCCTX* context = smbc_new_context();
  if (context == nullptr) return fail(ErrorCode::kInternal, "libsmbclient does not start");
  smbc_setOptionUserData(context, this);
  smbc_setLogCallback(context, this, [](void* self, int, const char* text) {
    const std::string_view words(text);
    if (words.find("login failed") != std::string_view::npos ||
        words.find("session setup failed") != std::string_view::npos) {
      static_cast<Session*>(self)->last_words_ = words;
    }
  });
  smbc_setFunctionAuthDataWithContext(
      context, [](SMBCCTX* c, const char*, const char*, char* domain, int domain_room, char* user,
                  int user_room, char* password, int password_room) {
        const auto* self = static_cast<const Session*>(smbc_getOptionUserData(c));
        const auto copy = [](const std::string& text, char* to, int room) {
          if (room > 0) std::snprintf(to, static_cast<std::size_t>(room), "%s", text.c_str());
        };
        copy(self->login_.domain, domain, domain_room);
        copy(self->login_.user, user, user_room);
        copy(self->login_.password, password, password_room);
      });
  if (smbc_init_context(context) == nullptr) {
    smbc_free_context(context, 1);
    return fail(ErrorCode::kInternal, "libsmbclient does not start");
  }
  context_ = context;
  FARSIDE_TRY(set_policy(context, request));
  smbc_setPort(context, request.port);
  smbc_setTimeout(context, static_cast<int>(request.timeout_ms));
  smbc_setOptionNoAutoAnonymousLogin(context, 1);
  smbc_setOptionOpenShareMode(context, SMBC_SHAREMODE_DENY_NONE);
  smbc_setOptionSmbEncryptionLevel(
      context, request.encrypt ? SMBC_ENCRYPTLEVEL_REQUIRE : SMBC_ENCRYPTLEVEL_NONE);

  // There is no call to connect: the first look at the share does it.  A logon that failed and a
  // share that is closed to this user have one errno; libsmbclient's words tell them apart.
  smbc_setDebug(context, 3);
  FARSIDE_ASSIGN(const std::string root, url(""));
  struct stat seen{};
  const int result = smbc_getFunctionStat(context)(context, root.c_str(), &seen);
  const int number = errno;
  smbc_setDebug(context, 0);
  if (result == 0) return {};
  const std::string name = "share '" + request.share + "' on " + request.server;
  if (!last_words_.empty()) {
    while (last_words_.ends_with('\n')) last_words_.pop_back();
    return fail(ErrorCode::kUnauthorized,
                "log in to " + name + " as '" + request.user + "': " + last_words_,
                "check the user and the password for the host");
  }
  if (number == ENOENT) {
    return fail(ErrorCode::kNotFound, "there is no " + name, "check the share's name");
  }
  return failed(number, "connect to", name);
}

Result<std::string> Session::url(const std::string& path) const {
  if (context_ == nullptr) return fail(ErrorCode::kConflict, "the session is not connected");
  const std::string tidy = with_slashes(path);
  if (path.find('\0') != std::string::npos || ("/" + tidy + "/").contains("/../")) {
    return fail(ErrorCode::kInvalidArgument, "'" + path + "' is no path on a share");
  }
  return "smb://" + login_.server + "/" + escaped(login_.share) + "/" + escaped(tidy);
}

Result<Attributes> Session::attributes(const std::string& path) {
  FARSIDE_ASSIGN(const std::string name, url(path));
  struct stat seen{};
  if (smbc_getFunctionStat(context_)(context_, name.c_str(), &seen) != 0) {
    return failed(errno, "look at", path);
  }
  return Attributes{.bytes = S_ISDIR(seen.st_mode) ? 0 : static_cast<std::uint64_t>(seen.st_size),
                    .is_folder = S_ISDIR(seen.st_mode),
                    .modified_s = seen.st_mtim.tv_sec};
}

Result<Listed> Session::list(const std::string& path) {
  FARSIDE_ASSIGN(const std::string name, url(path));
  SMBCFILE* folder = smbc_getFunctionOpendir(context_)(context_, name.c_str());
  if (folder == nullptr) return failed(errno, "list", path);
  constexpr std::uint16_t kFolderAttribute = 0x10;  // Source: MS-FSCC 2.6.
  Listed listed;
  std::size_t room = kTransferBytesMax;
  bool fits = true;
  while (const libsmb_file_info* one = smbc_getFunctionReaddirPlus(context_)(context_, folder)) {
    const std::string_view entry(one->name);
    if (entry == "." || entry == "..") continue;
    const std::size_t cost = entry.size() + 32;
    fits = listed.entries.size() < kEntriesMax && cost <= room;
    if (!fits) break;
    room -= cost;
    const bool is_folder = (one->attrs & kFolderAttribute) != 0;
    listed.entries.push_back({.name = std::string(entry),
                              .attributes = {.bytes = is_folder ? 0 : one->size,
                                             .is_folder = is_folder,
                                             .modified_s = one->mtime_ts.tv_sec}});
  }
  smbc_getFunctionClosedir(context_)(context_, folder);
  if (!fits) return fail(ErrorCode::kTooLarge, "folder " + path + " has too many entries");
  std::ranges::sort(listed.entries, {}, &Entry::name);
  return listed;
}

Status Session::make_folders(const std::string& path) {
  const std::string tidy = with_slashes(path);
  for (std::size_t end = 0; end != std::string::npos && !tidy.empty();) {
    end = tidy.find('/', end + 1);
    const std::string part = tidy.substr(0, end);
    FARSIDE_ASSIGN(const std::string name, url(part));
    if (smbc_getFunctionMkdir(context_)(context_, name.c_str(), 0755) == 0) continue;
    const int number = errno;
    // It may be there; or the root of the share may be closed to us, and a folder in it may not.
    const auto there = attributes(part);
    if (there && there->is_folder) continue;
    if (there) return fail(ErrorCode::kConflict, part + " is a file, not a folder");
    return failed(number, "make folder", part);
  }
  return {};
}

Status Session::rename(const std::string& from, const std::string& to) {
  FARSIDE_ASSIGN(const std::string old_name, url(from));
  FARSIDE_ASSIGN(const std::string new_name, url(to));
  if (smbc_getFunctionRename(context_)(context_, old_name.c_str(), context_, new_name.c_str()) !=
      0) {
    return failed(errno, "rename " + from + " to", to);
  }
  return {};
}

Status Session::remove(const std::string& path) {
  // An unlink of a folder succeeds and does nothing.
  FARSIDE_ASSIGN(const Attributes there, attributes(path));
  FARSIDE_ASSIGN(const std::string name, url(path));
  const int result = there.is_folder ? smbc_getFunctionRmdir(context_)(context_, name.c_str())
                                     : smbc_getFunctionUnlink(context_)(context_, name.c_str());
  if (result != 0) return failed(errno, "remove", path);
  return {};
}

Result<Space> Session::space(const std::string& path) {
  FARSIDE_ASSIGN(std::string name, url(path));
  struct statvfs seen{};
  if (smbc_getFunctionStatVFS(context_)(context_, name.data(), &seen) != 0) {
    return failed(errno, "ask for the free space at", path);
  }
  // libsmbclient counts in fragments if there are any, else in blocks.
  const std::uint64_t unit =
      std::uint64_t{seen.f_bsize} * std::max<std::uint64_t>(seen.f_frsize, 1);
  return Space{.total_bytes = unit * seen.f_blocks, .free_bytes = unit * seen.f_bavail};
}

Result<Opened> Session::open(const Open& request) {
  FARSIDE_ASSIGN(const std::string name, url(request.path));
  if (files_.size() >= kOpenFilesMax) {
    return fail(ErrorCode::kTooLarge, "too many files are open on the share");
  }
  int flags = O_RDONLY;
  if (request.access == Access::kReadWrite) flags = O_RDWR;
  if (request.access == Access::kCreateNew) flags = O_RDWR | O_CREAT | O_EXCL;
  SMBCFILE* file = smbc_getFunctionOpen(context_)(context_, name.c_str(), flags, 0644);
  if (file == nullptr) return failed(errno, "open", request.path);
  const std::uint32_t handle = next_handle_++;
  files_[handle] = {.file = file, .path = request.path};
  return Opened{.handle = handle};
}

Result<Session::File*> Session::file_of(std::uint32_t handle) {
  const auto found = files_.find(handle);
  if (found != files_.end()) return &found->second;
  return fail(ErrorCode::kInvalidArgument, "no open file has the handle " + std::to_string(handle));
}

Status Session::close(std::uint32_t handle) {
  FARSIDE_ASSIGN(const File* file, file_of(handle));
  const int result = smbc_getFunctionClose(context_)(context_, file->file);
  const int number = errno;
  const std::string path = file->path;
  files_.erase(handle);
  if (result != 0) return failed(number, "close", path);
  return {};
}

Result<SizeTold> Session::size(std::uint32_t handle) {
  FARSIDE_ASSIGN(const File* file, file_of(handle));
  struct stat seen{};
  if (smbc_getFunctionFstat(context_)(context_, file->file, &seen) != 0) {
    return failed(errno, "ask for the size of", file->path);
  }
  return SizeTold{.bytes = static_cast<std::uint64_t>(seen.st_size)};
}

Result<std::uint32_t> Session::read(const Read& request, char* to) {
  FARSIDE_ASSIGN(const File* file, file_of(request.handle));
  const auto offset = static_cast<off_t>(request.offset);
  if (offset < 0 || smbc_getFunctionLseek(context_)(context_, file->file, offset, SEEK_SET) < 0) {
    return fail(ErrorCode::kInvalidArgument, "read " + file->path + " at an impossible offset");
  }
  std::uint32_t done = 0;
  while (done < request.length) {
    const ssize_t count =
        smbc_getFunctionRead(context_)(context_, file->file, to + done, request.length - done);
    if (count < 0) return failed(errno, "read", file->path);
    if (count == 0) break;
    done += static_cast<std::uint32_t>(count);
  }
  return done;
}

Status Session::write_at(File& file, std::uint64_t at, std::string_view bytes) {
  const auto offset = static_cast<off_t>(at);
  if (offset < 0 || smbc_getFunctionLseek(context_)(context_, file.file, offset, SEEK_SET) < 0) {
    return fail(ErrorCode::kInvalidArgument, "write " + file.path + " at an impossible offset");
  }
  file.is_dirty = true;
  while (!bytes.empty()) {
    expect_write(bytes.data(), bytes.size(), at);
    const ssize_t count =
        smbc_getFunctionWrite(context_)(context_, file.file, bytes.data(), bytes.size());
    if (count < 0) return failed(errno, "write", file.path);
    if (count == 0) return fail(ErrorCode::kIo, "write " + file.path + ": nothing was written");
    file.wire = written_handle();
    bytes.remove_prefix(static_cast<std::size_t>(count));
    at += static_cast<std::uint64_t>(count);
  }
  return {};
}

Status Session::write(const Write& request) {
  FARSIDE_ASSIGN(File * file, file_of(request.handle));
  return write_at(*file, request.offset, request.bytes);
}

Status Session::truncate(const Truncate& request) {
  FARSIDE_ASSIGN(File * file, file_of(request.handle));
  const auto bytes = static_cast<off_t>(request.bytes);
  if (bytes < 0) return fail(ErrorCode::kInvalidArgument, "cut " + file->path + " to that size");
  if (smbc_getFunctionFtruncate(context_)(context_, file->file, bytes) != 0) {
    return failed(errno, "set the size of", file->path);
  }
  file->is_dirty = true;
  return {};
}

// A file that was only truncated has shown no handle yet: its first byte is written once more.
Status Session::learn_wire_handle(File& file) {
  struct stat seen{};
  if (smbc_getFunctionFstat(context_)(context_, file.file, &seen) != 0) {
    return failed(errno, "ask for the size of", file.path);
  }
  if (seen.st_size == 0) {
    // Write a byte and take it away again.
    constexpr char kZero = 0;
    FARSIDE_TRY(write_at(file, 0, {&kZero, 1}));
    if (smbc_getFunctionFtruncate(context_)(context_, file.file, 0) != 0) {
      return failed(errno, "set the size of", file.path);
    }
    return {};
  }
  char first = 0;
  if (smbc_getFunctionLseek(context_)(context_, file.file, 0, SEEK_SET) != 0 ||
      smbc_getFunctionRead(context_)(context_, file.file, &first, 1) != 1) {
    return failed(errno, "read", file.path);
  }
  return write_at(file, 0, {&first, 1});
}

Status Session::flush(std::uint32_t handle) {
  FARSIDE_ASSIGN(File * file, file_of(handle));
  if (!file->is_dirty) return {};
  if (!file->wire) FARSIDE_TRY(learn_wire_handle(*file));
  if (!file->wire) {
    return fail(ErrorCode::kUnsupported,
                "flush " + file->path + ": this libsmbclient hides the file's handle",
                "use the libsmbclient of Debian 12");
  }
  const Status flushed = smb::flush(*file->wire, login_.timeout_ms);
  if (!flushed) return fail(flushed.error().in("flush " + file->path));
  file->is_dirty = false;
  return {};
}

}  // namespace farside::agent::smb
