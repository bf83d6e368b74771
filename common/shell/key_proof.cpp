#include "common/shell/key_proof.h"

#include <sodium.h>

#include <array>
#include <cstdint>
#include <cstring>
#include <string_view>
#include <vector>

#include "common/base/assert.h"

namespace farside::shell {
namespace {

constexpr std::string_view kNoncePrefix = "FARSIDE-";
constexpr std::size_t kProofBytesMax = 1024;

using Key = bus::KeyBytes;
static_assert(crypto_box_PUBLICKEYBYTES == sizeof(Key) && crypto_box_SECRETKEYBYTES == sizeof(Key));

Result<Key> decode(const std::string& z85) {
  if (const auto key = bus::key_bytes(z85)) return *key;
  return fail(ErrorCode::kInvalidArgument, "this is no public key: 40 characters of Z85",
              "delete identity.key in the data folder and start the process again");
}

const std::uint8_t* bytes(const std::string& text) {
  return reinterpret_cast<const std::uint8_t*>(text.data());
}

}  // namespace

Result<std::string> make_proof(const bus::CurveKeys& own, const std::string& to_public_key,
                               const std::string& statement, Random& random) {
  FARSIDE_ASSERT(sodium_init() >= 0);
  FARSIDE_ASSIGN(const Key to, decode(to_public_key));
  FARSIDE_ASSIGN(Key secret, decode(own.secret_key));
  std::string nonce(kNoncePrefix);
  while (nonce.size() < crypto_box_NONCEBYTES) {
    const std::uint64_t part = random.next();
    nonce.append(reinterpret_cast<const char*>(&part), sizeof part);
  }
  std::vector<std::uint8_t> box(crypto_box_MACBYTES + statement.size());
  const int made = crypto_box_easy(box.data(), bytes(statement), statement.size(), bytes(nonce),
                                   to.data(), secret.data());
  sodium_memzero(secret.data(), secret.size());
  if (made != 0) {
    return fail(ErrorCode::kInvalidArgument, "the other side's public key is none",
                "use the key file exactly as `farside key create` wrote it");
  }
  return nonce + std::string(reinterpret_cast<const char*>(box.data()), box.size());
}

Status open_proof(const identity::KeyProof& shown, const std::string& own_secret_key) {
  FARSIDE_ASSERT(sodium_init() >= 0);
  FARSIDE_ASSIGN(const Key from, decode(shown.public_key));
  FARSIDE_ASSIGN(Key secret, decode(own_secret_key));
  const auto& proof = shown.proof;
  constexpr std::size_t kHead = crypto_box_NONCEBYTES + crypto_box_MACBYTES;
  bool is_right =
      proof.size() >= kHead && proof.size() <= kProofBytesMax && proof.starts_with(kNoncePrefix);
  if (is_right) {
    std::string said(proof.size() - kHead, '\0');
    is_right = crypto_box_open_easy(reinterpret_cast<std::uint8_t*>(said.data()),
                                    bytes(proof) + crypto_box_NONCEBYTES,
                                    proof.size() - crypto_box_NONCEBYTES, bytes(proof), from.data(),
                                    secret.data()) == 0 &&
               said == shown.statement;
  }
  sodium_memzero(secret.data(), secret.size());
  if (is_right) return {};
  return fail(ErrorCode::kUnauthorized,
              "nothing shows that the public key '" + shown.public_key + "' is the sender's own",
              "both sides must run the same release; use the process's own identity.key");
}

}  // namespace farside::shell
