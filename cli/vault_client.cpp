#include "cli/vault_client.h"

#include <curl/curl.h>
#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <map>

#include "cli/format.h"
#include "cli/paths.h"
#include "common/base/advice.h"
#include "common/base/random.h"

namespace farside::cli {
namespace {

constexpr long kConnectWithinMs = 10'000;
constexpr long kAnswerWithinMs = 75'000;  // The vault itself gives up after 60 s.
constexpr int kPagesMax = 10'000;

struct Reply {
  long status = 0;
  std::string body;
  std::map<std::string, std::string> headers;  // Names in lower case.
};

std::size_t take_body(char* bytes, std::size_t, std::size_t count, void* out) {
  static_cast<Reply*>(out)->body.append(bytes, count);
  return count;
}

std::size_t take_header(char* bytes, std::size_t, std::size_t count, void* out) {
  const std::string line(bytes, count);
  const std::size_t colon = line.find(':');
  if (colon == std::string::npos) return count;
  std::string name = line.substr(0, colon);
  std::ranges::transform(name, name.begin(),
                         [](unsigned char c) { return static_cast<char>(std::tolower(c)); });
  std::string value = line.substr(colon + 1);
  value.erase(0, value.find_first_not_of(' '));
  value.erase(value.find_last_not_of("\r\n ") + 1);
  static_cast<Reply*>(out)->headers[name] = value;
  return count;
}

ErrorCode code_of(long status) {
  switch (status) {
    case 400:
      return ErrorCode::kInvalidArgument;
    case 401:
      return ErrorCode::kUnauthorized;
    case 403:
      return ErrorCode::kForbidden;
    case 404:
      return ErrorCode::kNotFound;
    case 409:
      return ErrorCode::kConflict;
    case 413:
      return ErrorCode::kTooLarge;
    case 504:
      return ErrorCode::kTimeout;
    default:
      return ErrorCode::kPlatform;
  }
}

Error error_of(const Reply& reply, const std::string& url) {
  const Json body = Json::parse(reply.body, nullptr, false);
  Error error{.code = code_of(reply.status), .what = text(body, "error.message"), .advice = ""};
  const std::string code = text(body, "error.code");
  if (error.what.empty()) {
    error.what = fmt::format("{} answered {} and no reason", url, reply.status);
    error.advice = "check that the URL is that of a Farside vault";
    return error;
  }
  if (!code.empty()) error.what += " (" + code + ")";
  for (const Json& detail : items(body, "error.details")) {
    if (text(detail, "code") == "RecommendedAction") error.advice = text(detail, "message");
  }
  const bool says_little =
      error.advice.empty() || error.advice == default_advice(ErrorCode::kUnauthorized);
  if (says_little && error.code == ErrorCode::kUnauthorized) {
    error.advice = "check that --token-file holds the token of this vault";
  }
  return error;
}

std::string advice_for(CURLcode code, const Settings& settings) {
  switch (code) {
    case CURLE_PEER_FAILED_VERIFICATION:
      return "give the vault's own ca.pem with --ca, and reach it under a name its certificate has";
    case CURLE_SSL_CACERT_BADFILE:
      return "check the path given with --ca: " + settings.ca_file;
    case CURLE_COULDNT_RESOLVE_HOST:
      return "check the host in --vault-url";
    case CURLE_OPERATION_TIMEDOUT:
      return "check the route to the vault and its log";
    default:
      return "check that the vault runs, and the host and port in --vault-url";
  }
}

int on_progress(void* meanwhile, curl_off_t, curl_off_t, curl_off_t, curl_off_t) {
  const auto& call = *static_cast<const std::function<void()>*>(meanwhile);
  if (call) call();
  return 0;
}

// The job behind a 202: the last segment of one of its two links.
std::string job_of(const Reply& reply) {
  for (const char* name : {"location", "azure-asyncoperation"}) {
    const auto header = reply.headers.find(name);
    if (header == reply.headers.end()) continue;
    return last_segment(header->second.substr(0, header->second.find('?')));
  }
  return {};
}

}  // namespace

struct VaultClient::Impl {
  Settings settings;
  std::string token;
  CURL* curl = nullptr;
  long within_ms = kAnswerWithinMs;
  std::function<void()> meanwhile;

