#include "services/vault/front_door/bearer_token.h"

#include <openssl/crypto.h>

#include "common/base/sha256.h"
#include "services/vault/front_door/arm_errors.h"

namespace farside::front_door {
namespace {

constexpr std::string_view kScheme = "Bearer ";

}  // namespace

bool BearerToken::admits(std::string_view authorization) const {
  if (!authorization.starts_with(kScheme)) return false;
  // Hashes are compared, in constant time, so that timing tells nothing about the token.
  const auto hash = sha256_hex(authorization.substr(kScheme.size()));
  return hash.size() == sha256_.size() &&
         CRYPTO_memcmp(hash.data(), sha256_.data(), hash.size()) == 0;
}

HttpResponse unauthorized(std::string_view authorization) {
  const bool has_token = authorization.starts_with(kScheme);
  HttpResponse response =
      arm_error(Error{.code = ErrorCode::kUnauthorized,
                      .what = has_token ? "this bearer token is not known" : "no bearer token",
                      .advice = "send the token the vault wrote at its first start"});
  response.headers.emplace_back("WWW-Authenticate", "Bearer");
  return response;
}

}  // namespace farside::front_door
