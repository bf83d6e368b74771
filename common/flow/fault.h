// Errors as they travel in messages.
#pragma once

#include "common/base/advice.h"
#include "common/schema/types.plain.h"

namespace farside::flow {

// A fault always says what to do next.
inline msg::Fault to_fault(const Error& error) {
  return msg::Fault{.code = static_cast<std::uint16_t>(error.code),
                    .what = error.what,
                    .advice = advice_of(error)};
}

inline Error to_error(const msg::Fault& fault) {
  return Error{
      .code = static_cast<ErrorCode>(fault.code), .what = fault.what, .advice = fault.advice};
}

}  // namespace farside::flow
