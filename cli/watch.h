// What `farside watch` shows: everything protected, the jobs under way and what is wrong, as text.
#pragma once

#include <cstddef>
#include <string>
#include <vector>

#include "cli/json.h"
#include "common/base/clock.h"

namespace farside::cli {

// As the vault answered last.
struct Snapshot {
  std::vector<Json> items;
  std::vector<Json> jobs;  // That run or wait for an operator.
  Json vault;
};

struct View {
  std::string url;
  Time now;                 // Ages are counted up to it, whether the vault answers or not.
  std::string no_answer;    // Why the picture is old; empty: it is not.
  Time answered;            // When the snapshot was taken.
  std::size_t columns = 0;  // That there is room for; 0 = any number.
};

std::string picture(const Snapshot& snapshot, const View& view);

}  // namespace farside::cli
