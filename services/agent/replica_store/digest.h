// Values that stand for the whole content of the disks of a VM, by which a source and a target
// compare theirs.  They do not depend on how blocks were shipped or are stored.
//
// A disk's sum adds up, modulo 2^128, one term for every block that is not all zeros: XXH3-128 of
// its number and hash.  So a delta changes it at the cost of the delta: less the old terms, plus
// the new ones.  The digest of a point names each disk with XXH3-128 of its size and its sum.
//
// Thread: any.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

namespace farside::replica {

struct Sum {
  std::uint64_t high = 0;
  std::uint64_t low = 0;

  Sum& operator+=(const Sum& other);
  Sum& operator-=(const Sum& other);
  bool operator==(const Sum&) const = default;
};

// Of one block.  Nothing for a block of zeros: what was never written costs nothing.
Sum term_of(std::uint64_t block, std::uint64_t hash);

struct SummedDisk {
  std::string name;
  std::uint64_t bytes = 0;
  Sum sum;
};

// "vda:<32 hexadecimal digits> vdb:..."; the order of `disks` does not matter.
std::string digest_of(std::vector<SummedDisk> disks);

// Names of disks that two digests do not agree on, "vda, vdb"; empty: they are equal.
std::string differing_disks(std::string_view one, std::string_view other);

}  // namespace farside::replica
