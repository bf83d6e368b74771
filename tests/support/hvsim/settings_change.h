// How methods that change settings answer: at once, or by a job.
//
// What goes well is done at once, and its results are told; if it does not, or orders were given
// about jobs, there is a job, and the results are to be found through it, as real hosts do either.
#pragma once

#include <string>

#include "tests/support/hvsim/real_host.h"

namespace farside::hvsim {

inline constexpr std::uint64_t kInvalidParameter = 32773;
inline constexpr std::uint64_t kInvalidState = 32775;

struct SettingsChange {
  std::string caption;
  Reference affected;
  std::string result;   // Name of the out parameter that takes the references; empty: none.
  bool is_list = true;  // It takes all of them, not the first.
};

MethodResult change_settings(RealHost& host, const SettingsChange& change, Jobs::Work work);

// An array of references.  Errors: kInvalidArgument.
Result<std::vector<Reference>> references_of(const MethodCall& call, const std::string& name);

}  // namespace farside::hvsim
