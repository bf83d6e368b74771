#include "common/base/sha256.h"

#include <fmt/format.h>
#include <openssl/evp.h>

#include <array>

#include "common/base/assert.h"

namespace farside {

std::string sha256_hex(std::string_view bytes) {
  std::array<unsigned char, 32> digest{};
  unsigned int length = 0;
  FARSIDE_ASSERT(
      EVP_Digest(bytes.data(), bytes.size(), digest.data(), &length, EVP_sha256(), nullptr) == 1);
  std::string out;
  for (const auto byte : digest) out += fmt::format("{:02x}", byte);
  return out;
}

}  // namespace farside
