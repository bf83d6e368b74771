#include "services/agent/data_plane/session.h"

#include <algorithm>

#include "common/base/log.h"
#include "services/agent/data_plane/frames.h"
#include "services/agent/replica_store/definition.h"
#include "services/agent/replica_store/layout.h"

namespace farside::data {

using replica::BlockSet;

Session::~Session() {
  if (introduction_ == nullptr) return;
  const std::lock_guard lock(introduction_->mutex);
  if (!check_owner()) return;
  introduction_->owner = 0;
  const Status flushed = item_->flush();
  if (!flushed) log::warn("staged_not_flushed", {{"item", item_name_}, {"error", flushed.error()}});
}

Status Session::handle(const msg::DataFrame& frame, std::string_view payload) {
  if (const auto* request = std::get_if<msg::OpenDelta>(&frame.value)) return open(*request);
  if (introduction_ == nullptr) {
    return fail(ErrorCode::kUnavailable, "the session is unknown here",
                "the target was restarted; the source opens a new session by itself");
  }
  const std::lock_guard lock(introduction_->mutex);
  FARSIDE_TRY(check_owner());
  if (const auto* blocks = std::get_if<msg::BlockBatch>(&frame.value)) {
    return on_blocks(*blocks, payload);
  }
  if (std::holds_alternative<msg::PutDefinition>(frame.value)) {
    FARSIDE_TRY(item_->keep_definition(definition_, payload));
    world_.send(data::frame(msg::DefinitionKept{}), {});
    return {};
  }
  if (const auto* unstage = std::get_if<msg::UnstageBlocks>(&frame.value)) {
    return on_unstage(*unstage, payload);
  }
  if (const auto* ask = std::get_if<msg::AskStaged>(&frame.value)) return on_ask_staged(*ask);
  if (const auto* ask = std::get_if<msg::AskHashes>(&frame.value)) return on_ask_hashes(*ask);
  if (const auto* finish = std::get_if<msg::FinishDelta>(&frame.value)) return on_finish(*finish);
  return fail(ErrorCode::kInvalidArgument, "a source does not send " + std::string(name_of(frame)));
}

Status Session::handle_sealed(std::string_view part1, std::span<char> payload) {
  if (!seal_) return fail(ErrorCode::kUnavailable, "the session is not open here");
  FARSIDE_ASSIGN(const std::string header, seal_->open(part1, payload));
  FARSIDE_ASSIGN(const auto frame, msg::decode<msg::DataFrame>(header));
  if (std::holds_alternative<msg::DataPing>(frame.value)) {
    world_.send(data::frame(msg::SealedReady{}), {});
    return {};
  }
  if (!std::holds_alternative<msg::BlockBatch>(frame.value)) {
    return fail(ErrorCode::kForbidden, "only blocks may come beside CURVE");
  }
  return handle(frame, {payload.data(), payload.size()});
}

Status Session::check_owner() const {
  if (!introduction_->allowed) {
    return fail(ErrorCode::kForbidden, "replication of " + item_name_ + " to this host was ended");
  }
  if (introduction_->owner != number_) {
    return fail(ErrorCode::kConflict, "a newer session replicates " + item_name_);
  }
  return {};
}

Status Session::open(const msg::OpenDelta& request) {
  Introduction* const introduction = world_.introduction(request.item);
  const auto refuse = [&] {
    return fail(ErrorCode::kForbidden, "this source was not introduced for item " + request.item,
                "enable replication of the item again, or wait until its set-up is done");
  };
  if (introduction == nullptr) return refuse();
  const std::lock_guard lock(introduction->mutex);
  if (!introduction->allowed || introduction->source_key != source_key_) return refuse();
  if (request.epoch < introduction->epoch) {
    return fail(ErrorCode::kStaleEpoch, "item " + request.item + " is at epoch " +
                                            std::to_string(introduction->epoch) + "; epoch " +
                                            std::to_string(request.epoch) + " was deposed");
  }
  if (request.epoch > introduction->epoch) {
    return fail(ErrorCode::kUnavailable, "item " + request.item + " was introduced for epoch " +
                                             std::to_string(introduction->epoch) +
                                             ", not yet for " + std::to_string(request.epoch));
  }
  FARSIDE_TRY(introduction->points.check(world_.arrivals->passed()));
  FARSIDE_ASSIGN(item_, world_.open_item(request.item, request.disks));
  introduction->owner = number_;
  introduction_ = introduction;
  item_name_ = request.item;
  epoch_ = request.epoch;
  if (world_.on_opened) world_.on_opened(item_name_);

  if (request.disks.empty()) {
    return fail(ErrorCode::kInvalidArgument, "a point without disks cannot be replicated");
  }
  const bool has_definition = !request.definition.empty();
  if (has_definition && !replica::is_definition_digest(request.definition)) {
    return fail(ErrorCode::kInvalidArgument, "'" + request.definition + "' is no digest");
  }
  FARSIDE_ASSIGN(const replica::DeltaState state,
                 item_->begin_delta({.cycle = request.cycle,
                                     .epoch = request.epoch,
                                     .keep_any = request.compare,
                                     .disks = request.disks,
                                     .definition = request.definition}));
  disks_ = state.numbers;
  definition_ = request.definition;
  msg::DeltaOpened opened{
      .seq = state.seq,
      .newest = state.newest,
      .newest_attempt = state.newest_attempt,
      .staged_blocks = state.staged,
      .window_bytes = world_.window_bytes,
      .lacks_definition = has_definition && !item_->has_definition(request.definition),
      .hash_key = item_->hash_key()};
  if (world_.sealed_port != 0) {
    FARSIDE_ASSIGN(opened.sealed_key, Seal::make_key());
    FARSIDE_ASSIGN(seal_, Seal::with_key(opened.sealed_key, Seal::Side::kOpens));
    opened.sealed_port = world_.sealed_port;
    opened.sealed_session = world_.sealed_session;
  }
  world_.send(frame(std::move(opened)), {});
  return {};
}

Result<std::uint16_t> Session::target_disk(std::uint16_t disk) const {
  if (disk < disks_.size()) return disks_[disk];
  return fail(ErrorCode::kInvalidArgument, "disk number " + std::to_string(disk) + " is unknown");
}

Status Session::on_blocks(const msg::BlockBatch& batch, std::string_view payload) {
  FARSIDE_TRY(check_batch(batch));
  FARSIDE_ASSIGN(const std::uint16_t disk, target_disk(batch.disk));
  const std::uint64_t cost = cost_of(batch, payload.size());
  writes_.clear();
  for (const msg::BlockHead& head : batch.blocks) {
    if (head.stored > payload.size()) {
      return fail(ErrorCode::kCorrupt, "a batch of blocks has less payload than it says");
    }
    writes_.push_back({.disk = disk,
                       .block = head.block,
                       .codec = static_cast<replica::Codec>(head.codec),
                       .hash = head.hash,
                       .payload = payload.substr(0, head.stored)});
    payload.remove_prefix(head.stored);
  }
  if (!payload.empty()) return fail(ErrorCode::kCorrupt, "a batch of blocks has bytes left over");
  FARSIDE_TRY(item_->append(writes_));
  world_.send(frame(msg::DataCredit{.bytes = cost}), {});
  return {};
}

Status Session::on_unstage(const msg::UnstageBlocks& request, std::string_view payload) {
  FARSIDE_ASSIGN(const std::uint16_t disk, target_disk(request.disk));
  const auto part = BlockSet::from_bytes(request.count, payload);
  if (request.count > kBitmapBatchMax || !part) {
    return fail(ErrorCode::kCorrupt, "a bitmap of blocks has the wrong size");
  }
  FARSIDE_ASSIGN(const BlockSet staged, item_->staged(disk));
  BlockSet blocks(staged.size());
  part->for_each([&](std::uint64_t block) {
    if (request.first + block < blocks.size()) blocks.add(request.first + block);
  });
  FARSIDE_TRY(item_->unstage(disk, blocks));
  world_.send(frame(msg::BlocksUnstaged{}), {});
  return {};
}

Status Session::on_ask_staged(const msg::AskStaged& request) {
  FARSIDE_ASSIGN(const std::uint16_t disk, target_disk(request.disk));
  if (request.count > kBitmapBatchMax) return fail(ErrorCode::kTooLarge, "too many blocks asked");
  FARSIDE_ASSIGN(const BlockSet staged, item_->staged(disk));
  BlockSet part(request.count);
  for (auto block = staged.next(request.first);
       block && *block < std::uint64_t{request.first} + request.count;
       block = staged.next(*block + 1)) {
    part.add(*block - request.first);
  }
  world_.send(frame(msg::StagedBlocks{.disk = request.disk, .first = request.first}),
              part.to_bytes());
  return {};
}

Status Session::on_ask_hashes(const msg::AskHashes& request) {
  FARSIDE_ASSIGN(const std::uint16_t disk, target_disk(request.disk));
  if (request.count > kHashBatchMax) return fail(ErrorCode::kTooLarge, "too many hashes asked");
  FARSIDE_ASSIGN(const std::vector<std::uint64_t> hashes,
                 item_->newest_hashes(disk, request.first, request.count));
  std::string bytes;
  bytes.reserve(hashes.size() * 8);
  for (const std::uint64_t hash : hashes) replica::put_number(bytes, hash, 8);
  world_.send(frame(msg::BlockHashes{.disk = request.disk, .first = request.first}),
              std::move(bytes));
  return {};
}

Status Session::on_finish(const msg::FinishDelta& request) {
  FARSIDE_ASSIGN(
      const msg::RecoveryPoint point,
      item_->commit_delta({.captured_at = request.captured_at,
                           .arrived_at = world_.arrivals->now(Time{request.captured_at}).micros,
                           .app_consistent = request.app_consistent,
                           .attempt = request.attempt,
                           .epoch = epoch_,
                           .blocks = request.blocks}));
  introduction_->points.count(world_.arrivals->passed());
  if (world_.on_durable) world_.on_durable(item_name_, point);
  world_.send(frame(msg::DeltaCommitted{.point = point}), {});
  return {};
}

}  // namespace farside::data
