// The target's end of one session: turns frames into calls on a replica.
//
// Owns: nothing of the replica.  Thread: one, that of its session.
// Invariants
//   * Nothing is done for an item before an OpenDelta whose key and epoch it was introduced with.
//   * A newer session of the same item ends this one: blocks that were still queued here must not
//     be mixed into what the newer one sends.
#pragma once

#include <cstdint>
#include <functional>
#include <mutex>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "common/base/result.h"
#include "common/schema/data.plain.h"
#include "services/agent/data_plane/arrival_clock.h"
#include "services/agent/data_plane/point_rate.h"
#include "services/agent/data_plane/seal.h"
#include "services/agent/replica_store/item.h"

namespace farside::data {

// An item that a source was introduced for.  Lives as long as the receiver; its mutex is held while
// a session works on the item.
struct Introduction {
  std::mutex mutex;
  bool allowed = false;
  std::string source_key;
  std::uint64_t epoch = 0;
  std::uint64_t owner = 0;  // Number of the session that may write.
  PointRate points;
};

class Session final {
 public:
  struct World {
    // Finds or makes the replica.
    std::function<Result<replica::SharedItem>(const std::string& item,
                                              const std::vector<msg::ReplicaDisk>& disks)>
        open_item;
    std::function<Introduction*(const std::string& item)> introduction;  // nullptr: none.
    std::function<void(const std::string& item, const msg::RecoveryPoint& point)> on_durable;
    std::function<void(const std::string& item)> on_opened;  // This session writes it from now on.
    std::function<void(const msg::DataFrame& frame, std::string payload)> send;
    ArrivalClock* arrivals = nullptr;
    std::uint64_t window_bytes = 0;
    std::uint16_t sealed_port = 0;  // Where sealed frames arrive; 0: nowhere.
    std::uint64_t sealed_session = 0;
  };

  Session(std::uint64_t number, std::string source_key, const World& world)
      : number_(number), source_key_(std::move(source_key)), world_(world) {}

  // Makes what was staged survive this process, unless a newer session does.
  ~Session();
  Session(const Session&) = delete;
  Session& operator=(const Session&) = delete;

  // An error ends the session; the caller tells the source.
  Status handle(const msg::DataFrame& frame, std::string_view payload);
  // A frame that came beside CURVE: only blocks may.
  Status handle_sealed(std::string_view part1, std::span<char> payload);

 private:
  Status open(const msg::OpenDelta& request);
  Status check_owner() const;
  Result<std::uint16_t> target_disk(std::uint16_t disk) const;
  Status on_blocks(const msg::BlockBatch& batch, std::string_view payload);
  Status on_unstage(const msg::UnstageBlocks& request, std::string_view payload);
  Status on_ask_staged(const msg::AskStaged& request);
  Status on_ask_hashes(const msg::AskHashes& request);
  Status on_finish(const msg::FinishDelta& request);

  std::uint64_t number_;
  std::string source_key_;
  const World& world_;
  Introduction* introduction_ = nullptr;
  replica::SharedItem item_;
  std::string item_name_;
  std::uint64_t epoch_ = 0;
  std::vector<std::uint16_t> disks_;  // The replica's numbers of the source's disks.
  std::string definition_;            // Digest of that of the VM; empty: none.
  std::vector<replica::BlockWrite> writes_;
  std::optional<Seal> seal_;
};

}  // namespace farside::data
