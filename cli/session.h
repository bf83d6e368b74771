// What every command works with, and the ways in which it answers.
#pragma once

#include <functional>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "cli/job_watch.h"
#include "cli/paths.h"
#include "cli/screen.h"
#include "cli/settings.h"
#include "cli/vault_client.h"

namespace farside::cli {

struct Session {
  Settings settings;
  VaultClient& vault;
  Paths paths;
  Screen& screen;
  const Clock& clock;
  bool wait = true;             // For the job a command starts.
  bool needs_operator = false;  // The job that was waited for does.

  // `value` for programs, `words` for people.
  void show(const Json& value, const std::string& words);
  void show(const std::vector<Json>& values, const std::string& words);

  // Ends a command that changes something: follows its job if there is one, then says `done`.
  // Errors: the request's, or why the job did not succeed; `needs_operator` is set if it has not
  // ended, and does not go on by itself.
  Status finish(const Result<Outcome>& outcome, const std::string& done);
};

// "site/cloud" -> {"site", "cloud"}.  Errors: kInvalidArgument; `what` names the option.
Result<std::pair<std::string, std::string>> split_place(const std::string& text,
                                                        const std::string& what);

// The protected item an operator means by its name, its VM's name, "site/cloud/name" or its id.
// Errors: kNotFound, kInvalidArgument (several fit; the text lists them).
Result<Json> find_item(Session& session, const std::string& name);

// "siteA/gold -> siteB/silver", as things stand now.
std::string route_of(const Json& item);

}  // namespace farside::cli
