#include "services/agent/replica_store/digest.h"

#include <fmt/format.h>
#include <xxhash.h>

namespace farside::replica {
namespace {
constexpr std::size_t kPendingMax = 4096;
}

struct Digest::State {
  XXH3_state_t* xxh = XXH3_createState();
  ~State() { XXH3_freeState(xxh); }
};

Digest::Digest() : state_(std::make_unique<State>()) {
  XXH3_128bits_reset(state_->xxh);
}
Digest::~Digest() = default;

void Digest::begin_disk(std::string_view name, std::uint64_t bytes) {
  flush();
  XXH3_128bits_update(state_->xxh, name.data(), name.size());
  XXH3_128bits_update(state_->xxh, "", 1);
  add(bytes);
}

void Digest::add(std::uint64_t block_hash) {
  pending_.push_back(block_hash);
  if (pending_.size() == kPendingMax) flush();
}

void Digest::flush() {
  XXH3_128bits_update(state_->xxh, pending_.data(), pending_.size() * sizeof(std::uint64_t));
  pending_.clear();
}

std::string Digest::finish() {
  flush();
  const XXH128_hash_t hash = XXH3_128bits_digest(state_->xxh);
  return fmt::format("{:016x}{:016x}", hash.high64, hash.low64);
}

}  // namespace farside::replica
