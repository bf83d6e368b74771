// A value as it stands in a line of the log: names come from peers, and the line may be shown on a
// terminal, so nothing in it moves the cursor, reverses the text or begins another line.
#pragma once

#include <string>
#include <string_view>

namespace farside::log {

// As it is, or in quotes if it is empty or has blanks, `"`, `=` or what must be escaped.  Within
// quotes `"` and `\` have a backslash before them, the end of a line is a blank, controls and bytes
// that are not UTF-8 are \xNN, and what Unicode has of controls, line ends and directions \u{NNNN}.
void append_value(std::string& line, std::string_view value);

// The same without quotes, for a terminal; ends of lines stay.
std::string printable(std::string_view text);

// The same in quotes, for the text of an error; only the beginning of what is longer than 64 bytes.
std::string quoted(std::string_view value);

}  // namespace farside::log
