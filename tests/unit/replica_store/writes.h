// Blocks for the tests of the replica store.
#pragma once

#include <deque>
#include <string>
#include <vector>

#include "common/base/random.h"
#include "services/agent/replica_store/item.h"

namespace farside::replica {

// Keeps the payloads alive that its writes point to.
class Writes final {
 public:
  // What a short `plain` leaves of the block are zeros: it lies beyond the end of its disk.
  void add(std::uint16_t disk, std::uint32_t block, std::string plain, int level = 1) {
    plain.resize(kBlockBytes);
    std::string packed;
    Codec codec = Codec::kZero;
    if (!is_zero(plain)) {
      codec = pack(plain, level, packed);
      if (codec == Codec::kRaw) packed = plain;
    }
    payloads_.push_back(std::move(packed));
    list_.push_back({.disk = disk,
                     .block = block,
                     .codec = codec,
                     .hash = hash_of(plain),
                     .payload = payloads_.back()});
  }
  std::vector<BlockWrite>& list() { return list_; }

 private:
  std::deque<std::string> payloads_;
  std::vector<BlockWrite> list_;
};

// As an index keeps it, of disks whose bases have their names.
inline msg::StoredReplica stored(const std::vector<msg::ReplicaDisk>& disks) {
  msg::StoredReplica replica{.disks = disks};
  for (const msg::ReplicaDisk& disk : disks) replica.bases.push_back(disk.name);
  return replica;
}

// Zero, compressible or random.
inline std::string content(Random& random, std::uint32_t length = kBlockBytes) {
  switch (random.below(4)) {
    case 0:
      return std::string(length, '\0');
    case 1: {
      std::string bytes(length, '\0');
      for (char& c : bytes) c = static_cast<char>(random.next());
      return bytes;
    }
    default:
      return std::string(length, static_cast<char>('a' + random.below(26)));
  }
}

inline std::string pattern(char c, std::uint32_t length = kBlockBytes) {
  return std::string(length, c);
}

}  // namespace farside::replica
