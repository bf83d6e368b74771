// A set of block numbers of one disk: a bitmap, one bit per 64 KiB, 2 MiB per TiB.  An empty one
// takes no memory, another as much as its highest member asks for.
#pragma once

#include <algorithm>
#include <bit>
#include <cstddef>
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "common/base/assert.h"

namespace farside::replica {

class BlockSet final {
 public:
  BlockSet() = default;
  explicit BlockSet(std::uint64_t blocks) : blocks_(blocks) {}

  std::uint64_t size() const { return blocks_; }  // Numbers run from 0 to size() - 1.
  bool has(std::uint64_t block) const {
    return block / 64 < words_.size() && ((words_[block / 64] >> (block % 64)) & 1U) != 0;
  }
  void add(std::uint64_t block) {
    FARSIDE_ASSERT(block < blocks_);
    reach(block / 64 + 1);
    words_[block / 64] |= 1ULL << (block % 64);
  }
  void remove(std::uint64_t block) {
    if (block / 64 < words_.size()) words_[block / 64] &= ~(1ULL << (block % 64));
  }
  void add_range(std::uint64_t first, std::uint64_t end) {
    for (std::uint64_t block = first; block < end && block < blocks_; ++block) add(block);
  }
  void grow(std::uint64_t blocks) {  // Keeps the members.
    if (blocks > blocks_) blocks_ = blocks;
  }

  std::uint64_t count() const {
    std::uint64_t n = 0;
    for (const std::uint64_t word : words_) n += static_cast<std::uint64_t>(std::popcount(word));
    return n;
  }
  bool empty() const { return !next(0); }

  // The first member that is not below `from`.
  std::optional<std::uint64_t> next(std::uint64_t from) const {
    std::size_t i = from / 64;
    if (i >= words_.size()) return std::nullopt;
    std::uint64_t word = words_[i] & (~0ULL << (from % 64));
    while (word == 0) {
      if (++i == words_.size()) return std::nullopt;
      word = words_[i];
    }
    return i * 64 + static_cast<std::uint64_t>(std::countr_zero(word));
  }
  template <class Visit>
  void for_each(Visit&& visit) const {
    for (auto block = next(0); block; block = next(*block + 1)) visit(*block);
  }

  // The other set may be of a disk of another size: members beyond this one's end are left out.
  BlockSet& operator|=(const BlockSet& other) {
    other.for_each([&](std::uint64_t block) {
      if (block < blocks_) add(block);
    });
    return *this;
  }
  BlockSet& operator-=(const BlockSet& other) {
    for (std::size_t i = 0; i < words_.size() && i < other.words_.size(); ++i) {
      words_[i] &= ~other.words_[i];
    }
    return *this;
  }
  BlockSet& operator&=(const BlockSet& other) {
    for (std::size_t i = 0; i < words_.size(); ++i) {
      words_[i] &= i < other.words_.size() ? other.words_[i] : 0;
    }
    return *this;
  }
  friend BlockSet operator|(BlockSet a, const BlockSet& b) { return a |= b; }
  friend BlockSet operator-(BlockSet a, const BlockSet& b) { return a -= b; }
  friend BlockSet operator&(BlockSet a, const BlockSet& b) { return a &= b; }
  bool operator==(const BlockSet& other) const {
    const std::size_t common = std::min(words_.size(), other.words_.size());
    const auto is_zero = [](std::uint64_t word) { return word == 0; };
    return blocks_ == other.blocks_ &&
           std::equal(words_.begin(), words_.begin() + static_cast<std::ptrdiff_t>(common),
                      other.words_.begin()) &&
           std::all_of(words_.begin() + static_cast<std::ptrdiff_t>(common), words_.end(),
                       is_zero) &&
           std::all_of(other.words_.begin() + static_cast<std::ptrdiff_t>(common),
                       other.words_.end(), is_zero);
  }

  // One bit per block, lowest first; empty optional if `bytes` is no bitmap of that many blocks.
  std::string to_bytes() const {
    std::string out((blocks_ + 7) / 8, '\0');
    for (std::size_t i = 0; i < out.size() && i / 8 < words_.size(); ++i) {
      out[i] = static_cast<char>(words_[i / 8] >> (8 * (i % 8)));
    }
    return out;
  }
  static std::optional<BlockSet> from_bytes(std::uint64_t blocks, std::string_view bytes) {
    if (bytes.size() != (blocks + 7) / 8) return std::nullopt;
    BlockSet out(blocks);
    out.reach((blocks + 63) / 64);
    for (std::size_t i = 0; i < bytes.size(); ++i) {
      out.words_[i / 8] |= std::uint64_t{static_cast<unsigned char>(bytes[i])} << (8 * (i % 8));
    }
    if (blocks % 64 != 0 && (out.words_.back() >> (blocks % 64)) != 0) return std::nullopt;
    return out;
  }

 private:
  // By half as much again at least, so that one after the other costs no copy each.
  void reach(std::size_t words) {
    if (words <= words_.size()) return;
    words_.resize(std::min<std::size_t>((blocks_ + 63) / 64,
                                        std::max(words, words_.size() + words_.size() / 2)));
  }

  std::uint64_t blocks_ = 0;
  std::vector<std::uint64_t> words_;
};

}  // namespace farside::replica
