// The return type of everything that can fail for a reason outside our control.
#pragma once

#include <expected>
#include <string>
#include <utility>

#include "common/base/error.h"

namespace farside {

template <class T>
using Result = std::expected<T, Error>;

using Status = Result<void>;

// return fail(ErrorCode::kNotFound, "VM 'web' is not on this host", "check `farside vm list`");
[[nodiscard]] inline std::unexpected<Error> fail(ErrorCode code, std::string what,
                                                 std::string advice = {}) {
  return std::unexpected(Error{.code = code, .what = std::move(what), .advice = std::move(advice)});
}

[[nodiscard]] inline std::unexpected<Error> fail(Error error) {
  return std::unexpected(std::move(error));
}

}  // namespace farside

// Returns the error of `expression` (a Result) to the caller, or goes on.
#define FARSIDE_TRY(expression)                                \
  do {                                                         \
    if (auto farside_try_ = (expression); !farside_try_)       \
      return ::farside::fail(std::move(farside_try_).error()); \
  } while (false)

// auto value = ...; or returns the error to the caller:  FARSIDE_ASSIGN(auto disk, open(path));
#define FARSIDE_ASSIGN_NAME2(a, b) a##b
#define FARSIDE_ASSIGN_NAME(a, b) FARSIDE_ASSIGN_NAME2(a, b)
#define FARSIDE_ASSIGN(declaration, expression)                                                \
  auto FARSIDE_ASSIGN_NAME(farside_result_, __LINE__) = (expression);                          \
  if (!FARSIDE_ASSIGN_NAME(farside_result_, __LINE__))                                         \
    return ::farside::fail(std::move(FARSIDE_ASSIGN_NAME(farside_result_, __LINE__)).error()); \
  declaration = std::move(*FARSIDE_ASSIGN_NAME(farside_result_, __LINE__))
