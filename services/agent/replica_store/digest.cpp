#include "services/agent/replica_store/digest.h"

#include <fmt/format.h>
#include <xxhash.h>

#include <algorithm>
#include <array>
#include <map>
#include <set>

#include "services/agent/replica_store/block.h"

namespace farside::replica {
namespace {

// By disk; what stands before the last colon of a word is the name.
std::map<std::string, std::string> parts_of(std::string_view digest) {
  constexpr std::size_t kDigits = 32;
  std::map<std::string, std::string> parts;
  while (!digest.empty()) {
    const std::size_t colon = digest.find(':');
    if (colon == std::string_view::npos) break;
    parts[std::string(digest.substr(0, colon))] = digest.substr(colon + 1, kDigits);
    digest.remove_prefix(std::min(digest.size(), colon + 1 + kDigits + 1));
  }
  return parts;
}

}  // namespace

Sum& Sum::operator+=(const Sum& other) {
  low += other.low;
  high += other.high + (low < other.low ? 1 : 0);
  return *this;
}

Sum& Sum::operator-=(const Sum& other) {
  high -= other.high + (low < other.low ? 1 : 0);
  low -= other.low;
  return *this;
}

Sum term_of(std::uint64_t block, std::uint64_t hash) {
  if (hash == zero_hash()) return {};
  const std::array<std::uint64_t, 2> bytes{block, hash};
  const XXH128_hash_t term = XXH3_128bits(bytes.data(), sizeof bytes);
  return {.high = term.high64, .low = term.low64};
}

std::string digest_of(std::vector<SummedDisk> disks) {
  std::ranges::sort(disks, {}, &SummedDisk::name);
  std::string out;
  for (const SummedDisk& disk : disks) {
    const std::array<std::uint64_t, 3> bytes{disk.bytes, disk.sum.high, disk.sum.low};
    const XXH128_hash_t hash = XXH3_128bits(bytes.data(), sizeof bytes);
    out += fmt::format("{}{}:{:016x}{:016x}", out.empty() ? "" : " ", disk.name, hash.high64,
                       hash.low64);
  }
  return out;
}

std::string differing_disks(std::string_view one, std::string_view other) {
  if (one == other) return {};
  const auto left = parts_of(one);
  const auto right = parts_of(other);
  std::set<std::string> names;
  for (const auto& [name, part] : left) names.insert(name);
  for (const auto& [name, part] : right) names.insert(name);
  std::string out;
  for (const std::string& name : names) {
    const auto a = left.find(name);
    const auto b = right.find(name);
    if (a != left.end() && b != right.end() && a->second == b->second) continue;
    out += (out.empty() ? "" : ", ") + name;
  }
  return out.empty() ? "all" : out;  // Of a form that we do not know.
}

}  // namespace farside::replica
