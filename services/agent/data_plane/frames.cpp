#include "services/agent/data_plane/frames.h"

#include <utility>

namespace farside::data {

zmq::message_t to_message(std::string bytes) {
  if (bytes.size() < 512) return zmq::message_t(bytes.data(), bytes.size());
  auto* kept = new std::string(std::move(bytes));
  return zmq::message_t(
      kept->data(), kept->size(), [](void*, void* hint) { delete static_cast<std::string*>(hint); },
      kept);
}

msg::Fault to_fault(const Error& error) {
  return {
      .code = static_cast<std::uint16_t>(error.code), .what = error.what, .advice = error.advice};
}

Error to_error(const msg::Fault& fault) {
  const bool known = fault.code >= static_cast<std::uint16_t>(ErrorCode::kInternal) &&
                     fault.code <= static_cast<std::uint16_t>(ErrorCode::kPlatform);
  return {.code = known ? static_cast<ErrorCode>(fault.code) : ErrorCode::kInternal,
          .what = fault.what,
          .advice = fault.advice};
}

}  // namespace farside::data
