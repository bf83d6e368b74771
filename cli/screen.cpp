#include "cli/screen.h"

#include <poll.h>
#include <sys/ioctl.h>
#include <unistd.h>

#include <algorithm>
#include <charconv>
#include <cstdlib>
#include <string_view>

namespace farside::cli {

std::size_t Screen::columns() const {
  winsize size{};
  if (::ioctl(STDOUT_FILENO, TIOCGWINSZ, &size) == 0 && size.ws_col > 0) return size.ws_col;
  std::size_t told = 0;  // Terminals that do not know their size often have it told.
  const char* const text = std::getenv("COLUMNS");
  if (text != nullptr) std::from_chars(text, text + std::string_view(text).size(), told);
  return told > 0 ? told : 100;
}

void Screen::redraw(const std::string& lines) {
  if (drawn_ > 0) out_ << "\x1b[" << drawn_ << "A";
  // A line that wrapped would make the next redraw start too low.
  const std::size_t width = columns();
  for (std::size_t start = 0; start < lines.size();) {
    const std::size_t end = std::min(lines.find('\n', start), lines.size());
    out_ << "\x1b[2K" << lines.substr(start, std::min(end - start, width - 1)) << "\n";
    start = end + 1;
  }
  out_ << "\x1b[J" << std::flush;
  drawn_ = static_cast<int>(std::ranges::count(lines, '\n'));
}

void pause_for(Micros time) {
  const auto milliseconds = std::chrono::ceil<std::chrono::milliseconds>(time).count();
  pollfd nothing{.fd = -1, .events = 0, .revents = 0};
  ::poll(&nothing, 1, static_cast<int>(milliseconds));
}

}  // namespace farside::cli
