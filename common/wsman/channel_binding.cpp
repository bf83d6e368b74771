#include "common/wsman/channel_binding.h"

#include <openssl/err.h>
#include <openssl/evp.h>
#include <openssl/objects.h>
#include <openssl/pem.h>
#include <openssl/x509.h>

#include <array>
#include <memory>

namespace farside::wsman {
namespace {

struct Free {
  void operator()(BIO* bio) const { BIO_free_all(bio); }
  void operator()(X509* certificate) const { X509_free(certificate); }
};

// The hash of the certificate's signature, but for those that are broken.
const EVP_MD* hash_of(const X509* certificate) {
  int hash = NID_undef;
  if (OBJ_find_sigid_algs(X509_get_signature_nid(certificate), &hash, nullptr) != 1 ||
      hash == NID_undef || hash == NID_md5 || hash == NID_sha1) {
    return EVP_sha256();
  }
  const EVP_MD* found = EVP_get_digestbynid(hash);
  return found == nullptr ? EVP_sha256() : found;
}

}  // namespace

Result<std::string> tls_server_end_point(const std::string& certificate) {
  const std::unique_ptr<BIO, Free> bio(
      BIO_new_mem_buf(certificate.data(), static_cast<int>(certificate.size())));
  const std::unique_ptr<X509, Free> parsed(PEM_read_bio_X509(bio.get(), nullptr, nullptr, nullptr));
  std::array<unsigned char, EVP_MAX_MD_SIZE> digest{};
  unsigned count = 0;
  const bool is_hashed =
      parsed && X509_digest(parsed.get(), hash_of(parsed.get()), digest.data(), &count) == 1;
  ERR_clear_error();
  if (!is_hashed) {
    return fail(ErrorCode::kCorrupt, "bind a login to the host's certificate: it cannot be read",
                "look at it with: openssl s_client -connect HOST:5986");
  }
  return "tls-server-end-point:" + std::string(reinterpret_cast<const char*>(digest.data()), count);
}

}  // namespace farside::wsman
