#include "services/agent/replica_store/block_hash.h"

#include <openssl/evp.h>

#include <algorithm>
#include <memory>

#include "common/base/assert.h"
#include "common/base/random.h"
#include "services/agent/replica_store/block.h"
#include "services/agent/replica_store/layout.h"

namespace farside::replica {
namespace {

constexpr int kTagBytes = 16;
constexpr std::array<unsigned char, 12> kNonce{};

struct Free {
  void operator()(EVP_CIPHER* cipher) const { EVP_CIPHER_free(cipher); }
  void operator()(EVP_CIPHER_CTX* context) const { EVP_CIPHER_CTX_free(context); }
};

// Looked up once: that takes longer than to hash a block.
const EVP_CIPHER* cipher() {
  static const std::unique_ptr<EVP_CIPHER, Free> found(
      EVP_CIPHER_fetch(nullptr, "AES-128-GCM", nullptr));
  return found.get();
}

std::array<char, kTagBytes> tag_of(const std::array<unsigned char, kHashKeyBytes>& key,
                                   std::string_view plain) {
  thread_local const std::unique_ptr<EVP_CIPHER_CTX, Free> context(EVP_CIPHER_CTX_new());
  std::array<char, kTagBytes> tag{};
  int done = 0;
  const auto* bytes = reinterpret_cast<const unsigned char*>(plain.data());
  const bool good =
      EVP_EncryptInit_ex(context.get(), cipher(), nullptr, key.data(), kNonce.data()) == 1 &&
      EVP_EncryptUpdate(context.get(), nullptr, &done, bytes, static_cast<int>(plain.size())) ==
          1 &&
      EVP_EncryptFinal_ex(context.get(), nullptr, &done) == 1 &&
      EVP_CIPHER_CTX_ctrl(context.get(), EVP_CTRL_AEAD_GET_TAG, kTagBytes, tag.data()) == 1;
  FARSIDE_ASSERT(good);
  return tag;
}

}  // namespace

Result<BlockHash> BlockHash::with_key(std::string_view key) {
  BlockHash out;
  if (key.empty()) return out;
  if (key.size() != kHashKeyBytes) {
    return fail(ErrorCode::kCorrupt, "the key of a replica's hashes has the wrong size");
  }
  out.has_key_ = true;
  std::ranges::copy(key, out.key_.begin());
  return out;
}

std::string BlockHash::make_key() {
  SystemRandom random;
  return number_key(random.next(), 8) + number_key(random.next(), 8);
}

std::uint64_t BlockHash::operator()(std::string_view plain) const {
  if (!has_key_) return hash_of(plain);
  if (is_zero(plain)) return zero_hash();
  const auto tag = tag_of(key_, plain);
  return hash_of({tag.data(), tag.size()});
}

}  // namespace farside::replica
