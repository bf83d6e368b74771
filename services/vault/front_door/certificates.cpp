#include "services/vault/front_door/certificates.h"

#include <arpa/inet.h>
#include <fcntl.h>
#include <fmt/format.h>
#include <openssl/bio.h>
#include <openssl/ec.h>
#include <openssl/err.h>
#include <openssl/pem.h>
#include <openssl/rand.h>
#include <openssl/x509.h>
#include <openssl/x509v3.h>
#include <sys/stat.h>
#include <unistd.h>

#include <array>
#include <cerrno>
#include <cstring>
#include <map>
#include <memory>
#include <optional>
#include <utility>

#include "common/base/file.h"
#include "common/base/secret_file.h"
#include "services/vault/front_door/name_constraints.h"

namespace farside::front_door {
namespace {

constexpr std::int64_t kDay = 86'400;  // Seconds.
constexpr std::int64_t kAuthorityDays = 3650;
constexpr std::int64_t kServerDays = 397;  // The most that current clients accept.
constexpr std::int64_t kRenewDays = 30;    // Before the end.

template <auto Free>
struct Freer {
  template <class T>
  void operator()(T* pointer) const {
    Free(pointer);
  }
};
using Key = std::unique_ptr<EVP_PKEY, Freer<EVP_PKEY_free>>;
using Certificate = std::unique_ptr<X509, Freer<X509_free>>;
using Bio = std::unique_ptr<BIO, Freer<BIO_free_all>>;
using Extension = std::unique_ptr<X509_EXTENSION, Freer<X509_EXTENSION_free>>;

struct Pair {
  Certificate certificate;
  Key key;
};

Error openssl_error(const std::string& doing) {
  std::array<char, 256> text{};
  ERR_error_string_n(ERR_get_error(), text.data(), text.size());
  return {.code = ErrorCode::kInternal,
          .what = fmt::format("{}: {}", doing, text.data()),
          .advice = ""};
}

Error io_error(const std::string& doing, const std::string& path) {
  return {.code = ErrorCode::kIo,
          .what = fmt::format("{} {}: {}", doing, path, std::strerror(errno)),
          .advice = "check that the folder exists, has space and belongs to the vault's user"};
}

// Empty if there is no such file.
Result<std::optional<std::string>> if_there(Result<std::string> text) {
  if (text) return std::optional(std::move(*text));
  if (text.error().code == ErrorCode::kNotFound) return std::nullopt;
  return fail(std::move(text).error());
}

// A key that others could read is of no use any more.
Result<std::optional<std::string>> read_key(const std::string& path) {
  auto text = if_there(read_secret_file(path, "private key"));
  if (text || text.error().code != ErrorCode::kForbidden) return text;
  return fail(ErrorCode::kForbidden, text.error().what,
              text.error().advice + "; or delete it and let the vault make another");
}

Status write_file(const std::string& path, const std::string& text, mode_t mode) {
  const std::string draft = path + ".draft";
  ::unlink(draft.c_str());
  const int fd = ::open(draft.c_str(), O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, mode);
  if (fd < 0) return fail(io_error("create", draft));
  const bool written = ::write(fd, text.data(), text.size()) == static_cast<ssize_t>(text.size()) &&
                       ::fsync(fd) == 0;
  const int why = errno;
  ::close(fd);
  errno = why;
  if (!written) return fail(io_error("write", draft));
  if (::rename(draft.c_str(), path.c_str()) != 0) return fail(io_error("replace", path));
  return {};
}

std::string drained(BIO* bio) {
  char* bytes = nullptr;
  const long size = BIO_get_mem_data(bio, &bytes);
  return {bytes, static_cast<std::size_t>(size)};
}

std::string to_pem(X509* certificate) {
  const Bio bio(BIO_new(BIO_s_mem()));
  PEM_write_bio_X509(bio.get(), certificate);
  return drained(bio.get());
}

std::string to_pem(EVP_PKEY* key) {
  const Bio bio(BIO_new(BIO_s_mem()));
  PEM_write_bio_PrivateKey(bio.get(), key, nullptr, nullptr, 0, nullptr, nullptr);
  return drained(bio.get());
}

// Empty if either file is missing.  Errors: kCorrupt, and those of reading them.
Result<std::optional<Pair>> load_pair(const std::string& certificate_path,
                                      const std::string& key_path) {
  FARSIDE_ASSIGN(const auto certificate_text, if_there(read_file(certificate_path)));
  FARSIDE_ASSIGN(const auto key_text, read_key(key_path));
  if (!certificate_text || !key_text) return std::nullopt;
  const Bio certificate_bio(
      BIO_new_mem_buf(certificate_text->data(), static_cast<int>(certificate_text->size())));
  const Bio key_bio(BIO_new_mem_buf(key_text->data(), static_cast<int>(key_text->size())));
  Pair pair{.certificate =
                Certificate(PEM_read_bio_X509(certificate_bio.get(), nullptr, nullptr, nullptr)),
            .key = Key(PEM_read_bio_PrivateKey(key_bio.get(), nullptr, nullptr, nullptr))};
  const bool fits = pair.certificate && pair.key &&
                    X509_check_private_key(pair.certificate.get(), pair.key.get()) == 1;
  ERR_clear_error();
  if (!fits) {
    return fail(
        ErrorCode::kCorrupt,
        fmt::format("{} and {} are damaged or do not belong together", certificate_path, key_path),
        "restore both from a backup, or delete both and let the vault make new ones");
  }
  return pair;
}

std::string host_name() {
  std::array<char, 256> name{};
  if (::gethostname(name.data(), name.size() - 1) != 0) return "localhost";
  return name.data();
}

// Those that every vault has.  Errors: those of subject_name().
Result<std::vector<SubjectName>> own_names() {
  std::vector<SubjectName> all;
  for (const std::string& name :
       {std::string("localhost"), std::string("127.0.0.1"), std::string("::1"), host_name()}) {
    FARSIDE_ASSIGN(all.emplace_back(), subject_name(name));
  }
  return all;
}

// "DNS:localhost,IP:127.0.0.1,…": as the certificate's extension is written.
std::string alternative_names(const std::vector<SubjectName>& names) {
  std::map<std::string, bool> all;
  for (const SubjectName& name : names) all[name.text] = name.is_address;
  std::string out;
  for (const auto& [name, is_address] : all) {
    out += fmt::format("{}{}:{}", out.empty() ? "" : ",", is_address ? "IP" : "DNS", name);
  }
  return out;
}

bool add_extension(X509* certificate, X509* issuer, int nid, const std::string& value) {
  X509V3_CTX context;
  X509V3_set_ctx(&context, issuer, certificate, nullptr, nullptr, 0);
  const Extension extension(X509V3_EXT_conf_nid(nullptr, &context, nid, value.c_str()));
  return extension && X509_add_ext(certificate, extension.get(), -1) == 1;
}

struct Wanted {
  std::string common_name;
  Time from;
  std::int64_t until_seconds = 0;  // Since 1970.
  std::string alternative_names;   // Empty: an authority.
  std::string constraints;         // Of an authority.
};

Result<Pair> make_pair(const Wanted& wanted, const Pair* authority) {
  Pair pair{.certificate = Certificate(X509_new()), .key = Key(EVP_EC_gen("P-256"))};
  if (!pair.certificate || !pair.key) return fail(openssl_error("make a key pair"));
  X509* certificate = pair.certificate.get();
  X509_set_version(certificate, X509_VERSION_3);

  std::array<unsigned char, 16> serial{};
  RAND_bytes(serial.data(), serial.size());
  serial[0] &= 0x7fU;  // A serial number is positive.
  BIGNUM* number = BN_bin2bn(serial.data(), serial.size(), nullptr);
  BN_to_ASN1_INTEGER(number, X509_get_serialNumber(certificate));
  BN_free(number);

  const std::int64_t from = wanted.from.micros / 1'000'000;
  ASN1_TIME_set(X509_getm_notBefore(certificate), from - kDay);  // Clocks of clients differ.
  ASN1_TIME_set(X509_getm_notAfter(certificate), wanted.until_seconds);
  X509_NAME* subject = X509_get_subject_name(certificate);
  X509_NAME_add_entry_by_txt(subject, "O", MBSTRING_UTF8,
                             reinterpret_cast<const unsigned char*>("Farside"), -1, -1, 0);
  X509_NAME_add_entry_by_txt(subject, "CN", MBSTRING_UTF8,
                             reinterpret_cast<const unsigned char*>(wanted.common_name.c_str()), -1,
                             -1, 0);
  X509* issuer = authority == nullptr ? certificate : authority->certificate.get();
  X509_set_issuer_name(certificate, X509_get_subject_name(issuer));
  X509_set_pubkey(certificate, pair.key.get());

  std::vector<std::pair<int, std::string>> extensions;
  if (authority == nullptr) {
    extensions = {{NID_basic_constraints, "critical,CA:TRUE,pathlen:0"},
                  {NID_key_usage, "critical,keyCertSign,cRLSign"},
                  {NID_name_constraints, wanted.constraints}};
  } else {
    extensions = {{NID_basic_constraints, "critical,CA:FALSE"},
                  {NID_key_usage, "critical,digitalSignature"},
                  {NID_ext_key_usage, "serverAuth"},
                  {NID_subject_alt_name, wanted.alternative_names}};
  }
  extensions.emplace_back(NID_subject_key_identifier, "hash");
  extensions.emplace_back(NID_authority_key_identifier, "keyid:always");
  for (const auto& [nid, value] : extensions) {
    if (!add_extension(certificate, issuer, nid, value)) {
      return fail(openssl_error(
          fmt::format("write '{}' into the certificate of {}", value, wanted.common_name)));
    }
  }
  EVP_PKEY* signer = authority == nullptr ? pair.key.get() : authority->key.get();
  if (X509_sign(certificate, signer, EVP_sha256()) == 0) {
    return fail(openssl_error("sign the certificate of " + wanted.common_name));
  }
  return pair;
}

std::int64_t end_of(X509* certificate) {
  tm parts{};
  ASN1_TIME_to_tm(X509_get0_notAfter(certificate), &parts);
  return ::timegm(&parts);
}

std::string fingerprint_of(X509* certificate) {
  std::array<unsigned char, EVP_MAX_MD_SIZE> digest{};
  unsigned int size = 0;
  X509_digest(certificate, EVP_sha256(), digest.data(), &size);
  std::string text;
  for (unsigned int i = 0; i < size; ++i) text += fmt::format("{:02x}", digest[i]);
  return text;
}

// The names in the certificate, in the notation of subject_names().
std::string names_of(X509* certificate) {
  std::string out;
  auto* names = static_cast<GENERAL_NAMES*>(
      X509_get_ext_d2i(certificate, NID_subject_alt_name, nullptr, nullptr));
  for (int i = 0; i < sk_GENERAL_NAME_num(names); ++i) {
    const GENERAL_NAME* name = sk_GENERAL_NAME_value(names, i);
    std::string text;
    if (name->type == GEN_DNS) {
      const ASN1_IA5STRING* dns = name->d.dNSName;
      text = "DNS:" + std::string(reinterpret_cast<const char*>(ASN1_STRING_get0_data(dns)),
                                  static_cast<std::size_t>(ASN1_STRING_length(dns)));
    } else if (name->type == GEN_IPADD) {
      std::array<char, INET6_ADDRSTRLEN> address{};
      const int family = ASN1_STRING_length(name->d.iPAddress) == 4 ? AF_INET : AF_INET6;
      ::inet_ntop(family, ASN1_STRING_get0_data(name->d.iPAddress), address.data(), address.size());
      text = std::string("IP:") + address.data();
    }
    out += (out.empty() ? "" : ",") + text;
  }
  GENERAL_NAMES_free(names);
  return out;
}

// Made for `permitted` if there is none yet.
Result<Pair> authority_of(const std::string& folder, const std::vector<SubjectName>& permitted,
                          const Clock& clock) {
  const std::string certificate_path = folder + "/ca.pem";
  const std::string key_path = folder + "/ca.key";
  const std::int64_t now = clock.now().micros / 1'000'000;
  FARSIDE_ASSIGN(std::optional<Pair> found, load_pair(certificate_path, key_path));
  if (found) {
    if (end_of(found->certificate.get()) > now + kDay) return std::move(*found);
    return fail(ErrorCode::kExpired,
                "the vault's certificate authority " + certificate_path + " has expired",
                fmt::format("delete {} and {}, restart the vault and give the new ca.pem to every "
                            "client",
                            certificate_path, key_path));
  }
  if (::access(certificate_path.c_str(), F_OK) == 0) {
    return fail(ErrorCode::kCorrupt,
                fmt::format("{} is there but its key {} is not", certificate_path, key_path),
                "restore the key from a backup, or delete ca.pem too and give the new one to every "
                "client");
  }
  std::array<unsigned char, 4> id{};
  RAND_bytes(id.data(), id.size());
  FARSIDE_ASSIGN(Pair made,
                 make_pair({.common_name = fmt::format("Farside vault CA {:02x}{:02x}{:02x}{:02x}",
                                                       id[0], id[1], id[2], id[3]),
                            .from = clock.now(),
                            .until_seconds = now + kAuthorityDays * kDay,
                            .alternative_names = "",
                            .constraints = name_constraints_of(permitted)},
                           nullptr));
  FARSIDE_TRY(write_file(key_path, to_pem(made.key.get()), 0600));
  FARSIDE_TRY(write_file(certificate_path, to_pem(made.certificate.get()), 0644));
  return made;
}

// What was asked for must hold; a host whose own name has changed does without.
// Errors: kConflict.
Result<std::vector<SubjectName>> names_that_hold(const Pair& authority, const std::string& path,
                                                 const std::vector<SubjectName>& own,
                                                 const std::vector<SubjectName>& asked) {
  std::vector<SubjectName> all;
  for (const SubjectName& name : own) {
    if (permits(authority.certificate.get(), name)) all.push_back(name);
  }
  for (const SubjectName& name : asked) {
    if (!permits(authority.certificate.get(), name)) {
      return fail(ErrorCode::kConflict,
                  fmt::format("the vault's certificate authority {}.pem was made for other names "
                              "and may not vouch for '{}'",
                              path, name.text),
                  fmt::format("take the name out of http.names, or delete {0}.pem and {0}.key, "
                              "restart the vault and give the new ca.pem to every client",
                              path));
    }
    all.push_back(name);
  }
  return all;
}

bool is_good(const Pair& server, const Pair& authority, const std::string& names,
             std::int64_t now) {
  X509* certificate = server.certificate.get();
  const bool signed_by_us = X509_verify(certificate, authority.key.get()) == 1;
  ERR_clear_error();
  const bool lasts = end_of(certificate) > now + kRenewDays * kDay ||
                     end_of(certificate) >= end_of(authority.certificate.get());
  return signed_by_us && lasts && names_of(certificate) == names;
}

}  // namespace

Result<ServerCertificate> prepare_certificate(const std::string& folder,
                                              const std::vector<std::string>& names,
                                              const Clock& clock) {
  FARSIDE_ASSIGN(const std::vector<SubjectName> own, own_names());
  std::vector<SubjectName> asked;
  for (const std::string& name : names) {
    FARSIDE_ASSIGN(asked.emplace_back(), subject_name(name));
  }
  if (::mkdir(folder.c_str(), 0700) != 0 && errno != EEXIST)
    return fail(io_error("create", folder));
  std::vector<SubjectName> permitted = own;
  permitted.insert(permitted.end(), asked.begin(), asked.end());
  for (SubjectName& address : own_addresses()) permitted.push_back(std::move(address));
  FARSIDE_ASSIGN(const Pair authority, authority_of(folder, permitted, clock));
  FARSIDE_ASSIGN(const std::vector<SubjectName> wanted,
                 names_that_hold(authority, folder + "/ca", own, asked));
  const std::string wanted_names = alternative_names(wanted);
  const std::int64_t now = clock.now().micros / 1'000'000;

  ServerCertificate out{.ca_file = folder + "/ca.pem",
                        .chain_file = folder + "/server.pem",
                        .key_file = folder + "/server.key",
                        .ca_fingerprint = fingerprint_of(authority.certificate.get()),
                        .is_ca_constrained = has_name_constraints(authority.certificate.get()),
                        .expires = {}};
  auto found = load_pair(out.chain_file, out.key_file);
  // A damaged pair is no loss, we make another; a key that others could read is worth a stop.
  if (!found && found.error().code != ErrorCode::kCorrupt) return fail(found.error());
  if (found && *found && is_good(**found, authority, wanted_names, now)) {
    out.expires = Time{end_of((*found)->certificate.get()) * 1'000'000};
    return out;
  }
  const std::int64_t until =
      std::min(now + kServerDays * kDay, end_of(authority.certificate.get()));
  FARSIDE_ASSIGN(const Pair server, make_pair({.common_name = "Farside vault",
                                               .from = clock.now(),
                                               .until_seconds = until,
                                               .alternative_names = wanted_names,
                                               .constraints = ""},
                                              &authority));
  FARSIDE_TRY(write_file(out.key_file, to_pem(server.key.get()), 0600));
  FARSIDE_TRY(write_file(out.chain_file,
                         to_pem(server.certificate.get()) + to_pem(authority.certificate.get()),
                         0644));
  FARSIDE_TRY(sync_folder(folder));
  out.expires = Time{until * 1'000'000};
  out.renewed = true;
  return out;
}

}  // namespace farside::front_door
