#include "services/agent/replica_store/block_hash.h"

#include <gtest/gtest.h>
#include <openssl/evp.h>

#include <array>
#include <set>
#include <string>
#include <string_view>

#include "common/base/random.h"
#include "services/agent/replica_store/block.h"
#include "services/agent/replica_store/layout.h"
#include "tests/support/colliding_blocks.h"

namespace farside::replica {
namespace {

std::string noise(std::uint64_t seed) {
  SeededRandom random(seed);
  std::string out;
  while (out.size() < kBlockBytes) put_number(out, random.next(), 8);
  return out;
}

TEST(BlockHash, BlocksMadeToCollideDoNotUnderAKey) {
  const auto [one, other] = test::colliding_blocks();
  ASSERT_NE(one, other);
  ASSERT_EQ(hash_of(one), hash_of(other)) << "the attack is real";

  for (int i = 0; i < 100; ++i) {
    const auto hash = BlockHash::with_key(BlockHash::make_key()).value();
    ASSERT_NE(hash(one), hash(other));
  }
}

using Sixteen = std::array<unsigned char, 16>;

Sixteen aes(const std::string& key, const Sixteen& block) {
  Sixteen out{};
  int done = 0;
  EVP_CIPHER_CTX* context = EVP_CIPHER_CTX_new();
  EVP_EncryptInit_ex(context, EVP_aes_128_ecb(), nullptr,
                     reinterpret_cast<const unsigned char*>(key.data()), nullptr);
  EVP_CIPHER_CTX_set_padding(context, 0);
  EVP_EncryptUpdate(context, out.data(), &done, block.data(), 16);
  EVP_CIPHER_CTX_free(context);
  return out;
}

// As the standard has it, bit by bit.  Source: NIST SP 800-38D, 6.3.
Sixteen times(const Sixteen& one, Sixteen other) {
  Sixteen out{};
  for (unsigned bit = 0; bit < 128; ++bit) {
    if ((one[bit / 8] >> (7U - bit % 8) & 1U) != 0) {
      for (std::size_t i = 0; i < 16; ++i) out[i] ^= other[i];
    }
    const bool low = (other[15] & 1U) != 0;
    for (std::size_t i = 15; i > 0; --i) {
      other[i] = static_cast<unsigned char>(other[i] >> 1U | (other[i - 1] & 1U) << 7U);
    }
    other[0] = static_cast<unsigned char>(other[0] >> 1U);
    if (low) other[0] ^= 0xe1U;
  }
  return out;
}

std::string gmac(const std::string& key, const std::string& text) {
  const Sixteen h = aes(key, {});
  Sixteen sum{};
  const auto add = [&](std::string_view bytes) {
    for (std::size_t i = 0; i < 16; ++i) sum[i] ^= static_cast<unsigned char>(bytes[i]);
    sum = times(sum, h);
  };
  for (std::size_t at = 0; at < text.size(); at += 16) add(std::string_view(text).substr(at, 16));
  add(number_key(text.size() * 8, 8) + std::string(8, '\0'));
  Sixteen counter{};
  counter[15] = 1;
  const Sixteen mask = aes(key, counter);
  std::string out;
  for (std::size_t i = 0; i < 16; ++i) out += static_cast<char>(sum[i] ^ mask[i]);
  return out;
}

TEST(BlockHash, IsTheGmacOfTheStandard) {
  const std::string key = "sixteen bytes it";
  const std::string block = noise(3);
  EXPECT_EQ(BlockHash::with_key(key).value()(block), hash_of(gmac(key, block)));
}

TEST(BlockHash, DependsOnEveryBitAndOnTheKey) {
  const auto hash = BlockHash::with_key(std::string(kHashKeyBytes, 'k')).value();
  const auto others = BlockHash::with_key(std::string(kHashKeyBytes, 'l')).value();
  const std::string block = noise(7);
  EXPECT_EQ(hash(block), hash(std::string(block)));
  EXPECT_NE(hash(block), others(block));
  std::set<std::uint64_t> seen{hash(block)};
  for (std::size_t bit = 0; bit < kBlockBytes * 8; bit += 4093) {
    std::string changed = block;
    changed[bit / 8] = static_cast<char>(changed[bit / 8] ^ (1 << (bit % 8)));
    EXPECT_TRUE(seen.insert(hash(changed)).second) << bit;
  }
}

TEST(BlockHash, ZerosAreZerosUnderAnyKey) {
  const std::string zeros(kBlockBytes, '\0');
  EXPECT_EQ(BlockHash()(zeros), zero_hash());
  EXPECT_EQ(BlockHash::with_key(BlockHash::make_key()).value()(zeros), zero_hash());
}

TEST(BlockHash, WithoutAKeyItIsAsBefore) {
  const std::string block = noise(1);
  EXPECT_EQ(BlockHash()(block), hash_of(block));
  EXPECT_EQ(BlockHash::with_key("").value()(block), hash_of(block));
}

TEST(BlockHash, KeysHaveASizeAndDiffer) {
  EXPECT_FALSE(BlockHash::with_key("short"));
  EXPECT_EQ(BlockHash::make_key().size(), kHashKeyBytes);
  EXPECT_NE(BlockHash::make_key(), BlockHash::make_key());
}

}  // namespace
}  // namespace farside::replica
