#include "tests/unit/cli/test_vault.h"

#include <fmt/format.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <fstream>

#include "common/base/assert.h"
#include "services/vault/front_door/arm_errors.h"
#include "services/vault/front_door/lro.h"

namespace farside::cli {
namespace {

using front_door::arm_error;
using front_door::HttpRequest;
using front_door::HttpResponse;

constexpr std::string_view kVault =
    "/subscriptions/farside/resourcegroups/farside/providers/microsoft.recoveryservices/vaults/"
    "farside";

std::string lower(std::string text) {
  std::ranges::transform(text, text.begin(), [](unsigned char c) { return std::tolower(c); });
  return text;
}

HttpResponse json(const Json& body) {
  return {.status = 200, .headers = {}, .body = body.dump()};
}

}  // namespace

TestVault::TestVault() {
  std::string pattern = (std::filesystem::temp_directory_path() / "cli-XXXXXX").string();
  folder_ = ::mkdtemp(pattern.data());
  std::ofstream(token_file()) << "secret\n";
  std::filesystem::permissions(
      token_file(), std::filesystem::perms::owner_read | std::filesystem::perms::owner_write);
  start();
}

TestVault::~TestVault() {
  server_.reset();
  std::filesystem::remove_all(folder_);
}

void TestVault::stop() {
  server_.reset();
}

void TestVault::start() {
  auto server = front_door::Server::start(
      {.address = "127.0.0.1", .port = port_, .certificate_folder = folder_ + "/tls"}, clock_,
      [](std::string_view) { return true; },  // answer() looks at the token.
      [this](HttpRequest request, front_door::Responder responder) {
        responder.send(answer(request));
      });
  if (!server) ADD_FAILURE() << to_text(server.error());
  FARSIDE_ASSERT(server.has_value());
  server_ = std::move(*server);
  port_ = server_->port();
}

std::string TestVault::url() const {
  return fmt::format("https://127.0.0.1:{}", port_);
}

std::string TestVault::path(const std::string& below) {
  return "/Subscriptions/farside/resourceGroups/farside/providers/Microsoft.RecoveryServices/"
         "vaults/farside" +
         below;
}

std::vector<Asked> TestVault::asked() const {
  const std::lock_guard lock(mutex_);
  return asked_;
}

Asked TestVault::last_change() const {
  const std::lock_guard lock(mutex_);
  for (auto one = asked_.rbegin(); one != asked_.rend(); ++one) {
    if (one->method != "GET") return *one;
  }
  return {};
}

HttpResponse TestVault::answer_get(const std::string& key) {
  if (key.starts_with("replicationjobs/")) {
    const auto job = jobs.find(key.substr(16));
    if (job != jobs.end()) {
      const Json picture = job->second.front();
      if (job->second.size() > 1) job->second.pop_front();
      return json(picture);
    }
  }
  if (const auto found = resources.find(key); found != resources.end()) return json(found->second);
  if (const auto found = lists.find(key); found != lists.end()) {
    return json({{"value", found->second}, {"nextLink", nullptr}});
  }
  return arm_error(Error{
      .code = ErrorCode::kNotFound, .what = "no '" + key + "' here", .advice = "look elsewhere"});
}

HttpResponse TestVault::answer(const HttpRequest& request) {
  const std::lock_guard lock(mutex_);
  const Asked asked{.method = request.method,
                    .path = front_door::percent_decoded(request.path).value(),
                    .query = request.query,
                    .body = request.body.empty() ? Json() : Json::parse(request.body)};
  asked_.push_back(asked);
  if (request.authorization != "Bearer secret") {
    return arm_error(Error{.code = ErrorCode::kUnauthorized, .what = "who are you?", .advice = ""});
  }
  const auto query = front_door::Query::parse(request.query).value();
  if (auto version = front_door::required_api_version(query); !version) return version.error();
  if (before) {
    if (auto own = before(asked)) return *own;
  }
  const std::string whole = lower(asked.path);
  if (!whole.starts_with(kVault)) return front_door::no_such_path(asked.path);
  const std::string key = whole.size() > kVault.size() ? whole.substr(kVault.size() + 1) : "";
  if (request.method == "GET") return answer_get(key);
  const std::string action = asked.path.substr(asked.path.rfind('/') + 1);
  for (const std::string& wanted : {action, std::string()}) {
    const auto job = starts.find(wanted);
    if (job == starts.end()) continue;
    return front_door::accepted({.host = request.host,
                                 .vault_path = path(""),
                                 .resource = request.path,
                                 .job = job->second,
                                 .api_version = "2023-06-01"});
  }
  return json(asked.body.is_null() ? Json::object() : asked.body);
}

}  // namespace farside::cli
