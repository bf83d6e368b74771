// One SMB connection with its open files, by libsmbclient.
//
// libsmbclient blocks, keeps much of its state in globals, and is under GPL-3: it lives in the
// program farside-smb alone, one connection a process.
//
// Owns: libsmbclient's context, the open files.  Thread: one.
// Invariant: nothing works before connect() has succeeded.
#pragma once

#include <libsmbclient.h>

#include <map>
#include <memory>
#include <optional>
#include <string>

#include "services/agent/platforms/hyperv/smb/flush_tap.h"
#include "services/agent/platforms/hyperv/smb/protocol.h"

namespace farside::agent::smb {

class Session final {
 public:
  Session() = default;
  ~Session();
  Session(const Session&) = delete;
  Session& operator=(const Session&) = delete;

  // The errors of all of these: kUnauthorized (the logon), kForbidden, kNotFound, kConflict
  // (somebody has it open, or the folder is not empty), kAlreadyExists, kNoSpace, kUnavailable (the
  // connection is gone; this session will not get it back), kInvalidArgument, kIo.
  Status connect(const Connect& request);

  Result<Attributes> attributes(const std::string& path);
  Result<Listed> list(const std::string& path);  // Also: kTooLarge.
  Status make_folders(const std::string& path);
  // Replaces what `to` names.  Not in one step where there is something: libsmbclient then removes
  // it and renames again.
  Status rename(const std::string& from, const std::string& to);
  Status remove(const std::string& path);  // A file, or an empty folder.
  Result<Space> space(const std::string& path);

  Result<Opened> open(const Open& request);
  Status close(std::uint32_t handle);
  Result<SizeTold> size(std::uint32_t handle);
  // Reads up to request.length bytes to `to`; fewer only at the end of the file.
  Result<std::uint32_t> read(const Read& request, char* to);
  Status write(const Write& request);
  Status truncate(const Truncate& request);
  // See flush_tap.h.  Also: kUnsupported.
  Status flush(std::uint32_t handle);

 private:
  struct File {
    SMBCFILE* file = nullptr;
    std::string path;
    bool is_dirty = false;  // Written to or truncated since the last flush.
    std::optional<WireHandle> wire{};
  };

  Result<std::string> url(const std::string& path) const;
  Result<File*> file_of(std::uint32_t handle);
  Status write_at(File& file, std::uint64_t offset, std::string_view bytes);
  Status learn_wire_handle(File& file);

  SMBCCTX* context_ = nullptr;
  Connect login_;
  std::string last_words_;  // Of libsmbclient about a logon that failed.
  std::map<std::uint32_t, File> files_;
  std::uint32_t next_handle_ = 1;
};

}  // namespace farside::agent::smb
