// Frames of the data plane on ZeroMQ, and what both ends count in.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <zmq.hpp>

#include "common/base/result.h"
#include "common/schema/data.plain.h"

namespace farside::data {

inline constexpr std::uint32_t kBatchBlocksMax = 16;  // 1 MiB of plain bytes.
inline constexpr std::uint32_t kZeroBatchBlocksMax = 1024;
inline constexpr std::uint32_t kHashBatchMax = 65'536;       // 512 KiB of answer, 4 GiB of disk.
inline constexpr std::uint32_t kBitmapBatchMax = 1U << 23U;  // 1 MiB of bitmap, 512 GiB of disk.
inline constexpr std::int64_t kFrameBytesMax = std::int64_t{4} << 20U;
inline constexpr std::size_t kHeadBytesMax = std::size_t{128} << 10U;

// What a batch takes from the window: its bytes, and something for each block so that batches of
// zeros are bounded too.
inline std::uint64_t cost_of(const msg::BlockBatch& batch, std::size_t payload) {
  return payload + 64 * batch.blocks.size();
}

// Whether a batch is one that a source makes: what the target needs to unpack it has a bound.
// Errors: kTooLarge.
Status check_batch(const msg::BlockBatch& batch);

// Large payloads are not copied: the string travels to libzmq and is freed once sent.
zmq::message_t to_message(std::string bytes);

template <class Arm>
msg::DataFrame frame(Arm arm) {
  return msg::DataFrame(std::move(arm));
}

msg::Fault to_fault(const Error& error);
// Of the other side's texts no more than kReasonMax bytes each: they are stored and reported.
Error to_error(const msg::Fault& fault);

}  // namespace farside::data
