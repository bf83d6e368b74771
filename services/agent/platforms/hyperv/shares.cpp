#include "services/agent/platforms/hyperv/shares.h"

#include <utility>

namespace farside::agent::hyperv {
namespace {

constexpr std::uint64_t kSmallBytesMax = 64U << 10U;

// A file with the connection that it was opened over.
class LeasedFile final : public ByteFile {
 public:
  LeasedFile(Shares::Lease share, std::unique_ptr<ByteFile> file)
      : share_(std::move(share)), file_(std::move(file)) {}

  Result<std::uint64_t> size() override { return file_->size(); }
  Status read_at(std::uint64_t offset, std::span<char> to) override {
    return file_->read_at(offset, to);
  }
  Status write_at(std::uint64_t offset, std::string_view bytes) override {
    return file_->write_at(offset, bytes);
  }
  Status truncate(std::uint64_t bytes) override { return file_->truncate(bytes); }
  Status flush() override { return file_->flush(); }

 private:
  Shares::Lease share_;             // Last to go:
  std::unique_ptr<ByteFile> file_;  // this closes itself over it.
};

bool is_missing(const Error& error) {
  return error.code == ErrorCode::kNotFound;
}

}  // namespace

Result<Shares::Lease> Shares::take(const std::string& share) {
  Pool<smb::Share>* pool = nullptr;
  {
    const std::lock_guard lock(mutex_);
    auto& one = pools_[share];
    if (one == nullptr) {
      smb::ShareOptions options = login_;
      options.share = share;
      one = std::make_unique<Pool<smb::Share>>([options]() -> Result<std::unique_ptr<smb::Share>> {
        return std::make_unique<smb::Share>(options);
      });
    }
    pool = one.get();
  }
  return pool->take();
}

Result<std::unique_ptr<ByteFile>> Shares::open(const std::string& path, smb::Access access) {
  FARSIDE_ASSIGN(const SharePath place, locate(path));
  FARSIDE_ASSIGN(Lease share, take(place.share));
  FARSIDE_ASSIGN(auto file, share->open_file(place.path, access));
  return std::make_unique<LeasedFile>(std::move(share), std::move(file));
}

Status Shares::make_folders(const std::string& path) {
  FARSIDE_ASSIGN(const SharePath place, locate(path));
  if (place.path.empty()) return {};
  FARSIDE_ASSIGN(const Lease share, take(place.share));
  return share->make_folders(place.path);
}

Status Shares::rename(const std::string& from, const std::string& to) {
  FARSIDE_ASSIGN(const SharePath old_place, locate(from));
  FARSIDE_ASSIGN(const SharePath new_place, locate(to));
  if (old_place.share != new_place.share) {
    return fail(ErrorCode::kInvalidArgument,
                "'" + from + "' and '" + to + "' are not on the same share");
  }
  FARSIDE_ASSIGN(const Lease share, take(old_place.share));
  return share->rename(old_place.path, new_place.path);
}

Status Shares::remove(const std::string& path) {
  FARSIDE_ASSIGN(const SharePath place, locate(path));
  FARSIDE_ASSIGN(const Lease share, take(place.share));
  const Status removed = share->remove(place.path);
  return !removed && is_missing(removed.error()) ? Status() : removed;
}

Status Shares::remove_tree(const std::string& path) {
  FARSIDE_ASSIGN(const SharePath place, locate(path));
  FARSIDE_ASSIGN(const Lease share, take(place.share));
  const Status removed = share->remove_tree(place.path);
  return !removed && is_missing(removed.error()) ? Status() : removed;
}

Result<bool> Shares::exists(const std::string& path) {
  FARSIDE_ASSIGN(const SharePath place, locate(path));
  if (place.path.empty()) return true;
  FARSIDE_ASSIGN(const Lease share, take(place.share));
  const auto found = share->attributes(place.path);
  if (found) return true;
  if (is_missing(found.error())) return false;
  return fail(found.error());
}

Result<smb::Space> Shares::space(const std::string& path) {
  FARSIDE_ASSIGN(const SharePath place, locate(path));
  FARSIDE_ASSIGN(const Lease share, take(place.share));
  return share->space(place.path);
}

Result<std::vector<smb::Entry>> Shares::list(const std::string& path) {
  FARSIDE_ASSIGN(const SharePath place, locate(path));
  FARSIDE_ASSIGN(const Lease share, take(place.share));
  auto entries = share->list(place.path);
  if (!entries && is_missing(entries.error())) return std::vector<smb::Entry>();
  return entries;
}

Status Shares::write_small(const std::string& path, const std::string& text) {
  const std::string half_made = path + ".new";
  FARSIDE_TRY(remove(half_made));
  {
    FARSIDE_ASSIGN(const auto file, open(half_made, smb::Access::kCreateNew));
    FARSIDE_TRY(file->write_at(0, text));
    FARSIDE_TRY(file->flush());
  }
  return rename(half_made, path);
}

Result<std::string> Shares::read_small(const std::string& path) {
  FARSIDE_ASSIGN(const auto file, open(path, smb::Access::kRead));
  FARSIDE_ASSIGN(const std::uint64_t bytes, file->size());
  if (bytes > kSmallBytesMax) return fail(ErrorCode::kTooLarge, "file '" + path + "'");
  std::string text(bytes, '\0');
  FARSIDE_TRY(file->read_at(0, text));
  return text;
}

}  // namespace farside::agent::hyperv
