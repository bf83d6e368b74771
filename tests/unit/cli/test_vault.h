// A small vault over real HTTPS: canned resources, jobs that advance each time somebody looks.
//
// Thread: requests are served on the server's threads; tests read what was asked when it is quiet.
#pragma once

#include <deque>
#include <filesystem>
#include <functional>
#include <map>
#include <memory>
#include <mutex>
#include <string>
#include <vector>

#include "cli/json.h"
#include "services/vault/front_door/router.h"
#include "services/vault/front_door/server.h"

namespace farside::cli {

struct Asked {
  std::string method;
  std::string path;
  std::string query;
  Json body;
};

class TestVault final {
 public:
  TestVault();
  ~TestVault();
  TestVault(const TestVault&) = delete;
  TestVault& operator=(const TestVault&) = delete;

  // Lists by path below the vault, decoded and in lower case: "replicationfabrics".
  std::map<std::string, std::vector<Json>> lists;
  // Single resources, by the same key.
  std::map<std::string, Json> resources;
  // The pictures of a job in order; the last one stays.
  std::map<std::string, std::deque<Json>> jobs;
  // What PUT, POST and DELETE start, by the last segment of their path ("" = any); a request that
  // starts no job is answered 200 with its own body.
  std::map<std::string, std::string> starts;
  // Asked before anything else: an answer of its own for a request, if it wants to give one.
  std::function<std::optional<front_door::HttpResponse>(const Asked&)> before;

  std::vector<Asked> asked() const;
  Asked last_change() const;  // The last request that was no GET.

  void stop();
  void start();  // Again on the same port.
  std::string url() const;
  std::string ca_file() const { return folder_ + "/tls/ca.pem"; }
  std::string token_file() const { return folder_ + "/token"; }
  const std::string& folder() const { return folder_; }

  static std::string path(const std::string& below);  // "/Subscriptions/…/vaults/farside" + below

 private:
  front_door::HttpResponse answer(const front_door::HttpRequest& request);
  front_door::HttpResponse answer_get(const std::string& key);

  std::string folder_;
  SystemClock clock_;
  std::uint16_t port_ = 0;
  mutable std::mutex mutex_;  // Guards everything above while the server runs.
  std::vector<Asked> asked_;
  std::unique_ptr<front_door::Server> server_;
};

}  // namespace farside::cli
