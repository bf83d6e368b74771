// What an operator can do about an error whose call site gave no advice of its own, by its code:
// nobody is ever told of a problem without a next step.
#pragma once

#include <string>
#include <string_view>

#include "common/base/error.h"

namespace farside {

// Never empty, for whatever code.
std::string_view default_advice(ErrorCode code);

// The error's own advice, else that of its code.
std::string advice_of(const Error& error);

}  // namespace farside
