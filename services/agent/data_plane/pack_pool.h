// Hashes, looks for zeros and compresses, in a few threads: the work of a source per block.
//
// Owns: its threads.  Thread: jobs go in and come out in one; the queue is bounded by whoever puts
// jobs in (see Shipper).
#pragma once

#include <condition_variable>
#include <cstdint>
#include <deque>
#include <memory>
#include <mutex>
#include <optional>
#include <string>
#include <thread>
#include <vector>

#include "common/schema/data.plain.h"
#include "services/agent/replica_store/block_hash.h"

namespace farside::data {

struct PackJob {
  std::uint16_t disk = 0;
  std::uint32_t first = 0;  // Blocks first, first + 1, ... as long as `plain` goes on.
  std::string plain;
  int level = 1;                     // zstd; 0: none.
  std::vector<std::uint64_t> known;  // Hashes the target has; equal blocks are left out.
  replica::BlockHash hash{};         // Of the replica.
};

struct Packed {
  msg::BlockBatch batch;
  std::string payload;
  std::uint64_t guest_bytes = 0;  // Looked at.
  std::uint64_t zero_blocks = 0;
  std::uint32_t first = 0;
  std::vector<std::uint64_t> hashes;  // Of all blocks of the job, `first` and those after it.
};

// Whether compressing is worth a try.  Data that does not shrink comes in long runs: after one has
// begun, every eighth block tells when it ends.
class Guess final {
 public:
  bool is_worth_a_try() { return misses_ < kRun || ++skipped_ % 8 == 0; }
  void note(bool shrank) { misses_ = shrank ? 0 : misses_ + 1; }

 private:
  static constexpr std::uint32_t kRun = 8;
  std::uint32_t misses_ = 0;
  std::uint32_t skipped_ = 0;
};

Packed pack(PackJob job, Guess& guess);

class PackPool final {
 public:
  explicit PackPool(std::size_t threads);
  ~PackPool();
  PackPool(const PackPool&) = delete;
  PackPool& operator=(const PackPool&) = delete;

  void put(PackJob job);
  std::optional<Packed> take();                         // Does not wait; in any order.
  std::size_t under_way() const { return under_way_; }  // Put and not yet taken.
  int fd() const { return fd_; }  // Readable when there may be something to take.

 private:
  void work();

  int fd_ = -1;
  std::size_t under_way_ = 0;
  std::mutex mutex_;
  std::condition_variable wake_;
  std::deque<PackJob> jobs_;
  std::deque<Packed> done_;
  bool stop_ = false;
  std::vector<std::thread> threads_;
};

}  // namespace farside::data
