// The vault over HTTPS, the command's only channel: requests, lists and long-running operations.
//
// Owns: one connection, kept open.  Thread: one.
// Errors: kUnavailable (no answer at all: name, route, TLS, time-out), kUnauthorized, kForbidden,
// kNotFound, kInvalidArgument, kConflict and the like from the vault's own answer, with its code,
// words and advice.
#pragma once

#include <chrono>
#include <functional>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "cli/json.h"
#include "cli/settings.h"
#include "common/base/result.h"

namespace farside::cli {

using QueryValues = std::vector<std::pair<std::string, std::string>>;

struct Outcome {
  int status = 200;
  Json body = {};
  std::string job = {};  // The job that was started; empty if all is done already.
};

class VaultClient final {
 public:
  VaultClient(const Settings& settings, std::string token);
  ~VaultClient();
  VaultClient(const VaultClient&) = delete;
  VaultClient& operator=(const VaultClient&) = delete;

  // For whoever cannot wait as long as a change may take: a request is given up after `within`, and
  // `meanwhile` is called about once a second while one is under way.
  void be_impatient(std::chrono::milliseconds within, std::function<void()> meanwhile);

  Result<Json> get(const std::string& path, const QueryValues& query = {});
  Result<std::vector<Json>> list(const std::string& path,
                                 const QueryValues& query = {});  // All pages.
  Result<Outcome> send(const std::string& method, const std::string& path,
                       const Json& body = nullptr);

 private:
  struct Impl;
  std::unique_ptr<Impl> impl_;
};

}  // namespace farside::cli
