// Texts that a peer wrote, cut to what is worth keeping of them.
#pragma once

#include <cstddef>
#include <string>

namespace farside {

inline constexpr std::size_t kNoteMax = 512;     // Of a step of a job.
inline constexpr std::size_t kReasonMax = 2048;  // Of a fault.

// At most `bytes` of it, the last of them "...", and no character of UTF-8 in halves.
std::string clipped(std::string text, std::size_t bytes);

}  // namespace farside
