// Two different blocks with the same XXH3, made as whoever writes to a disk can make them.
//
// XXH3 takes 64 bytes at a time as eight numbers, XORs each with a secret that everybody has, adds
// the product of its halves to one sum and the number itself to the neighbour's. Where the lower
// half is the secret's, the product is 0 whatever the upper half is: what one number has more
// there, another one 64 bytes on has less. Source: the XXH3 specification; the secret from
// xxhash.h.
#pragma once

#include <cstring>
#include <string>
#include <utility>

#include "services/agent/replica_store/block.h"

namespace farside::test {

inline std::pair<std::string, std::string> colliding_blocks() {
  const auto made = [](char first, char second) {
    std::string block(replica::kBlockBytes, 'v');
    block.replace(0, 8, std::string("\xb8\xfe\x6c\x39\0\0\0", 7) + first);
    block.replace(64, 8, std::string("\x7c\x01\x81\x2c\0\0\0", 7) + second);
    return block;
  };
  return {made(1, 2), made(2, 1)};
}

}  // namespace farside::test
