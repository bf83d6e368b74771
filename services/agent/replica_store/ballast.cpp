#include "services/agent/replica_store/ballast.h"

#include <filesystem>

#include "common/base/log.h"

namespace farside::replica {

bool Ballast::give_up() const {
  if (used_bytes(path_) == 0) return false;
  std::error_code error;
  std::filesystem::remove(path_, error);  // Needs no room, unlike cutting it short.
  if (error) return false;
  log::warn("ballast_given_up", {{"path", path_}, {"bytes", bytes_}});
  return true;
}

void Ballast::remove() const {
  std::error_code ignored;
  std::filesystem::remove(path_, ignored);
}

bool Ballast::restore() const {
  if (bytes_ == 0 || used_bytes(path_) >= bytes_) return true;
  const std::string folder = std::filesystem::path(path_).parent_path().string();
  // Twice as much: it must not go and come with every delta.
  if (free_bytes_(folder) < reserve_ + 2 * bytes_) return false;
  const auto file = File::open_to_write(path_);
  if (!file) return false;
  if (file->allocate(bytes_)) return true;
  remove();
  return false;
}

}  // namespace farside::replica
