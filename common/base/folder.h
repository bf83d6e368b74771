// What lies in a folder, without exceptions: std::filesystem throws from operator++ and from
// exists() when a volume is sick, or a process of /proc ends meanwhile.
#pragma once

#include <filesystem>
#include <system_error>
#include <vector>

namespace farside {

// Paths, in no order; with an error, those that were read before it.
std::vector<std::filesystem::path> entries_of(const std::filesystem::path& folder,
                                              std::error_code& error);

}  // namespace farside
