#include "common/wire/frame.h"

#include <cstdint>
#include <cstring>

namespace farside::wire {

Result<Frame> Frame::open(std::string_view bytes) {
  if (bytes.size() > kMessageBytesMax) {
    return fail(ErrorCode::kTooLarge, "message of " + std::to_string(bytes.size()) +
                                          " bytes exceeds the limit of " +
                                          std::to_string(kMessageBytesMax));
  }
  if (bytes.empty() || bytes.size() % sizeof(capnp::word) != 0) {
    return fail(ErrorCode::kCorrupt, "message of " + std::to_string(bytes.size()) +
                                         " bytes is not a whole number of words");
  }

  Frame frame;
  const std::size_t words = bytes.size() / sizeof(capnp::word);
  const void* start = bytes.data();
  if (reinterpret_cast<std::uintptr_t>(start) % alignof(std::uint64_t) != 0) {
    frame.copy_ = std::make_unique_for_overwrite<capnp::word[]>(words);
    std::memcpy(static_cast<void*>(frame.copy_.get()), bytes.data(), bytes.size());
    start = frame.copy_.get();
  }

  // A message may be walked once and a bit: lists that point at the same words over and over
  // would otherwise turn a small frame into endless work.
  capnp::ReaderOptions options;
  options.traversalLimitInWords = 2 * words + 1024;
  options.nestingLimit = kNestingMax;
  const kj::ArrayPtr<const capnp::word> array(static_cast<const capnp::word*>(start), words);
  bool whole = false;
  FARSIDE_TRY(guard([&] {
    frame.reader_ = std::make_unique<capnp::FlatArrayMessageReader>(array, options);
    whole = frame.reader_->getEnd() == array.end();
  }));
  if (!whole) return fail(ErrorCode::kCorrupt, "bytes left over after the message");
  return frame;
}

Status Frame::corrupt(const kj::Exception& broken) {
  return fail(ErrorCode::kCorrupt,
              std::string("message does not decode: ") + broken.getDescription().cStr());
}

std::string to_bytes(capnp::MessageBuilder& message) {
  const kj::Array<capnp::word> words = capnp::messageToFlatArray(message);
  const kj::ArrayPtr<const char> chars = words.asChars();
  return {chars.begin(), chars.size()};
}

}  // namespace farside::wire
