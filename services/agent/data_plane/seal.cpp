#include "services/agent/data_plane/seal.h"

#include <openssl/evp.h>
#include <openssl/rand.h>

#include <array>

namespace farside::data {
namespace {

unsigned char* bytes(std::span<char> of) {
  return reinterpret_cast<unsigned char*>(of.data());
}
const unsigned char* bytes(std::string_view of) {
  return reinterpret_cast<const unsigned char*>(of.data());
}

// Frames are a few MiB at most.
int length_of(std::size_t size) {
  return static_cast<int>(size);
}

}  // namespace

void Seal::Free::operator()(evp_cipher_ctx_st* context) const {
  EVP_CIPHER_CTX_free(context);
}

Result<std::string> Seal::make_key() {
  std::string key(kSealKeyBytes, '\0');
  if (RAND_bytes(bytes(std::span(key)), length_of(key.size())) != 1) {
    return fail(ErrorCode::kInternal, "no randomness for a session's key");
  }
  return key;
}

Result<Seal> Seal::with_key(std::string_view key, Side side) {
  if (key.size() != kSealKeyBytes) {
    return fail(ErrorCode::kInvalidArgument, "the key of a session has the wrong size");
  }
  Seal seal;
  seal.side_ = side;
  seal.context_.reset(EVP_CIPHER_CTX_new());
  const bool good =
      seal.context_ != nullptr && EVP_CipherInit_ex(seal.context_.get(), EVP_aes_256_gcm(), nullptr,
                                                    bytes(key), nullptr, side == Side::kSeals) == 1;
  if (!good) return fail(ErrorCode::kInternal, "AES-256-GCM is not available");
  return seal;
}

// The length of the header is authenticated too: the border between the parts cannot be moved.
bool Seal::begin(std::size_t header_bytes) {
  std::array<unsigned char, 12> nonce{};
  for (std::size_t i = 0; i < 8; ++i) {
    nonce[nonce.size() - 1 - i] = static_cast<unsigned char>(number_ >> (8 * i));
  }
  ++number_;
  std::array<unsigned char, 4> length{};
  for (std::size_t i = 0; i < length.size(); ++i) {
    length[i] = static_cast<unsigned char>(header_bytes >> (8 * i));
  }
  int done = 0;
  return EVP_CipherInit_ex(context_.get(), nullptr, nullptr, nullptr, nonce.data(),
                           side_ == Side::kSeals) == 1 &&
         EVP_CipherUpdate(context_.get(), nullptr, &done, length.data(),
                          length_of(length.size())) == 1;
}

Result<std::string> Seal::seal(std::string_view header, std::span<char> payload) {
  std::string part1(kSealTagBytes + header.size(), '\0');
  int done = 0;
  bool good = begin(header.size()) &&
              EVP_CipherUpdate(context_.get(), bytes(std::span(part1).subspan(kSealTagBytes)),
                               &done, bytes(header), length_of(header.size())) == 1;
  good =
      good && (payload.empty() || EVP_CipherUpdate(context_.get(), bytes(payload), &done,
                                                   bytes(payload), length_of(payload.size())) == 1);
  std::array<unsigned char, 16> rest{};
  good = good && EVP_CipherFinal_ex(context_.get(), rest.data(), &done) == 1 &&
         EVP_CIPHER_CTX_ctrl(context_.get(), EVP_CTRL_AEAD_GET_TAG, length_of(kSealTagBytes),
                             part1.data()) == 1;
  if (!good) return fail(ErrorCode::kInternal, "a frame cannot be sealed");
  return part1;
}

Result<std::string> Seal::open(std::string_view part1, std::span<char> payload) {
  const auto refused = [] {
    return fail(ErrorCode::kForbidden, "a sealed frame does not open",
                "it was changed or lost on its way; the source opens a new session by itself");
  };
  if (part1.size() < kSealTagBytes) return refused();
  std::string tag(part1.substr(0, kSealTagBytes));
  part1.remove_prefix(kSealTagBytes);
  std::string header(part1.size(), '\0');
  int done = 0;
  bool good = begin(part1.size()) &&
              (part1.empty() || EVP_CipherUpdate(context_.get(), bytes(std::span(header)), &done,
                                                 bytes(part1), length_of(part1.size())) == 1);
  good =
      good && (payload.empty() || EVP_CipherUpdate(context_.get(), bytes(payload), &done,
                                                   bytes(payload), length_of(payload.size())) == 1);
  std::array<unsigned char, 16> rest{};
  good = good &&
         EVP_CIPHER_CTX_ctrl(context_.get(), EVP_CTRL_AEAD_SET_TAG, length_of(kSealTagBytes),
                             tag.data()) == 1 &&
         EVP_CipherFinal_ex(context_.get(), rest.data(), &done) == 1;
  if (!good) return refused();
  return header;
}

}  // namespace farside::data
