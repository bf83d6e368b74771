#include "services/vault/front_door/tls.h"

#include <fmt/format.h>
#include <openssl/err.h>

#include <array>

namespace farside::front_door {
namespace {

constexpr const char* kTls12Ciphers = "ECDHE+AESGCM:ECDHE+CHACHA20";

std::string last_error() {
  std::array<char, 256> text{};
  ERR_error_string_n(ERR_get_error(), text.data(), text.size());
  ERR_clear_error();
  return text.data();
}

}  // namespace

Status set_up_tls(SSL_CTX* context, const ServerCertificate& certificate) {
  SSL_CTX_set_options(
      context, SSL_OP_NO_RENEGOTIATION | SSL_OP_NO_COMPRESSION | SSL_OP_CIPHER_SERVER_PREFERENCE);
  SSL_CTX_set_mode(context, SSL_MODE_RELEASE_BUFFERS);
  if (SSL_CTX_set_min_proto_version(context, TLS1_2_VERSION) != 1 ||
      SSL_CTX_set_cipher_list(context, kTls12Ciphers) != 1) {
    return fail(ErrorCode::kInternal, "set up TLS: " + last_error(),
                "install an OpenSSL with AES-GCM");
  }
  if (SSL_CTX_use_certificate_chain_file(context, certificate.chain_file.c_str()) != 1 ||
      SSL_CTX_use_PrivateKey_file(context, certificate.key_file.c_str(), SSL_FILETYPE_PEM) != 1) {
    return fail(ErrorCode::kCorrupt,
                fmt::format("use {}: {}", certificate.chain_file, last_error()),
                "delete it and its key; the vault makes new ones");
  }
  return {};
}

}  // namespace farside::front_door