  Result<Reply> request(const std::string& method, const std::string& url, const std::string& body);
  std::string url_of(const std::string& path, const QueryValues& query) const;
};

std::string VaultClient::Impl::url_of(const std::string& path, const QueryValues& query) const {
  std::string url = settings.url + path + "?api-version=" + std::string(kApiVersion);
  for (const auto& [name, value] : query) url += "&" + encoded(name) + "=" + encoded(value);
  return url;
}

Result<Reply> VaultClient::Impl::request(const std::string& method, const std::string& url,
                                         const std::string& body) {
  Reply reply;
  std::array<char, CURL_ERROR_SIZE> words{};
  curl_slist* headers = nullptr;
  for (const std::string& header :
       {"Authorization: Bearer " + token, std::string("Accept: application/json"),
        std::string("Content-Type: application/json"),
        "x-ms-client-request-id: " + SystemRandom().uuid()}) {
    headers = curl_slist_append(headers, header.c_str());
  }
  curl_easy_reset(curl);
  curl_easy_setopt(curl, CURLOPT_URL, url.c_str());
  curl_easy_setopt(curl, CURLOPT_PROTOCOLS_STR, "https");
  curl_easy_setopt(curl, CURLOPT_CUSTOMREQUEST, method.c_str());
  curl_easy_setopt(curl, CURLOPT_HTTPHEADER, headers);
  curl_easy_setopt(curl, CURLOPT_NOSIGNAL, 1L);
  curl_easy_setopt(curl, CURLOPT_CONNECTTIMEOUT_MS, std::min(kConnectWithinMs, within_ms));
  curl_easy_setopt(curl, CURLOPT_TIMEOUT_MS, within_ms);
  curl_easy_setopt(curl, CURLOPT_NOPROGRESS, 0L);
  curl_easy_setopt(curl, CURLOPT_XFERINFOFUNCTION, on_progress);
  curl_easy_setopt(curl, CURLOPT_XFERINFODATA, &meanwhile);
  curl_easy_setopt(curl, CURLOPT_ERRORBUFFER, words.data());
  curl_easy_setopt(curl, CURLOPT_WRITEFUNCTION, take_body);
  curl_easy_setopt(curl, CURLOPT_WRITEDATA, &reply);
  curl_easy_setopt(curl, CURLOPT_HEADERFUNCTION, take_header);
  curl_easy_setopt(curl, CURLOPT_HEADERDATA, &reply);
  if (!settings.ca_file.empty()) {
    curl_easy_setopt(curl, CURLOPT_CAINFO, settings.ca_file.c_str());
  }
  if (method != "GET") {
    curl_easy_setopt(curl, CURLOPT_POSTFIELDS, body.data());
    curl_easy_setopt(curl, CURLOPT_POSTFIELDSIZE, static_cast<long>(body.size()));
  }
  const CURLcode code = curl_easy_perform(curl);
  curl_easy_getinfo(curl, CURLINFO_RESPONSE_CODE, &reply.status);
  curl_slist_free_all(headers);
  if (code != CURLE_OK) {
    return fail(ErrorCode::kUnavailable,
                fmt::format("no answer from {}: {}", settings.url,
                            words[0] == '\0' ? curl_easy_strerror(code) : words.data()),
                advice_for(code, settings));
  }
  if (reply.status >= 400) return fail(error_of(reply, settings.url));
  return reply;
}

VaultClient::VaultClient(const Settings& settings, std::string token)
    : impl_(std::make_unique<Impl>()) {
  impl_->settings = settings;
  impl_->token = std::move(token);
  impl_->curl = curl_easy_init();
}

VaultClient::~VaultClient() {
  curl_easy_cleanup(impl_->curl);
}

void VaultClient::be_impatient(std::chrono::milliseconds within, std::function<void()> meanwhile) {
  impl_->within_ms = static_cast<long>(within.count());
  impl_->meanwhile = std::move(meanwhile);
}

Result<Json> VaultClient::get(const std::string& path, const QueryValues& query) {
  FARSIDE_ASSIGN(const Reply reply, impl_->request("GET", impl_->url_of(path, query), ""));
  Json body = Json::parse(reply.body, nullptr, false);
  if (body.is_discarded()) {
    return fail(ErrorCode::kPlatform, impl_->settings.url + " did not answer in JSON",
                "check that the URL is that of a Farside vault");
  }
  return body;
}

Result<std::vector<Json>> VaultClient::list(const std::string& path, const QueryValues& query) {
  std::vector<Json> all;
  FARSIDE_ASSIGN(Json page, get(path, query));
  for (int pages = 0; pages < kPagesMax; ++pages) {
    for (const Json& one : items(page, "value")) all.push_back(one);
    std::string next = text(page, "nextLink");
    if (next.empty()) break;
    if (next.starts_with('/')) next = impl_->settings.url + next;
    if (!next.starts_with(impl_->settings.url + "/")) break;  // The token is for this vault only.
    FARSIDE_ASSIGN(const Reply reply, impl_->request("GET", next, ""));
    page = Json::parse(reply.body, nullptr, false);
  }
  return all;
}

Result<Outcome> VaultClient::send(const std::string& method, const std::string& path,
                                  const Json& body) {
  FARSIDE_ASSIGN(const Reply reply, impl_->request(method, impl_->url_of(path, {}),
                                                   body.is_null() ? "" : body.dump()));
  Outcome outcome{.status = static_cast<int>(reply.status)};
  if (!reply.body.empty()) outcome.body = Json::parse(reply.body, nullptr, false);
  if (outcome.body.is_discarded()) outcome.body = nullptr;
  if (reply.status == 202) outcome.job = job_of(reply);
  return outcome;
}

}  // namespace farside::cli
