#include "common/base/folder.h"

namespace farside {

std::vector<std::filesystem::path> entries_of(const std::filesystem::path& folder,
                                              std::error_code& error) {
  std::vector<std::filesystem::path> paths;
  std::filesystem::directory_iterator at(folder, error);
  while (!error && at != std::filesystem::directory_iterator()) {
    paths.push_back(at->path());
    at.increment(error);
  }
  return paths;
}

}  // namespace farside
