#include "common/wsman/http_pipe.h"

#include <curl/curl.h>
#include <fmt/format.h>
#include <openssl/ssl.h>
#include <openssl/x509.h>

#include <algorithm>
#include <array>
#include <cctype>
#include <cstring>
#include <optional>

namespace farside::wsman {
namespace {

using Fingerprint = std::array<unsigned char, 32>;

Result<std::optional<Fingerprint>> parse_fingerprint(const std::string& text) {
  if (text.empty()) return std::nullopt;
  std::string digits;
  for (const char c : text) {
    if (c != ':' && c != ' ') digits += c;
  }
  Fingerprint bytes{};
  const bool is_hex =
      std::ranges::all_of(digits, [](unsigned char c) { return std::isxdigit(c) != 0; });
  if (digits.size() != 2 * bytes.size() || !is_hex) {
    return fail(ErrorCode::kInvalidArgument,
                "fingerprint '" + text + "' is not a SHA-256 of 64 hexadecimal digits",
                "take it from: openssl x509 -noout -fingerprint -sha256 -in CERTIFICATE");
  }
  for (std::size_t i = 0; i < bytes.size(); ++i) {
    bytes[i] = static_cast<unsigned char>(std::stoi(digits.substr(2 * i, 2), nullptr, 16));
  }
  return bytes;
}

// In place of the check of a chain: the certificate is the one that we were told of.
int check_fingerprint(X509_STORE_CTX* store, void* wanted) {
  Fingerprint seen{};
  unsigned count = 0;
  X509* certificate = X509_STORE_CTX_get0_cert(store);
  const bool matches = certificate != nullptr &&
                       X509_digest(certificate, EVP_sha256(), seen.data(), &count) == 1 &&
                       count == seen.size() && seen == *static_cast<const Fingerprint*>(wanted);
  X509_STORE_CTX_set_error(store, matches ? X509_V_OK : X509_V_ERR_APPLICATION_VERIFICATION);
  return matches ? 1 : 0;
}

CURLcode install_check(CURL*, void* tls, void* wanted) {
  SSL_CTX_set_cert_verify_callback(static_cast<SSL_CTX*>(tls), check_fingerprint, wanted);
  return CURLE_OK;
}

std::string header_value(std::string_view line, std::string_view name) {
  if (line.size() <= name.size() || line[name.size()] != ':') return {};
  for (std::size_t i = 0; i < name.size(); ++i) {
    if (std::tolower(static_cast<unsigned char>(line[i])) != name[i]) return {};
  }
  line.remove_prefix(name.size() + 1);
  while (line.starts_with(' ') || line.starts_with('\t')) line.remove_prefix(1);
  while (line.ends_with('\n') || line.ends_with('\r') || line.ends_with(' ')) line.remove_suffix(1);
  return std::string(line);
}

}  // namespace

struct HttpPipe::Impl {
  HttpTarget target;
  std::optional<Fingerprint> fingerprint;
  CURL* curl = nullptr;
  int local_port = 0;  // Of the connection that the last request took; 0: none.

  // Of the request under way.
  HttpReply reply;
  bool same_connection = false;
  bool is_too_large = false;
  bool is_other_connection = false;
  int times_sent = 0;

  Error error_of(CURLcode code, const char* words) const;

  std::string certificate() const;

