#include "services/agent/data_plane/kept_hashes.h"

#include <filesystem>
#include <utility>

#include "common/base/log.h"
#include "services/agent/data_plane/reader.h"
#include "services/agent/data_plane/shipper.h"
#include "services/agent/replica_store/block.h"
#include "services/agent/replica_store/block_hash.h"

namespace farside::data {
namespace {

using replica::kBlockBytes;

constexpr std::size_t kChunksMax = 8;
constexpr int kNapMs = 20;

std::vector<msg::HashedDisk> disks_of(agent::Point& point) {
  std::vector<msg::HashedDisk> out;
  for (const auto& disk : point.disks()) {
    out.push_back({.name = disk->name(), .id = disk->id(), .bytes = disk->bytes()});
  }
  return out;
}

// Hashes kept of exactly this point; none if there are none, or they are damaged.
std::optional<HashFile> kept_of(const std::string& path, agent::Point& point,
                                const DigestRequest& request) {
  auto file = HashFile::open(path);
  if (!file) {
    if (file.error().code != ErrorCode::kNotFound) {
      log::warn("hashes_unreadable", {{"path", path}, {"cause", file.error()}});
    }
    return std::nullopt;
  }
  const bool is_theirs = file->is_of(request.attempt) && file->key() == request.hash_key;
  if (!is_theirs || !file->fits(disks_of(point))) return std::nullopt;
  if (!request.reads) {
    const auto sound = file->is_sound();
    if (!sound || !*sound) {
      log::warn("hashes_damaged", {{"path", path}});
      return std::nullopt;
    }
  }
  return std::move(*file);
}

// Of no point yet: all that may hold anything but zeros is unknown.
Result<HashFile> all_unknown(const std::string& path, agent::Point& point,
                             const DigestRequest& request) {
  FARSIDE_ASSIGN(auto file, HashFile::create(path, "mark", disks_of(point)));
  FARSIDE_TRY(file.use_key(request.hash_key));
  for (std::size_t i = 0; i < point.disks().size(); ++i) {
    const auto& disk = point.disks()[i];
    FARSIDE_ASSIGN(const std::vector<agent::Extent> allocated, disk->allocated());
    FARSIDE_TRY(file.mark_unknown(i, touched(allocated, disk->bytes(), true)));
  }
  FARSIDE_TRY(file.sync());
  FARSIDE_TRY(file.begin(std::string(HashFile::kFilling), request.attempt));
  return file;
}

// Reads what is unknown, disk by disk: one bitmap of one disk is all that grows with it.
Status read_unknown(HashFile& file, agent::Point& point, const std::stop_token& stop,
                    const std::function<void(const Progress&)>& on_progress) {
  Progress progress{.total = file.unknown() * kBlockBytes};
  FARSIDE_ASSIGN(const auto hash_of, replica::BlockHash::with_key(file.key()));
  std::vector<std::uint64_t> hashes;
  for (std::size_t disk = 0; disk < point.disks().size(); ++disk) {
    std::vector<BlockSet> wanted(point.disks().size());
    FARSIDE_ASSIGN(wanted[disk], file.unknown_in(disk));
    // The hash outruns a disk: this thread is enough.
    BlockReader reader(point, std::move(wanted));
    while (!reader.is_done()) {
      if (stop.stop_requested()) return fail(ErrorCode::kCancelled, "the digest was stopped");
      FARSIDE_TRY(reader.advance(kChunksMax, kNapMs));
      while (const auto chunk = reader.take()) {
        progress.done += chunk->bytes.size();
        if (on_progress) on_progress(progress);
        hashes.clear();
        for (std::size_t at = 0; at < chunk->bytes.size(); at += kBlockBytes) {
          hashes.push_back(hash_of(std::string_view(chunk->bytes).substr(at, kBlockBytes)));
        }
        FARSIDE_TRY(file.set(disk, chunk->first, hashes));
      }
    }
  }
  // What was read of a lost point may be newer; it is then among what changed since.
  if (point.is_lost()) return fail(point.loss().in("the frozen point was lost"));
  return {};
}

}  // namespace

KeptHashes::KeptHashes(std::string path, agent::Point& point)
    : path_(std::move(path)), point_(point) {}

void KeptHashes::drop(const Error& cause) {
  log::warn("hashes_dropped", {{"path", path_}, {"cause", cause}});
  file_.reset();
  std::error_code error;
  std::filesystem::remove(path_,
                          error);  // If it stays, a digest differs, and a comparison mends it.
}

template <class Step>
void KeptHashes::step(const Step& step) {
  if (!file_) return;
  if (const Status done = step(*file_); !done) drop(done.error());
}

void KeptHashes::begin(const Pending& delta, const std::string& last_attempt,
                       const std::vector<PendingDisk>& changed) {
  file_.reset();
  const bool is_copy = delta.base.empty() && last_attempt.empty();
  auto opened =
      is_copy ? HashFile::create(path_, delta.cycle, disks_of(point_)) : HashFile::open(path_);
  if (!opened) {
    if (opened.error().code != ErrorCode::kNotFound) drop(opened.error());
    return;
  }
  const bool is_of_delta = !last_attempt.empty() && opened->cycle() == delta.cycle;
  const bool is_of_base =
      opened->is_of(delta.base) || (!last_attempt.empty() && opened->is_of(last_attempt));
  if (!is_copy && ((!is_of_delta && !is_of_base) || !opened->fits(disks_of(point_)))) {
    drop({.code = ErrorCode::kConflict, .what = "they are of another point or other disks"});
    return;
  }
  file_ = std::move(*opened);
  step([&](HashFile& file) -> Status {
    FARSIDE_TRY(file.begin(delta.cycle, delta.base));
    for (std::size_t i = 0; i < changed.size(); ++i) {
      FARSIDE_TRY(file.mark_unknown(i, changed[i].needed));
    }
    return file.sync();
  });
}

void KeptHashes::begin_whole(const std::string& cycle) {
  file_.reset();
  auto made = HashFile::create(path_, cycle, disks_of(point_));
  if (made) {
    file_ = std::move(*made);
  } else {
    drop(made.error());
  }
}

void KeptHashes::rebase(const std::string& cycle, const std::string& base) {
  step([&](HashFile& file) { return file.begin(cycle, base); });
}

// A file without a key has no hash yet, or those of a replica that is no more: what is shipped to
// another one either compares all, or fails for its base.
void KeptHashes::use_key(const std::string& key) {
  if (!file_ || file_->key() == key) return;
  if (!file_->key().empty()) {
    drop({.code = ErrorCode::kConflict, .what = "they are of another replica"});
    return;
  }
  step([&](HashFile& file) { return file.use_key(key); });
}

void KeptHashes::set(std::size_t disk, std::uint64_t first, std::span<const std::uint64_t> hashes) {
  step([&](HashFile& file) { return file.set(disk, first, hashes); });
}

void KeptHashes::set_zero(std::size_t disk, const BlockSet& blocks) {
  step([&](HashFile& file) { return file.set_zero(disk, blocks); });
}

void KeptHashes::finish(const std::string& attempt) {
  step([&](HashFile& file) { return file.finish(attempt); });
}

Result<std::string> digest_by(const std::string& path, agent::Point& point,
                              const DigestRequest& request,
                              const std::function<void(const Progress&)>& on_progress) {
  const bool may_read_all = !request.reads;
  auto file = kept_of(path, point, request);
  if (!file && may_read_all) {
    FARSIDE_ASSIGN(file, all_unknown(path, point, request));
  }
  if (!file || file->unknown() > request.reads.value_or(file->unknown())) {
    return fail(ErrorCode::kConflict,
                "the hashes of the source's blocks are not known, and all of them cannot be read "
                "while the VM is down",
                "begin the failover anew: they are read first, while the VM runs");
  }
  if (file->unknown() > 0) {
    FARSIDE_TRY(file->begin(std::string(HashFile::kFilling), request.attempt));
    FARSIDE_TRY(read_unknown(*file, point, request.stop, on_progress));
  }
  if (!file->cycle().empty()) FARSIDE_TRY(file->finish(request.attempt));
  return replica::digest_of(file->sums());
}

}  // namespace farside::data
