// What the subjects of the durability test do, as a function of a seed and a number: the test knows
// it as well, so that it can say what must be there after the power was cut.
#pragma once

#include <cstdint>
#include <map>
#include <string>
#include <utility>
#include <vector>

#include "common/base/random.h"
#include "services/agent/replica_store/block.h"
#include "services/agent/replica_store/digest.h"
#include "tests/unit/replica_store/writes.h"

namespace farside::durability {

using replica::kBlockBytes;

inline const std::vector<msg::ReplicaDisk>& disks() {
  static const std::vector<msg::ReplicaDisk> kDisks{
      {.name = "vda", .bytes = 12 * kBlockBytes}, {.name = "vdb", .bytes = 4 * kBlockBytes + 512}};
  return kDisks;
}

inline replica::Limits limits() {
  return {.segment_bytes = 6 * kBlockBytes,
          .flush_bytes = 3 * kBlockBytes,
          .reserve_bytes = 1,
          .ballast_bytes = 1U << 20U};
}

using Blocks = std::map<std::uint32_t, std::string>;  // By number, as long as they are on the disk.

// What delta `number` writes to a disk, however often it is made.
inline Blocks delta(std::uint64_t seed, std::uint64_t number, std::size_t disk) {
  SeededRandom random(seed * 1'000'003 + number * 16 + disk);
  Blocks out;
  for (std::uint64_t n = random.below(5) + (disk == 0 ? 1 : 0); n > 0; --n) {
    const std::uint64_t bytes = disks()[disk].bytes;
    const auto block = static_cast<std::uint32_t>(random.below(replica::blocks_of(bytes)));
    out[block] = replica::content(random, replica::length_of(bytes, block));
  }
  return out;
}

// The disks after that delta.
inline std::vector<std::string> state(std::uint64_t seed, std::uint64_t number) {
  std::vector<std::string> out;
  for (std::size_t disk = 0; disk < disks().size(); ++disk) {
    std::string bytes(disks()[disk].bytes, '\0');
    for (std::uint64_t each = 1; each <= number; ++each) {
      for (const auto& [block, plain] : delta(seed, each, disk)) {
        bytes.replace(std::size_t{block} * kBlockBytes, plain.size(), plain);
      }
    }
    out.push_back(std::move(bytes));
  }
  return out;
}

inline std::string digest(const std::vector<std::string>& contents) {
  std::vector<replica::SummedDisk> sums;
  for (std::size_t disk = 0; disk < contents.size(); ++disk) {
    auto& summed = sums.emplace_back(
        replica::SummedDisk{.name = disks()[disk].name, .bytes = disks()[disk].bytes});
    for (std::uint64_t at = 0; at < contents[disk].size(); at += kBlockBytes) {
      std::string block = contents[disk].substr(at, kBlockBytes);
      block.resize(kBlockBytes);
      summed.sum += replica::term_of(at / kBlockBytes, replica::hash_of(block));
    }
  }
  return replica::digest_of(std::move(sums));
}

// The VM as of that delta; it changes now and then.
inline msg::VmDefinition definition(std::uint64_t seed, std::uint64_t number) {
  return {
      .platform = "test",
      .text = "<vm seed='" + std::to_string(seed) + "' is='" + std::to_string(number / 3) + "'/>"};
}

// Value of a record or of a file: small mostly, at times larger than a page, or than a block of
// RocksDB's log.
inline std::string value(std::uint64_t seed, std::uint64_t number) {
  SeededRandom random(seed * 7'919 + number);
  const std::uint64_t longest = random.chance(0.2) ? 100'000 : 300;
  std::string out(8 + random.below(longest), '\0');
  for (char& c : out) c = static_cast<char>('a' + random.below(26));
  return out;
}

}  // namespace farside::durability
