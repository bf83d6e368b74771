#include "services/agent/data_plane/frames.h"

#include <utility>

#include "common/base/clip.h"
#include "common/base/error_code.h"
#include "services/agent/replica_store/layout.h"

namespace farside::data {

zmq::message_t to_message(std::string bytes) {
  if (bytes.size() < 512) return zmq::message_t(bytes.data(), bytes.size());
  auto* kept = new std::string(std::move(bytes));
  return zmq::message_t(
      kept->data(), kept->size(), [](void*, void* hint) { delete static_cast<std::string*>(hint); },
      kept);
}

Status check_batch(const msg::BlockBatch& batch) {
  std::size_t filled = 0;
  for (const msg::BlockHead& head : batch.blocks) {
    if (head.codec != static_cast<std::uint8_t>(replica::Codec::kZero)) ++filled;
    if (head.stored > replica::kBlockBytes) {
      return fail(ErrorCode::kTooLarge, "a block has " + std::to_string(head.stored) + " bytes");
    }
  }
  if (filled > kBatchBlocksMax || batch.blocks.size() > kZeroBatchBlocksMax) {
    return fail(ErrorCode::kTooLarge, "a batch has " + std::to_string(batch.blocks.size()) +
                                          " blocks, " + std::to_string(filled) + " with bytes");
  }
  return {};
}

msg::Fault to_fault(const Error& error) {
  return {
      .code = static_cast<std::uint16_t>(error.code), .what = error.what, .advice = error.advice};
}

Error to_error(const msg::Fault& fault) {
  return {.code = error_code_from(fault.code),
          .what = clipped(fault.what, kReasonMax),
          .advice = clipped(fault.advice, kReasonMax)};
}

}  // namespace farside::data