  static std::size_t take_body(char* bytes, std::size_t, std::size_t count, void* self);
  static std::size_t take_header(char* bytes, std::size_t, std::size_t count, void* self);
  static int before_sending(void* self, char*, char*, int, int local_port);
};

std::string HttpPipe::Impl::certificate() const {
  constexpr std::string_view kField = "Cert:";
  curl_certinfo* chain = nullptr;
  if (curl_easy_getinfo(curl, CURLINFO_CERTINFO, &chain) != CURLE_OK || chain == nullptr ||
      chain->num_of_certs == 0) {
    return {};
  }
  for (const curl_slist* field = chain->certinfo[0]; field != nullptr; field = field->next) {
    const std::string_view text = field->data;
    if (text.starts_with(kField)) return std::string(text.substr(kField.size()));
  }
  return {};
}

std::size_t HttpPipe::Impl::take_body(char* bytes, std::size_t, std::size_t count, void* self) {
  auto& impl = *static_cast<Impl*>(self);
  if (impl.reply.body.size() + count > impl.target.reply_bytes_max) {
    impl.is_too_large = true;
    return 0;
  }
  impl.reply.body.append(bytes, count);
  return count;
}

std::size_t HttpPipe::Impl::take_header(char* bytes, std::size_t, std::size_t count, void* self) {
  auto& impl = *static_cast<Impl*>(self);
  const std::string_view line(bytes, count);
  if (std::string type = header_value(line, "content-type"); !type.empty()) {
    impl.reply.content_type = std::move(type);
  }
  if (std::string challenge = header_value(line, "www-authenticate"); !challenge.empty()) {
    impl.reply.challenges.push_back(std::move(challenge));
  }
  return count;
}

// libcurl would send a request again, by itself, when a kept connection turns out to be dead; the
// host may have done by then what was asked.
int HttpPipe::Impl::before_sending(void* self, char*, char*, int, int local_port) {
  auto& impl = *static_cast<Impl*>(self);
  if (impl.times_sent > 0) return CURL_PREREQFUNC_ABORT;
  impl.is_other_connection = impl.same_connection && local_port != impl.local_port;
  if (impl.is_other_connection) return CURL_PREREQFUNC_ABORT;
  ++impl.times_sent;
  impl.local_port = local_port;
  return CURL_PREREQFUNC_OK;
}

Error HttpPipe::Impl::error_of(CURLcode code, const char* words) const {
  Error error{.code = ErrorCode::kUnavailable, .what = "", .advice = ""};
  error.what = fmt::format("no answer from {}: {}", target.url,
                           *words == '\0' ? curl_easy_strerror(code) : words);
  switch (code) {
    case CURLE_OPERATION_TIMEDOUT:
      error.code = ErrorCode::kTimeout;
      error.advice = "check the route to the host, its firewall and its load";
      break;
    case CURLE_PEER_FAILED_VERIFICATION:
      error.code = ErrorCode::kUnauthorized;
      error.advice = fingerprint ? "the certificate has another fingerprint: see whether the host "
                                   "was given a new one, or whether this is another host"
                                 : "name the authority that signed the host's certificate, or its "
                                   "fingerprint, and reach it under a name the certificate has";
      break;
    case CURLE_SSL_CACERT_BADFILE:
    case CURLE_SSL_CERTPROBLEM:
      error.code = ErrorCode::kInvalidArgument;
      error.advice = "check the paths of certificate files";
      break;
    case CURLE_COULDNT_RESOLVE_HOST:
      error.advice = "check the host's name";
      break;
    default:
      error.advice = "check that WinRM runs on the host (winrm quickconfig) and its port is open";
  }
  return error;
}

HttpPipe::HttpPipe(std::unique_ptr<Impl> impl) : impl_(std::move(impl)) {}

HttpPipe::~HttpPipe() {
  curl_easy_cleanup(impl_->curl);
}

Result<std::unique_ptr<HttpPipe>> HttpPipe::open(HttpTarget target) {
  if (!target.url.starts_with("https://") && !target.url.starts_with("http://")) {
    return fail(ErrorCode::kInvalidArgument, "'" + target.url + "' is no URL of a host",
                "write https://HOST:5986/wsman");
  }
  auto impl = std::make_unique<Impl>();
  FARSIDE_ASSIGN(impl->fingerprint, parse_fingerprint(target.fingerprint));
  impl->target = std::move(target);
  impl->curl = curl_easy_init();
  return std::unique_ptr<HttpPipe>(new HttpPipe(std::move(impl)));
}

void HttpPipe::hang_up() {
  curl_easy_cleanup(impl_->curl);
  impl_->curl = curl_easy_init();
  impl_->local_port = 0;
}

Result<HttpReply> HttpPipe::post(const HttpRequest& request, Micros within) {
  Impl& impl = *impl_;
  impl.reply = {};
  impl.same_connection = request.same_connection;
  impl.is_too_large = false;
  impl.is_other_connection = false;
  impl.times_sent = 0;

  std::array<char, CURL_ERROR_SIZE> words{};
  const long within_ms = std::max<long>(1, static_cast<long>(within.count() / 1000));
  const long connect_ms = static_cast<long>(impl.target.connect_within.count() / 1000);
  curl_slist* headers = curl_slist_append(nullptr, "Expect:");
  if (!request.authorization.empty()) {
    headers = curl_slist_append(headers, ("Authorization: " + request.authorization).c_str());
  }
  headers = curl_slist_append(headers, ("Content-Type: " + request.content_type).c_str());

  CURL* curl = impl.curl;
  curl_easy_reset(curl);
  curl_easy_setopt(curl, CURLOPT_URL, impl.target.url.c_str());
  curl_easy_setopt(curl, CURLOPT_PROTOCOLS_STR, "http,https");
  curl_easy_setopt(curl, CURLOPT_NOPROXY, "*");
  curl_easy_setopt(curl, CURLOPT_NOSIGNAL, 1L);
  curl_easy_setopt(curl, CURLOPT_HTTP_VERSION, static_cast<long>(CURL_HTTP_VERSION_1_1));
  curl_easy_setopt(curl, CURLOPT_MAXCONNECTS, 1L);
  curl_easy_setopt(curl, CURLOPT_TCP_NODELAY, 1L);
  curl_easy_setopt(curl, CURLOPT_CONNECTTIMEOUT_MS, std::min(connect_ms, within_ms));
  curl_easy_setopt(curl, CURLOPT_TIMEOUT_MS, within_ms);
  curl_easy_setopt(curl, CURLOPT_CERTINFO, 1L);
  curl_easy_setopt(curl, CURLOPT_ERRORBUFFER, words.data());
  curl_easy_setopt(curl, CURLOPT_USERAGENT, "Farside");
  curl_easy_setopt(curl, CURLOPT_HTTPHEADER, headers);
  curl_easy_setopt(curl, CURLOPT_POST, 1L);
  curl_easy_setopt(curl, CURLOPT_POSTFIELDS, request.body.data());
  curl_easy_setopt(curl, CURLOPT_POSTFIELDSIZE, static_cast<long>(request.body.size()));
  curl_easy_setopt(curl, CURLOPT_WRITEFUNCTION, Impl::take_body);
  curl_easy_setopt(curl, CURLOPT_WRITEDATA, impl_.get());
  curl_easy_setopt(curl, CURLOPT_HEADERFUNCTION, Impl::take_header);
  curl_easy_setopt(curl, CURLOPT_HEADERDATA, impl_.get());
  curl_easy_setopt(curl, CURLOPT_PREREQFUNCTION, Impl::before_sending);
  curl_easy_setopt(curl, CURLOPT_PREREQDATA, impl_.get());
  if (!impl.target.ca_file.empty()) {
    curl_easy_setopt(curl, CURLOPT_CAINFO, impl.target.ca_file.c_str());
  }
  if (impl.fingerprint) {
    curl_easy_setopt(curl, CURLOPT_SSL_VERIFYHOST, 0L);
    curl_easy_setopt(curl, CURLOPT_SSL_CTX_FUNCTION, install_check);
    curl_easy_setopt(curl, CURLOPT_SSL_CTX_DATA, &*impl.fingerprint);
  }
  if (!impl.target.certificate_file.empty()) {
    curl_easy_setopt(curl, CURLOPT_SSLCERT, impl.target.certificate_file.c_str());
    curl_easy_setopt(curl, CURLOPT_SSLKEY, impl.target.key_file.c_str());
  }
  const CURLcode code = curl_easy_perform(curl);
  curl_easy_getinfo(curl, CURLINFO_RESPONSE_CODE, &impl.reply.status);
  impl.reply.certificate = impl.certificate();
  curl_slist_free_all(headers);

  if (code == CURLE_OK) return std::move(impl.reply);
  hang_up();
  if (impl.is_other_connection) return HttpReply{};
  if (impl.is_too_large) {
    return fail(ErrorCode::kTooLarge, fmt::format("the answer of {} exceeds {} bytes",
                                                  impl.target.url, impl.target.reply_bytes_max));
  }
  return fail(impl.error_of(code, words.data()));
}

}  // namespace farside::wsman
