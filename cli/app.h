// The operator's command `farside`, as a function.
//
// Exit codes: 0 done; 1 the operation or its job failed; 2 wrong usage (by the command's or the
// vault's judgement); 3 the vault cannot be reached; 4 not authorised; 5 not found; 6 the job that
// was waited for waits for an operator.
#pragma once

#include <ostream>
#include <string>
#include <vector>

#include "common/base/error.h"

namespace farside::cli {

inline constexpr int kDone = 0;
inline constexpr int kFailed = 1;
inline constexpr int kUsage = 2;
inline constexpr int kUnreachable = 3;
inline constexpr int kNotAuthorised = 4;
inline constexpr int kMissing = 5;
inline constexpr int kNeedsOperator = 6;

int exit_code(ErrorCode code);

// `arguments` without the program's name.  Results go to `out`, problems to `err`.
int run(std::vector<std::string> arguments, std::ostream& out, std::ostream& err, bool is_terminal);

}  // namespace farside::cli
