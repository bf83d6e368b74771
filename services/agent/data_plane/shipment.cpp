#include "services/agent/data_plane/shipment.h"

#include <algorithm>

#include "services/agent/data_plane/frames.h"
#include "services/agent/replica_store/definition.h"
#include "services/agent/replica_store/layout.h"

namespace farside::data {
namespace {

using replica::blocks_of;

constexpr std::size_t kChunksMax = 8;   // Reads under way; each up to 1 MiB.
constexpr std::size_t kPackingMax = 8;  // Chunks in the pool.
constexpr std::size_t kReadyMax = 16;   // Batches that wait for credit or bandwidth.
constexpr std::uint64_t kWindowBytesMax = std::uint64_t{64} << 20U;  // Whatever the target says.
constexpr int kNapMs = 20;
constexpr auto kDrainMax = std::chrono::seconds(3);
// A delta of less is over before a second connection pays.
constexpr std::uint64_t kSealedFromBytes = std::uint64_t{16} << 20U;

std::chrono::steady_clock::time_point now() {
  return std::chrono::steady_clock::now();
}

}  // namespace

Shipment::Shipment(agent::Point& point, const ShipRequest& request, Channel& channel,
                   PackPool& pool, const std::function<void(const Progress&)>& on_progress,
                   KeptHashes* hashes)
    : point_(point),
      request_(request),
      channel_(channel),
      pool_(pool),
      hashes_(hashes),
      on_progress_(on_progress),
      rate_(request.bytes_per_second) {
  for (const auto& disk : point.disks()) sent_.emplace_back(blocks_of(disk->bytes()));
  moved_ = now();
}

Status Shipment::check_alive() {
  if (request_.stop.stop_requested()) {
    return fail(ErrorCode::kCancelled, "replication of " + request_.item + " was stopped");
  }
  if (now() - looked_ > std::chrono::milliseconds(500)) {
    looked_ = now();
    if (point_.is_lost()) {
      return fail(ErrorCode::kUnavailable,
                  "the platform gave up the frozen view of " + request_.item,
                  "the next attempt takes a new one and goes on where this one ended");
    }
  }
  return {};
}

Status Shipment::on_frame(const Received& received) {
  moved_ = now();
  if (const auto* credit = std::get_if<msg::DataCredit>(&received.frame.value)) {
    // One that gives more than it said it has room for would have us send without end.
    if (credit->bytes > window_bytes_ - credit_) {
      return fail(ErrorCode::kConflict, "the target gave more credit than there was");
    }
    credit_ += credit->bytes;
    return {};
  }
  return fail(ErrorCode::kConflict,
              "the target sent an unexpected " + std::string(name_of(received.frame)));
}

template <class Answer>
Result<Answer> Shipment::ask(const msg::DataFrame& request, std::string payload,
                             std::string* answer) {
  FARSIDE_TRY(channel_.send(request, std::move(payload)));
  const auto deadline = now() + std::chrono::seconds(request_.request_s);
  while (now() < deadline) {
    FARSIDE_TRY(check_alive());
    FARSIDE_ASSIGN(std::optional<Received> received, channel_.receive(200));
    if (!received) continue;
    if (auto* found = std::get_if<Answer>(&received->frame.value)) {
      if (answer != nullptr) *answer = std::move(received->payload);
      moved_ = now();
      return std::move(*found);
    }
    FARSIDE_TRY(on_frame(*received));
  }
  return fail(ErrorCode::kTimeout, "the target did not answer '" + std::string(name_of(request)) +
                                       "' within " + std::to_string(request_.request_s) + " s");
}

Result<msg::DeltaOpened> Shipment::open(const std::string& cycle, bool compare) {
  msg::OpenDelta open{.item = request_.item,
                      .epoch = request_.epoch,
                      .cycle = cycle,
                      .disks = {},
                      .compare = compare,
                      .definition = {}};
  for (const auto& disk : point_.disks()) {
    open.disks.push_back({.name = disk->name(), .bytes = disk->bytes(), .id = disk->id()});
  }
  FARSIDE_ASSIGN(open.definition, replica::definition_digest(point_.definition()));
  FARSIDE_ASSIGN(opened_, ask<msg::DeltaOpened>(frame(std::move(open)), {}, nullptr));
  FARSIDE_ASSIGN(hash_, replica::BlockHash::with_key(opened_.hash_key));
  if (hashes_ != nullptr) hashes_->use_key(opened_.hash_key);
  shipped_.hash_key = opened_.hash_key;
  if (opened_.lacks_definition) {
    FARSIDE_ASSIGN(auto definition, replica::pack_definition(point_.definition()));
    FARSIDE_TRY(ask<msg::DefinitionKept>(frame(msg::PutDefinition{}), std::move(definition.packed),
                                         nullptr));
  }
  credit_ = window_bytes_ = std::min(opened_.window_bytes, kWindowBytesMax);
  return opened_;
}

Status Shipment::unstage(std::uint16_t disk, const BlockSet& blocks) {
  for (std::uint64_t first = 0; first < blocks.size(); first += kBitmapBatchMax) {
    const std::uint64_t count = std::min<std::uint64_t>(kBitmapBatchMax, blocks.size() - first);
    BlockSet part(count);
    for (auto block = blocks.next(first); block && *block < first + count;
         block = blocks.next(*block + 1)) {
      part.add(*block - first);
    }
    if (part.empty()) continue;
    const msg::UnstageBlocks request{.disk = disk,
                                     .first = static_cast<std::uint32_t>(first),
                                     .count = static_cast<std::uint32_t>(count)};
    FARSIDE_TRY(ask<msg::BlocksUnstaged>(frame(request), part.to_bytes(), nullptr));
  }
  return {};
}

Result<BlockSet> Shipment::staged(std::uint16_t disk) {
  BlockSet out(blocks_of(point_.disks()[disk]->bytes()));
  for (std::uint64_t first = 0; first < out.size(); first += kBitmapBatchMax) {
    const std::uint64_t count = std::min<std::uint64_t>(kBitmapBatchMax, out.size() - first);
    std::string bitmap;
    const msg::AskStaged request{.disk = disk,
                                 .first = static_cast<std::uint32_t>(first),
                                 .count = static_cast<std::uint32_t>(count)};
    FARSIDE_TRY(ask<msg::StagedBlocks>(frame(request), {}, &bitmap));
    const auto part = BlockSet::from_bytes(count, bitmap);
    if (!part) return fail(ErrorCode::kCorrupt, "the target sent a bitmap of the wrong size");
    part->for_each([&](std::uint64_t block) { out.add(first + block); });
  }
  return out;
}

Result<std::vector<std::uint64_t>> Shipment::ask_hashes(std::uint16_t disk, std::uint64_t first,
                                                        std::uint64_t count) {
  std::string bytes;
  const msg::AskHashes request{.disk = disk,
                               .first = static_cast<std::uint32_t>(first),
                               .count = static_cast<std::uint32_t>(count)};
  FARSIDE_TRY(ask<msg::BlockHashes>(frame(request), {}, &bytes));
  if (bytes.size() != count * 8) {
    return fail(ErrorCode::kCorrupt, "the target sent hashes of the wrong size");
  }
  std::vector<std::uint64_t> hashes(count);
  for (std::uint64_t i = 0; i < count; ++i) hashes[i] = replica::number_at(bytes, i * 8, 8);
  return hashes;
}

void Shipment::plan_zeros(std::uint16_t disk, const BlockSet& zeros,
                          const std::vector<std::uint64_t>* known, std::uint64_t first) {
  Packed batch;
  batch.batch.disk = disk;
  const auto flush = [&] {
    if (batch.guest_bytes > 0) ready_.push_back(std::move(batch));
    batch = {};
    batch.batch.disk = disk;
  };
  zeros.for_each([&](std::uint64_t block) {
    batch.guest_bytes += replica::kBlockBytes;
    const std::uint64_t hash = replica::zero_hash();
    if (known != nullptr && (*known)[block - first] == hash) return;
    batch.batch.blocks.push_back({.block = static_cast<std::uint32_t>(block),
                                  .hash = hash,
                                  .codec = static_cast<std::uint8_t>(replica::Codec::kZero)});
    ++batch.zero_blocks;
    if (batch.batch.blocks.size() == kZeroBatchBlocksMax) flush();
  });
  flush();
}

// Sends what is ready as far as credit and bandwidth allow.
Status Shipment::flush_batches() {
  while (!ready_.empty()) {
    Packed& next = ready_.front();
    if (!next.batch.blocks.empty()) {
      const std::uint64_t cost = cost_of(next.batch, next.payload.size());
      if (credit_ < cost || !rate_.may_send(now())) return {};
      credit_ -= cost;
      for (const msg::BlockHead& head : next.batch.blocks) sent_[next.batch.disk].add(head.block);
      shipped_.blocks_sent += next.batch.blocks.size();
      shipped_.zero_blocks += next.zero_blocks;
      rate_.sent(cost);
      // Nothing but blocks goes beside CURVE, and the delta ends only when all of them are
      // confirmed: it does not matter which way each of them took.
      auto batch = frame(std::move(next.batch));
      FARSIDE_TRY(channel_.is_sealed_ready() ? channel_.send_sealed(batch, std::move(next.payload))
                                             : channel_.send(batch, std::move(next.payload)));
    }
    moved_ = now();
    shipped_.guest_bytes += next.guest_bytes;
    progress_.done += next.guest_bytes;
    ready_.pop_front();
    report();
  }
  return {};
}

void Shipment::report() {
  progress_.wire = channel_.bytes_sent();
  if (on_progress_) on_progress_(progress_);
}

Status Shipment::pump_incoming(int timeout_ms) {
  FARSIDE_TRY(check_alive());
  for (;;) {
    FARSIDE_ASSIGN(const std::optional<Received> received,
                   channel_.receive(timeout_ms, pool_.fd()));
    if (!received) break;
    FARSIDE_TRY(on_frame(*received));
    timeout_ms = 0;
  }
  // A target that answers pings but gives no credit is stuck all the same.
  if (now() - moved_ > std::chrono::seconds(request_.request_s)) {
    return fail(ErrorCode::kTimeout, "replication of " + request_.item + " made no progress for " +
                                         std::to_string(request_.request_s) + " s");
  }
  return {};
}

// What arrives at the target is known by its hash here, also where this attempt does not end well.
void Shipment::take_packed() {
  while (auto packed = pool_.take()) {
    if (hashes_ != nullptr) hashes_->set(packed->batch.disk, packed->first, packed->hashes);
    ready_.push_back(std::move(*packed));
  }
}

Status Shipment::send_range(const std::vector<BlockSet>& data, bool compare) {
  BlockReader reader(point_, data);
  const int level = request_.compression ? 1 : 0;
  for (;;) {
    const bool may_read = ready_.size() < kReadyMax;
    const bool may_pack = pool_.under_way() < kPackingMax;
    // Waits in the disk only if nothing else could go on meanwhile.
    const bool idle = pool_.under_way() == 0 && ready_.empty();
    FARSIDE_TRY(reader.advance(may_read ? kChunksMax : 0, idle ? kNapMs : 0));
    while (may_pack && pool_.under_way() < kPackingMax) {
      auto chunk = reader.take();
      if (!chunk) break;
      PackJob job{.disk = chunk->disk,
                  .first = chunk->first,
                  .plain = std::move(chunk->bytes),
                  .level = level,
                  .known = {},
                  .hash = hash_};
      if (compare) {
        const std::uint64_t blocks =
            (job.plain.size() + replica::kBlockBytes - 1) / replica::kBlockBytes;
        const auto from =
            compared_.begin() + static_cast<std::ptrdiff_t>(job.first - compared_first_);
        job.known.assign(from, from + static_cast<std::ptrdiff_t>(blocks));
      }
      pool_.put(std::move(job));
    }
    take_packed();
    FARSIDE_TRY(flush_batches());
    if (reader.is_done() && pool_.under_way() == 0 && ready_.empty()) return {};

    const bool must_wait_outside = !idle && (reader.has_reads() ? pool_.under_way() > 0 : true);
    FARSIDE_TRY(pump_incoming(must_wait_outside ? (reader.has_reads() ? 1 : kNapMs) : 0));
  }
}

Status Shipment::send(const std::vector<BlockSet>& blocks, const std::vector<BlockSet>& data,
                      bool compare) {
  for (const BlockSet& each : blocks) progress_.total += each.count() * replica::kBlockBytes;
  report();
  if (opened_.sealed_port != 0 && progress_.total >= kSealedFromBytes) {
    FARSIDE_TRY(channel_.open_sealed(opened_));
  }
  if (!compare) {
    std::vector<BlockSet> to_read;
    for (std::size_t i = 0; i < blocks.size(); ++i) {
      const BlockSet zeros = blocks[i] - data[i];
      if (hashes_ != nullptr) hashes_->set_zero(i, zeros);
      plan_zeros(static_cast<std::uint16_t>(i), zeros, nullptr, 0);
      to_read.push_back(blocks[i] & data[i]);
    }
    FARSIDE_TRY(send_range(to_read, false));
    return check_complete();
  }

  // Window by window: the target's hashes of one, then what differs in it.
  for (std::size_t disk = 0; disk < blocks.size(); ++disk) {
    for (std::uint64_t first = 0; first < blocks[disk].size(); first += kHashBatchMax) {
      const std::uint64_t count =
          std::min<std::uint64_t>(kHashBatchMax, blocks[disk].size() - first);
      FARSIDE_ASSIGN(compared_, ask_hashes(static_cast<std::uint16_t>(disk), first, count));
      compared_first_ = first;
      BlockSet window(blocks[disk].size());
      window.add_range(first, first + count);
      window &= blocks[disk];
      plan_zeros(static_cast<std::uint16_t>(disk), window - data[disk], &compared_, first);
      std::vector<BlockSet> to_read(blocks.size());
      to_read[disk] = window & data[disk];
      FARSIDE_TRY(send_range(to_read, true));
    }
  }
  return check_complete();
}

// A block that fell through a crack here would be missing at the target for ever.
Status Shipment::check_complete() const {
  if (progress_.done == progress_.total) return {};
  return fail(ErrorCode::kInternal, "of " + std::to_string(progress_.total) + " bytes of " +
                                        request_.item + " only " + std::to_string(progress_.done) +
                                        " were looked at");
}

void Shipment::drain() {
  const auto until = now() + kDrainMax;
  while (now() < until) {
    take_packed();
    if (!flush_batches()) return;
    if (pool_.under_way() == 0 && ready_.empty() && credit_ >= window_bytes_) return;
    const auto received = channel_.receive(kNapMs, pool_.under_way() > 0 ? pool_.fd() : -1);
    if (!received || (*received && !on_frame(**received))) return;
  }
}

Result<Shipped> Shipment::finish(std::uint64_t blocks) {
  // The request goes inside CURVE and must not overtake blocks that do not.
  while (channel_.is_sealed_ready() && credit_ < window_bytes_) FARSIDE_TRY(pump_incoming(kNapMs));
  looked_ = {};  // All has been read: whether it was whole is known now, before it is made a point.
  FARSIDE_TRY(check_alive());
  const msg::FinishDelta request{.blocks = blocks,
                                 .captured_at = point_.captured_at_micros(),
                                 .app_consistent = point_.is_app_consistent(),
                                 .attempt = request_.attempt};
  FARSIDE_ASSIGN(const msg::DeltaCommitted committed,
                 ask<msg::DeltaCommitted>(frame(request), {}, nullptr));
  shipped_.point = committed.point;
  shipped_.wire_bytes = channel_.bytes_sent();
  return shipped_;
}

}  // namespace farside::data
