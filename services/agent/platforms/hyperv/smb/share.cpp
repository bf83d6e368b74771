#include "services/agent/platforms/hyperv/smb/share.h"

#include <algorithm>
#include <chrono>

#include "common/base/assert.h"
#include "common/base/error_code.h"

namespace farside::agent::smb {
namespace {

constexpr int kStepMs = 200;
constexpr int kGraceMs = 2'000;  // farside-smb tells of its own timeouts first.

std::int64_t now_ms() {
  return std::chrono::duration_cast<std::chrono::milliseconds>(
             std::chrono::steady_clock::now().time_since_epoch())
      .count();
}

// May be done a second time when it is unknown whether it was done.
bool is_repeatable(const Request& request) {
  if (const auto* open = std::get_if<Open>(&request)) return open->access != Access::kCreateNew;
  return !std::holds_alternative<Rename>(request) && !std::holds_alternative<Remove>(request) &&
         !std::holds_alternative<Flush>(request) && !std::holds_alternative<Close>(request);
}

bool is_change(const Request& request) {
  return std::holds_alternative<Write>(request) || std::holds_alternative<Truncate>(request);
}

void set_handle(Request& request, std::uint32_t handle) {
  std::visit(
      [&](auto& r) {
        if constexpr (requires { r.handle; }) r.handle = handle;
      },
      request);
}

// What the peer says is checked, as everything that comes over a wire.
Error error_of(const Refused& refused) {
  return {.code = error_code_from(refused.code), .what = refused.what, .advice = refused.advice};
}

std::unexpected<Error> odd_reply() {
  return fail(ErrorCode::kInternal, "farside-smb answered something else than was asked");
}

class ShareFile final : public hyperv::ByteFile {
 public:
  ShareFile(Share& share, FileId file) : share_(share), file_(file) {}
  ~ShareFile() override { (void)share_.close(file_); }
  ShareFile(const ShareFile&) = delete;
  ShareFile& operator=(const ShareFile&) = delete;

  Result<std::uint64_t> size() override { return share_.size(file_); }
  Status read_at(std::uint64_t offset, std::span<char> to) override {
    return share_.read(file_, offset, to);
  }
  Status write_at(std::uint64_t offset, std::string_view bytes) override {
    return share_.write(file_, offset, bytes);
  }
  Status truncate(std::uint64_t bytes) override { return share_.truncate(file_, bytes); }
  Status flush() override { return share_.flush(file_); }

