// Files on a share of a Hyper-V host.
//
// All SMB is spoken by one farside-smb process, which is started when it is needed and again when
// it or its connection is lost.  Files stay open over that: they are opened anew, reads and writes
// whose outcome is unknown are repeated once (both may be), and everything else that was under way
// fails with kUnavailable.  So does every call while the server is away; the next one tries again.
//
// Paths are relative to the share, with slashes or backslashes.
//
// Owns: the process, the list of open files, reads under way (at most reads_in_flight).
// Thread: one at a time.  Every wait has a deadline.
#pragma once

#include <cstdint>
#include <deque>
#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "services/agent/platforms/hyperv/byte_file.h"
#include "services/agent/platforms/hyperv/smb/coalesce.h"
#include "services/agent/platforms/hyperv/smb/smb_process.h"

namespace farside::agent::smb {

inline constexpr std::uint32_t kPieceBytes = 1U << 20U;  // Measured best for reads and writes.
inline constexpr std::uint64_t kGapBytes = 256U << 10U;  // Cheaper to read than to ask again.

struct ShareOptions {
  std::string server;
  std::uint16_t port = 445;
  std::string share;
  std::string domain{};
  std::string user;
  std::string password;
  bool encrypt = false;
  bool sign = true;
  std::string program{};  // Path of farside-smb, see SmbProcess::start().
  int connect_timeout_ms = 20'000;
  int request_timeout_ms = 30'000;  // Without a sign of life.
  std::size_t reads_in_flight = 4;
};

struct FileId {
  std::uint32_t number = 0;

  auto operator<=>(const FileId&) const = default;
};

class Share final {
 public:
  using Done = std::function<void(Status)>;

  explicit Share(ShareOptions options);
  ~Share();
  Share(const Share&) = delete;
  Share& operator=(const Share&) = delete;

  // The errors of all of these: kUnauthorized (the logon), kForbidden, kNotFound, kConflict
  // (somebody has it open; a folder is not empty), kAlreadyExists, kNoSpace, kUnavailable (server
  // or farside-smb are away, and the outcome of a change may be unknown), kInvalidArgument, kIo.

  Status connect();  // Not needed; tells early that something is wrong.
  Result<Attributes> attributes(const std::string& path);
  Result<std::vector<Entry>> list(const std::string& path);  // By name.
  Status make_folders(const std::string& path);              // All of them; repeating is fine.
  // Replaces what `to` names, though not in one step: for a moment there may be nothing.
  // Neither may be open.
  Status rename(const std::string& from, const std::string& to);
  Status remove(const std::string& path);  // A file or an empty folder.
  // With all that is in it; at most kTreeEntriesMax entries.  Repeating is fine.
  Status remove_tree(const std::string& path);
  Result<Space> space(const std::string& path = {});

  Result<FileId> open(const std::string& path, Access access);
  Status close(FileId file);
  Result<std::uint64_t> size(FileId file);
  Status read(FileId file, std::uint64_t offset, std::span<char> to);  // kCorrupt: ends early.
  Status write(FileId file, std::uint64_t offset, std::string_view bytes);
  Status truncate(FileId file, std::uint64_t bytes);
  // What was written is on the host's disk, by SMB2 FLUSH.  Also: kUnsupported.  Fails with
  // kUnavailable, once, if the connection was lost since the last flush, although all writes were
  // answered: the host may have been restarted without them.  Write them again then.
  Status flush(FileId file);

  // Reads pieces of a file, near ones together (coalesce.h); to[i] takes pieces[i].length bytes.
  Status read_extents(FileId file, std::span<const Extent> pieces, std::span<char* const> to);

  // Waits while reads_in_flight are under way.  `done` is called from within this call, poll() or
  // another; it may start one read, nothing else.  `to` stays valid until then.
  // Errors: kInvalidArgument (length > kTransferBytesMax), kConflict (started by `done`, no room).
  Status read_async(FileId file, std::uint64_t offset, std::size_t length, char* to, Done done);
  // Waits until something was done, or there is nothing under way, or the time is over.
  void poll(int timeout_ms);
  std::size_t under_way() const { return pending_.size(); }

  // The file is closed with the object, which must not outlive the share.
  Result<std::unique_ptr<hyperv::ByteFile>> open_file(const std::string& path, Access access);

  std::optional<pid_t> process() const;  // For tests and logs.

 private:
  using Finish = std::function<void(Result<Reply>)>;
  struct OpenFile {
    std::string path;
    Access access = Access::kRead;
    std::uint32_t handle = 0;     // In the running process; 0: not open there.
    bool is_dirty = false;        // Written since the last flush,
    bool is_unsure = false;       // and the connection was lost since.
    std::optional<Error> lost{};  // Why it could not be opened again.
  };
  struct Pending {
    std::uint32_t id = 0;
    Request request;  // With the process's handle filled in when it is sent.
    FileId file{};    // 0: about no open file.
    Finish finish;
    int attempts = 0;
  };

  Status ensure_connected();
  Result<Reply> exchange(const Request& request, int timeout_ms);  // While nothing is under way.
  Status reopen(OpenFile& file);
  void submit(Request request, FileId file, Finish finish);
  void send(Pending& pending);
  Result<Reply> call(Request request, FileId file = {});
  template <class T>
  Result<T> ask(Request request, FileId file = {});
  Status order(Request request, FileId file = {});
  void finish_one(Pending pending, Result<Reply> reply);
  void step(int timeout_ms);
  void take_replies();
  void lose(const Error& cause);
  Result<OpenFile*> file_of(FileId file);
  Status remove_level(const std::string& path, int depth, std::size_t& left);

  ShareOptions options_;
  std::unique_ptr<SmbProcess> process_;
  std::map<FileId, OpenFile> files_;
  std::deque<Pending> pending_;
  std::uint32_t next_id_ = 1;
  std::uint32_t next_file_ = 1;
  std::int64_t heard_ms_ = 0;  // When there was a sign of life.
  int finishing_ = 0;          // Depth of callbacks.
};

inline constexpr std::size_t kTreeEntriesMax = 100'000;
inline constexpr int kTreeDepthMax = 32;

}  // namespace farside::agent::smb
