#include "services/agent/platforms/hyperv/vhdx/free_space.h"

#include <iterator>

namespace farside::agent::vhdx {

void FreeSpace::give(std::uint64_t at, std::uint64_t bytes) {
  if (bytes == 0) return;
  auto next = parts_.lower_bound(at);
  if (next != parts_.end() && at + bytes == next->first) {
    bytes += next->second;
    next = parts_.erase(next);
  }
  if (next != parts_.begin()) {
    const auto before = std::prev(next);
    if (before->first + before->second == at) {
      before->second += bytes;
      return;
    }
  }
  parts_.emplace(at, bytes);
}

FreeSpace::Place FreeSpace::take(std::uint64_t bytes) {
  for (auto part = parts_.begin(); part != parts_.end(); ++part) {
    if (part->second < bytes) continue;
    const std::uint64_t at = part->first;
    const std::uint64_t left = part->second - bytes;
    parts_.erase(part);
    if (left != 0) parts_.emplace(at + bytes, left);
    return {.at = at, .is_zeros = false};
  }
  const std::uint64_t at = end_;
  end_ += bytes;
  return {.at = at, .is_zeros = true};
}

}  // namespace farside::agent::vhdx
