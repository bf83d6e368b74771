// Reads chosen blocks of the frozen disks of a point, in order, several reads under way at a time.
//
// Owns: the buffers of reads under way.  Thread: one.
// Invariant: destroyed only when no read is under way, see drain().
#pragma once

#include <chrono>
#include <cstdint>
#include <deque>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "common/base/result.h"
#include "services/agent/platforms/platform.h"
#include "services/agent/replica_store/block_set.h"

namespace farside::data {

// The blocks that the extents touch; `only_data` leaves out those that read as zeros.
replica::BlockSet touched(const std::vector<agent::Extent>& extents, std::uint64_t bytes,
                          bool only_data);

struct Chunk {
  std::uint16_t disk = 0;
  std::uint32_t first = 0;  // Block.
  std::string bytes;        // Of whole blocks, one after the other.
};

class BlockReader final {
 public:
  // `blocks[i]` of the i-th disk of the point.
  BlockReader(agent::Point& point, std::vector<replica::BlockSet> blocks)
      : point_(point), blocks_(std::move(blocks)) {}
  ~BlockReader();
  BlockReader(const BlockReader&) = delete;
  BlockReader& operator=(const BlockReader&) = delete;

  // Starts reads until `chunks_max` are under way or done and not taken, runs completions, and
  // waits up to `timeout_ms` for one if `timeout_ms` > 0.  Errors: those of the disk, once all that
  // could be read was taken; kTimeout (no read ended for a minute).
  Status advance(std::size_t chunks_max, int timeout_ms);
  std::optional<Chunk> take();  // In any order.

  bool has_reads() const { return under_way_ > 0; }
  bool is_done() const;  // Everything was read and taken.

 private:
  struct Read {
    Chunk chunk;
    bool done = false;
    bool failed = false;
  };
  bool start_next(Status& status);
  Status poll(int timeout_ms);

  agent::Point& point_;
  std::vector<replica::BlockSet> blocks_;
  std::size_t disk_ = 0;
  std::uint64_t next_ = 0;
  std::deque<std::unique_ptr<Read>> reads_;
  std::size_t under_way_ = 0;
  Status failed_;
  std::chrono::steady_clock::time_point progress_ = std::chrono::steady_clock::now();
};

}  // namespace farside::data
