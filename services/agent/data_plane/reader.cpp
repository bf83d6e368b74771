#include "services/agent/data_plane/reader.h"

#include <algorithm>

#include "services/agent/data_plane/frames.h"
#include "services/agent/replica_store/block.h"

namespace farside::data {
namespace {
constexpr auto kReadDeadline = std::chrono::seconds(60);
}

replica::BlockSet touched(const std::vector<agent::Extent>& extents, std::uint64_t bytes,
                          bool only_data) {
  replica::BlockSet out(replica::blocks_of(bytes));
  for (const agent::Extent& extent : extents) {
    if (extent.length == 0 || (only_data && extent.zero)) continue;
    out.add_range(extent.offset / replica::kBlockBytes,
                  (extent.offset + extent.length - 1) / replica::kBlockBytes + 1);
  }
  return out;
}

BlockReader::~BlockReader() {
  // The disk writes into our buffers: give reads under way their time, then leak rather than let
  // it write into memory that is somebody else's.
  for (int i = 0; i < 100 && under_way_ > 0; ++i) {
    if (!poll(100)) break;
  }
  if (under_way_ == 0) return;
  for (auto& read : reads_) {
    if (read->done) continue;
    [[maybe_unused]] const Read* const leaked = read.release();
  }
}

// Never after a failure: the read that failed is in nobody's list any more.
bool BlockReader::is_done() const {
  return failed_.has_value() && disk_ == blocks_.size() && reads_.empty();
}

bool BlockReader::start_next(Status& status) {
  while (disk_ < blocks_.size()) {
    const auto first = blocks_[disk_].next(next_);
    if (!first) {
      ++disk_;
      next_ = 0;
      continue;
    }
    std::uint64_t end = *first + 1;
    while (end < *first + kBatchBlocksMax && blocks_[disk_].has(end)) ++end;
    next_ = end;

    agent::FrozenDisk& disk = *point_.disks()[disk_];
    const std::uint64_t offset = *first * replica::kBlockBytes;
    const std::uint64_t length = std::min(disk.bytes(), end * replica::kBlockBytes) - offset;
    auto read = std::make_unique<Read>();
    read->chunk = {.disk = static_cast<std::uint16_t>(disk_),
                   .first = static_cast<std::uint32_t>(*first),
                   .bytes = {}};
    // Not filled first: the disk writes all of it, but for what lies beyond its own end.
    const std::uint64_t whole = (end - *first) * replica::kBlockBytes;
    read->chunk.bytes.resize_and_overwrite(whole, [&](char* bytes, std::size_t n) {
      std::fill(bytes + length, bytes + n, '\0');
      return n;
    });
    Read* const raw = read.get();
    ++under_way_;
    reads_.push_back(std::move(read));
    status = disk.read_async(offset, length, raw->chunk.bytes.data(), [this, raw](Status done) {
      raw->done = true;
      --under_way_;
      progress_ = std::chrono::steady_clock::now();
      raw->failed = !done;
      if (!done && failed_) failed_ = std::move(done);
    });
    if (!status) {  // It did not start, so it will not complete.
      --under_way_;
      reads_.pop_back();
    }
    return status.has_value();
  }
  return false;
}

Status BlockReader::poll(int timeout_ms) {
  // Several disks rarely have reads under way at once: only around the end of each.
  std::vector<bool> busy(blocks_.size());
  for (const auto& read : reads_) {
    if (!read->done) busy[read->chunk.disk] = true;
  }
  for (std::size_t i = 0; i < busy.size(); ++i) {
    if (!busy[i]) continue;
    FARSIDE_TRY(point_.disks()[i]->poll(timeout_ms));
    timeout_ms = 0;
  }
  return {};
}

Status BlockReader::advance(std::size_t chunks_max, int timeout_ms) {
  if (under_way_ == 0) progress_ = std::chrono::steady_clock::now();
  Status started;
  while (failed_ && reads_.size() < chunks_max && start_next(started)) {
  }
  if (!started && failed_) failed_ = std::move(started);
  if (under_way_ > 0) {
    FARSIDE_TRY(poll(timeout_ms));
    if (std::chrono::steady_clock::now() - progress_ > kReadDeadline) {
      return fail(ErrorCode::kTimeout, "the frozen disks do not answer reads",
                  "check the host's storage; replication goes on by itself");
    }
  }
  // What was read before something failed is still good.
  std::erase_if(reads_, [](const auto& read) { return read->done && read->failed; });
  return reads_.empty() ? failed_ : Status();
}

std::optional<Chunk> BlockReader::take() {
  for (auto it = reads_.begin(); it != reads_.end(); ++it) {
    if (!(*it)->done) continue;
    std::optional<Chunk> out(std::move((*it)->chunk));
    reads_.erase(it);
    return out;
  }
  return std::nullopt;
}

}  // namespace farside::data