 private:
  Share& share_;
  FileId file_;
};

}  // namespace

Share::Share(ShareOptions options) : options_(std::move(options)) {
  FARSIDE_ASSERT(options_.reads_in_flight > 0);
}

Share::~Share() {
  process_.reset();
  while (!pending_.empty()) {
    Pending one = std::move(pending_.front());
    pending_.pop_front();
    finish_one(std::move(one), fail(ErrorCode::kCancelled, "the share was closed"));
  }
}

std::optional<pid_t> Share::process() const {
  if (process_ == nullptr) return std::nullopt;
  return process_->pid();
}

Status Share::ensure_connected() {
  if (process_ != nullptr) return {};
  FARSIDE_ASSIGN(process_, SmbProcess::start(options_.program));
  const auto connected =
      exchange(Connect{.server = options_.server,
                       .port = options_.port,
                       .share = options_.share,
                       .domain = options_.domain,
                       .user = options_.user,
                       .password = options_.password,
                       .encrypt = options_.encrypt,
                       .sign = options_.sign,
                       .timeout_ms = static_cast<std::uint32_t>(options_.request_timeout_ms)},
               options_.connect_timeout_ms);
  if (!connected) {
    process_.reset();
    return fail(connected.error());
  }
  for (auto& [id, file] : files_) {
    const Status opened = reopen(file);
    if (!opened && process_ == nullptr) return opened;
  }
  return {};
}

Status Share::reopen(OpenFile& file) {
  const auto reply =
      exchange(Open{.path = file.path, .access = file.access}, options_.request_timeout_ms);
  const auto* opened = reply ? std::get_if<Opened>(&*reply) : nullptr;
  if (opened == nullptr) {
    file.lost = reply ? Error{.code = ErrorCode::kInternal, .what = "odd reply", .advice = {}}
                      : reply.error();
    if (file.lost->code == ErrorCode::kUnavailable) process_.reset();
    return fail(*file.lost);
  }
  file.handle = opened->handle;
  file.lost.reset();
  return {};
}

Result<Reply> Share::exchange(const Request& request, int timeout_ms) {
  const std::uint32_t id = next_id_++;
  process_->send(encode(id, request));
  const std::int64_t deadline = now_ms() + timeout_ms + kGraceMs;
  while (true) {
    FARSIDE_ASSIGN(auto reply, process_->next());
    if (reply) {
      if (reply->id != id) return odd_reply();
      if (const auto* refused = std::get_if<Refused>(&reply->message)) {
        return fail(error_of(*refused));
      }
      return std::move(reply->message);
    }
    const std::int64_t left = deadline - now_ms();
    if (left <= 0) {
      return fail(ErrorCode::kUnavailable, "SMB server " + options_.server + " did not answer",
                  "see whether the host is up");
    }
    FARSIDE_TRY(process_->pump(static_cast<int>(left)));
  }
}

Result<Share::OpenFile*> Share::file_of(FileId file) {
  const auto found = files_.find(file);
  if (found != files_.end()) return &found->second;
  return fail(ErrorCode::kInvalidArgument, "the file is not open");
}

void Share::send(Pending& pending) {
  pending.attempts += 1;
  if (pending_.empty()) heard_ms_ = now_ms();
  process_->send(encode(pending.id, pending.request));
}

void Share::finish_one(Pending pending, Result<Reply> reply) {
  finishing_ += 1;
  pending.finish(std::move(reply));
  finishing_ -= 1;
}

void Share::submit(Request request, FileId file, Finish finish) {
  Pending pending{
      .id = next_id_++, .request = std::move(request), .file = file, .finish = std::move(finish)};
  if (const Status connected = ensure_connected(); !connected) {
    finish_one(std::move(pending), fail(connected.error()));
    return;
  }
  if (file.number != 0) {
    const auto open = file_of(file);
    Status usable = open ? Status{} : fail(open.error());
    if (open && (*open)->lost) {
      usable = pending_.empty() ? reopen(**open) : fail(*(*open)->lost);
    }
    if (!usable) {
      finish_one(std::move(pending), fail(usable.error()));
      return;
    }
    set_handle(pending.request, (*open)->handle);
    if (is_change(pending.request)) (*open)->is_dirty = true;
  }
  send(pending);
  pending_.push_back(std::move(pending));
}

void Share::step(int timeout_ms) {
  if (process_ == nullptr) return;
  const auto progress = process_->pump(timeout_ms);
  if (progress && *progress) heard_ms_ = now_ms();
  take_replies();  // Also what it said before it ended.
  if (process_ == nullptr || pending_.empty()) return;
  if (!progress) return lose(progress.error());
  if (now_ms() - heard_ms_ > options_.request_timeout_ms + kGraceMs) {
    lose({.code = ErrorCode::kUnavailable,
          .what = "SMB server " + options_.server + " did not answer",
          .advice = "see whether the host is up"});
  }
}

void Share::take_replies() {
  while (process_ != nullptr) {
    auto reply = process_->next();
    if (!reply) return lose(reply.error());
    if (!*reply) return;
    if (pending_.empty() || pending_.front().id != (*reply)->id) {
      return lose({.code = ErrorCode::kInternal,
                   .what = "farside-smb answered what was not asked",
                   .advice = {}});
    }
    const auto* refused = std::get_if<Refused>(&(*reply)->message);
    if (refused != nullptr) {
      const Error error = error_of(*refused);
      if (error.code == ErrorCode::kUnavailable) return lose(error);
      Pending pending = std::move(pending_.front());
      pending_.pop_front();
      finish_one(std::move(pending), fail(error));
      continue;
    }
    Pending pending = std::move(pending_.front());
    pending_.pop_front();
    finish_one(std::move(pending), std::move((*reply)->message));
  }
}

void Share::lose(const Error& cause) {
  const Error lost{
      .code = ErrorCode::kUnavailable,
      .what = "share '" + options_.share + "' on " + options_.server + " was lost: " + cause.what,
      .advice = cause.advice};
  process_.reset();
  for (auto& [id, file] : files_) {
    file.handle = 0;
    file.is_unsure |= file.is_dirty;
  }
  std::deque<Pending> again;
  std::deque<Pending> failed;
  for (Pending& one : pending_) {
    (is_repeatable(one.request) && one.attempts < 2 ? again : failed).push_back(std::move(one));
  }
  pending_.clear();
  Status connected;
  if (!again.empty()) connected = ensure_connected();
  for (Pending& one : again) {
    Status usable = connected;
    if (usable && one.file.number != 0) {
      const auto open = file_of(one.file);
      if (!open) usable = fail(open.error());
      if (open && (*open)->lost) usable = fail(*(*open)->lost);
      if (usable) set_handle(one.request, (*open)->handle);
    }
    if (usable) {
      send(one);
      pending_.push_back(std::move(one));
    } else {
      finish_one(std::move(one), fail(usable.error()));
    }
  }
  for (Pending& one : failed) finish_one(std::move(one), fail(lost));
}

Result<Reply> Share::call(Request request, FileId file) {
  FARSIDE_ASSERT(finishing_ == 0);  // A callback may not wait.
  std::optional<Result<Reply>> result;
  submit(std::move(request), file, [&](Result<Reply> reply) { result = std::move(reply); });
  while (!result) step(kStepMs);
  return std::move(*result);
}

template <class T>
Result<T> Share::ask(Request request, FileId file) {
  FARSIDE_ASSIGN(Reply reply, call(std::move(request), file));
  if (auto* wanted = std::get_if<T>(&reply)) return std::move(*wanted);
  return odd_reply();
}

Status Share::order(Request request, FileId file) {
  FARSIDE_TRY(ask<smb::Done>(std::move(request), file));
  return {};
}

Status Share::connect() {
  return ensure_connected();
}

Result<Attributes> Share::attributes(const std::string& path) {
  return ask<Attributes>(GetAttributes{.path = path});
}

Result<std::vector<Entry>> Share::list(const std::string& path) {
  FARSIDE_ASSIGN(Listed listed, ask<Listed>(ListFolder{.path = path}));
  return std::move(listed.entries);
}

Status Share::make_folders(const std::string& path) {
  return order(MakeFolders{.path = path});
}

Status Share::rename(const std::string& from, const std::string& to) {
  return order(Rename{.from = from, .to = to});
}

Status Share::remove(const std::string& path) {
  return order(Remove{.path = path});
}

Status Share::remove_tree(const std::string& path) {
  if (path.find_first_not_of("/\\") == std::string::npos) {
    return fail(ErrorCode::kInvalidArgument, "a whole share is not removed");
  }
  const auto there = attributes(path);
  if (!there && there.error().code == ErrorCode::kNotFound) return {};
  if (!there) return fail(there.error());
  std::size_t left = kTreeEntriesMax;
  return there->is_folder ? remove_level(path, 0, left) : remove(path);
}

Status Share::remove_level(const std::string& path, int depth, std::size_t& left) {
  if (depth >= kTreeDepthMax) {
    return fail(ErrorCode::kTooLarge, "folder " + path + " is nested too deeply");
  }
  FARSIDE_ASSIGN(const auto entries, list(path));
  if (entries.size() > left) {
    return fail(ErrorCode::kTooLarge, "folder " + path + " has too many entries to remove it");
  }
  left -= entries.size();
  for (const Entry& entry : entries) {
    const std::string name = path + "/" + entry.name;
    const Status removed =
        entry.attributes.is_folder ? remove_level(name, depth + 1, left) : remove(name);
    if (!removed && removed.error().code != ErrorCode::kNotFound) return removed;
  }
  return remove(path);
}

Result<Space> Share::space(const std::string& path) {
  return ask<Space>(GetSpace{.path = path});
}

Result<FileId> Share::open(const std::string& path, Access access) {
  if (files_.size() >= kOpenFilesMax) {
    return fail(ErrorCode::kTooLarge, "too many files are open on the share");
  }
  FARSIDE_ASSIGN(const Opened opened, ask<Opened>(Open{.path = path, .access = access}));
  const FileId file{next_file_++};
  files_[file] = {.path = path,
                  .access = access == Access::kCreateNew ? Access::kReadWrite : access,
                  .handle = opened.handle};
  return file;
}

Status Share::close(FileId file) {
  FARSIDE_ASSIGN(const OpenFile* open, file_of(file));
  const std::uint32_t handle = open->lost ? 0 : open->handle;
  files_.erase(file);
  if (process_ == nullptr || handle == 0) return {};
  const Status closed = order(Close{.handle = handle});
  // With the process gone, so is the open file.
  if (!closed && closed.error().code == ErrorCode::kUnavailable) return {};
  return closed;
}

Result<std::uint64_t> Share::size(FileId file) {
  FARSIDE_ASSIGN(const SizeTold told, ask<SizeTold>(GetSize{}, file));
  return told.bytes;
}

Status Share::read_async(FileId file, std::uint64_t offset, std::size_t length, char* to,
                         Done done) {
  if (length > kTransferBytesMax) {
    return fail(ErrorCode::kInvalidArgument, "one read of " + std::to_string(length) + " bytes");
  }
  while (pending_.size() >= options_.reads_in_flight) {
    if (finishing_ > 0) return fail(ErrorCode::kConflict, "too many reads are under way");
    step(kStepMs);
  }
  submit(Read{.offset = offset, .length = static_cast<std::uint32_t>(length)}, file,
         [length, to, offset, done = std::move(done)](const Result<Reply>& reply) {
           if (!reply) return done(fail(reply.error()));
           const auto* read = std::get_if<BytesRead>(&*reply);
           if (read == nullptr || read->bytes.size() > length) return done(odd_reply());
           std::ranges::copy(read->bytes, to);
           if (read->bytes.size() < length) {
             return done(fail(ErrorCode::kCorrupt, "the file ends at " +
                                                       std::to_string(offset + read->bytes.size()) +
                                                       ", before the end of what was to be read"));
           }
           done({});
         });
  return {};
}

void Share::poll(int timeout_ms) {
  const std::int64_t deadline = now_ms() + timeout_ms;
  const std::size_t before = pending_.size();
  const std::uint32_t first = before > 0 ? pending_.front().id : 0;
  while (!pending_.empty() && pending_.front().id == first) {
    const std::int64_t left = deadline - now_ms();
    step(static_cast<int>(std::clamp<std::int64_t>(left, 0, kStepMs)));
    if (left <= 0) return;
  }
}

Status Share::read(FileId file, std::uint64_t offset, std::span<char> to) {
  FARSIDE_ASSERT(finishing_ == 0);
  Status all;
  std::size_t left = 0;
  const auto done = [&](const Status& status) {
    left -= 1;
    if (all && !status) all = status;
  };
  for (std::size_t at = 0; at < to.size() && all; at += kPieceBytes) {
    const std::size_t part = std::min<std::size_t>(kPieceBytes, to.size() - at);
    left += 1;
    const Status begun = read_async(file, offset + at, part, to.data() + at, done);
    if (!begun) done(begun);
  }
  while (left > 0) step(kStepMs);
  return all;
}

Status Share::read_extents(FileId file, std::span<const Extent> pieces, std::span<char* const> to) {
  FARSIDE_ASSERT(finishing_ == 0);
  FARSIDE_ASSERT(pieces.size() == to.size());
  const std::vector<ReadRequest> requests = coalesce(pieces, kGapBytes, kPieceBytes);
  Status all;
  std::size_t left = 0;
  std::vector<std::unique_ptr<char[]>> spare;  // Buffers of requests that are done.
  for (const ReadRequest& request : requests) {
    if (!all) break;
    left += 1;
    const std::size_t length = request.extent.length;
    const auto done = [&](const Status& status) {
      left -= 1;
      if (all && !status) all = status;
    };
    // A request with one piece needs no copy.
    if (request.parts.size() == 1) {
      const Part& part = request.parts.front();
      char* place = to[part.piece] + part.in_piece;
      const Status begun = read_async(file, request.extent.offset, length, place, done);
      if (!begun) done(begun);
      continue;
    }
    if (spare.empty()) spare.push_back(std::make_unique_for_overwrite<char[]>(kPieceBytes));
    char* buffer = spare.back().release();
    spare.pop_back();
    const auto spread = [&, buffer, length](const Status& status) {
      if (status) scatter(request, {buffer, length}, to);
      spare.emplace_back(buffer);
      left -= 1;
      if (all && !status) all = status;
    };
    const Status begun = read_async(file, request.extent.offset, length, buffer, spread);
    if (!begun) spread(begun);
  }
  while (left > 0) step(kStepMs);
  return all;
}

Status Share::write(FileId file, std::uint64_t offset, std::string_view bytes) {
  FARSIDE_ASSERT(finishing_ == 0);
  Status all;
  std::size_t left = 0;
  for (std::size_t at = 0; at < bytes.size() && all; at += kPieceBytes) {
    while (pending_.size() >= options_.reads_in_flight) step(kStepMs);
    left += 1;
    submit(Write{.offset = offset + at, .bytes = bytes.substr(at, kPieceBytes)}, file,
           [&](const Result<Reply>& reply) {
             left -= 1;
             if (all && !reply) all = fail(reply.error());
             if (all && !std::holds_alternative<smb::Done>(*reply)) all = odd_reply();
           });
  }
  while (left > 0) step(kStepMs);
  return all;
}

Status Share::truncate(FileId file, std::uint64_t bytes) {
  return order(Truncate{.bytes = bytes}, file);
}

Status Share::flush(FileId file) {
  FARSIDE_ASSIGN(OpenFile * open, file_of(file));
  if (!open->is_dirty) return {};
  if (!open->is_unsure) {
    const Status flushed = order(Flush{}, file);
    // The list may have changed: a callback of a read under way may not, but be safe.
    FARSIDE_ASSIGN(open, file_of(file));
    if (flushed) open->is_dirty = false;
    if (flushed || !open->is_unsure) return flushed;
  }
  const std::string path = open->path;
  open->is_dirty = false;
  open->is_unsure = false;
  return fail(ErrorCode::kUnavailable,
              "the share was lost while " + path +
                  " was being written, and the host may have lost "
                  "what was not flushed",
              "write it again");
}

Result<std::unique_ptr<hyperv::ByteFile>> Share::open_file(const std::string& path, Access access) {
  FARSIDE_ASSIGN(const FileId file, open(path, access));
  return std::make_unique<ShareFile>(*this, file);
}

}  // namespace farside::agent::smb
