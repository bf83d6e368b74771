// One attempt at one delta, from the opened session to the acknowledgement.
//
// Thread: one.  Bounds: kChunksMax MiB are read ahead, as many are being packed, and the target's
// window limits what is on its way.
#pragma once

#include <cstdint>
#include <deque>
#include <functional>
#include <map>
#include <string>
#include <vector>

#include "common/base/result.h"
#include "services/agent/data_plane/channel.h"
#include "services/agent/data_plane/kept_hashes.h"
#include "services/agent/data_plane/pack_pool.h"
#include "services/agent/data_plane/pending_map.h"
#include "services/agent/data_plane/rate_limit.h"
#include "services/agent/data_plane/reader.h"
#include "services/agent/data_plane/shipper.h"

namespace farside::data {

class Shipment final {
 public:
  Shipment(agent::Point& point, const ShipRequest& request, Channel& channel, PackPool& pool,
           const std::function<void(const Progress&)>& on_progress, KeptHashes* hashes = nullptr);

  // The target's answer to OpenDelta; adds what it still has staged.
  Result<msg::DeltaOpened> open(const std::string& cycle, bool compare);
  Status unstage(std::uint16_t disk, const BlockSet& blocks);
  Result<BlockSet> staged(std::uint16_t disk);

  // Sends the blocks: those in `data[i]` are read, the others of `blocks[i]` are zeros.  With
  // `compare`, only those whose hash differs from the target's.
  Status send(const std::vector<BlockSet>& blocks, const std::vector<BlockSet>& data, bool compare);
  Result<Shipped> finish(std::uint64_t blocks);

  // After an error on this side: lets what was read already arrive, for the next attempt.
  void drain();

  const std::vector<BlockSet>& sent() const { return sent_; }
  Shipped& shipped() { return shipped_; }

 private:
  template <class Answer>
  Result<Answer> ask(const msg::DataFrame& request, std::string payload, std::string* answer);
  Status on_frame(const Received& received);
  Status check_alive();
  Status check_complete() const;
  Status pump_incoming(int timeout_ms);
  Status flush_batches();
  void plan_zeros(std::uint16_t disk, const BlockSet& zeros,
                  const std::vector<std::uint64_t>* known, std::uint64_t first);
  Result<std::vector<std::uint64_t>> ask_hashes(std::uint16_t disk, std::uint64_t first,
                                                std::uint64_t count);
  void take_packed();
  Status send_range(const std::vector<BlockSet>& data, bool compare);
  void report();

  agent::Point& point_;
  const ShipRequest& request_;
  Channel& channel_;
  PackPool& pool_;
  KeptHashes* hashes_;  // Null: nobody keeps them.
  const std::function<void(const Progress&)>& on_progress_;
  RateLimit rate_;
  Progress progress_;
  Shipped shipped_;
  std::uint64_t credit_ = 0;
  std::uint64_t window_bytes_ = 0;
  msg::DeltaOpened opened_;
  replica::BlockHash hash_;
  std::deque<Packed> ready_;
  std::vector<BlockSet> sent_;
  // The target's hashes of the part that is being compared, and its first block.
  std::vector<std::uint64_t> compared_;
  std::uint64_t compared_first_ = 0;
  std::chrono::steady_clock::time_point looked_{};
  std::chrono::steady_clock::time_point moved_{};
};

}  // namespace farside::data
