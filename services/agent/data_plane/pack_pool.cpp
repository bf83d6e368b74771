#include "services/agent/data_plane/pack_pool.h"

#include <sys/eventfd.h>
#include <unistd.h>

#include <utility>

#include "common/base/assert.h"
#include "services/agent/replica_store/block.h"

namespace farside::data {

Packed pack(PackJob job, Guess& guess) {
  Packed out;
  out.batch.disk = job.disk;
  out.first = job.first;
  out.guest_bytes = job.plain.size();
  // As long as every block goes as it is, the payload is the job's own buffer: nothing is copied.
  bool is_plain = true;
  const auto no_longer_plain = [&](std::size_t at) {
    if (!std::exchange(is_plain, false)) return;
    out.payload.reserve(job.plain.size());
    out.payload.assign(job.plain, 0, at);
  };
  std::string packed;
  std::size_t index = 0;
  for (std::size_t at = 0; at < job.plain.size(); at += replica::kBlockBytes, ++index) {
    const std::string_view plain = std::string_view(job.plain).substr(at, replica::kBlockBytes);
    const std::uint64_t hash = job.hash(plain);
    out.hashes.push_back(hash);
    if (index < job.known.size() && job.known[index] == hash) {
      no_longer_plain(at);
      continue;
    }
    msg::BlockHead head{.block = job.first + static_cast<std::uint32_t>(index), .hash = hash};
    replica::Codec codec = replica::Codec::kZero;
    std::string_view payload;
    if (replica::is_zero(plain)) {
      ++out.zero_blocks;
    } else {
      codec = replica::Codec::kRaw;
      if (guess.is_worth_a_try()) {
        codec = replica::pack(plain, job.level, packed);
        guess.note(codec == replica::Codec::kZstd);
      }
      payload = codec == replica::Codec::kRaw ? plain : std::string_view(packed);
    }
    if (codec != replica::Codec::kRaw) no_longer_plain(at);
    if (!is_plain) out.payload += payload;
    head.codec = static_cast<std::uint8_t>(codec);
    head.stored = static_cast<std::uint32_t>(payload.size());
    out.batch.blocks.push_back(head);
  }
  if (is_plain) out.payload = std::move(job.plain);
  return out;
}

PackPool::PackPool(std::size_t threads) : fd_(eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK)) {
  FARSIDE_ASSERT(fd_ >= 0);
  for (std::size_t i = 0; i < threads; ++i) threads_.emplace_back([this] { work(); });
}

PackPool::~PackPool() {
  {
    const std::lock_guard lock(mutex_);
    stop_ = true;
  }
  wake_.notify_all();
  for (std::thread& thread : threads_) thread.join();
  close(fd_);
}

void PackPool::put(PackJob job) {
  ++under_way_;
  {
    const std::lock_guard lock(mutex_);
    jobs_.push_back(std::move(job));
  }
  wake_.notify_one();
}

std::optional<Packed> PackPool::take() {
  std::uint64_t count = 0;
  [[maybe_unused]] const ssize_t n = read(fd_, &count, sizeof count);
  const std::lock_guard lock(mutex_);
  if (done_.empty()) return std::nullopt;
  std::optional<Packed> out(std::move(done_.front()));
  done_.pop_front();
  --under_way_;
  return out;
}

void PackPool::work() {
  Guess guess;
  for (;;) {
    PackJob job;
    {
      std::unique_lock lock(mutex_);
      wake_.wait(lock, [this] { return stop_ || !jobs_.empty(); });
      if (stop_) return;
      job = std::move(jobs_.front());
      jobs_.pop_front();
    }
    Packed packed = pack(std::move(job), guess);
    {
      const std::lock_guard lock(mutex_);
      done_.push_back(std::move(packed));
    }
    const std::uint64_t one = 1;
    [[maybe_unused]] const ssize_t n = write(fd_, &one, sizeof one);
  }
}

}  // namespace farside::data
