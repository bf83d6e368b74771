// Where the command writes: lines, or on a terminal a block that is redrawn in place.
#pragma once

#include <cstddef>
#include <ostream>
#include <string>

#include "common/base/clock.h"

namespace farside::cli {

class Screen final {
 public:
  Screen(std::ostream& out, bool is_terminal) : out_(out), is_terminal_(is_terminal) {}

  bool is_terminal() const { return is_terminal_; }
  // At once, also into a pipe: whoever reads there may end us before the next line.
  void say(const std::string& text) { out_ << text << std::flush; }
  std::size_t columns() const;  // Of the terminal.

  // Replaces the block drawn before with `lines` (each ended by a newline).
  void redraw(const std::string& lines);
  void keep() { drawn_ = 0; }  // What is drawn stays; the next block starts below.

 private:
  std::ostream& out_;
  const bool is_terminal_;
  int drawn_ = 0;  // Lines of the block.
};

// Waits without a busy loop.
void pause_for(Micros time);

}  // namespace farside::cli
