// Follows a job until it ends or waits for an operator, showing its tasks as they go.
#pragma once

#include <string>

#include "cli/json.h"
#include "cli/paths.h"
#include "cli/screen.h"
#include "cli/vault_client.h"

namespace farside::cli {

bool has_ended(const Json& job);
bool has_succeeded(const Json& job);
bool waits_for_operator(const Json& job);  // It does not go on by itself.

// The job's tasks, errors and progress as lines of text.
std::string job_lines(const Json& job);

// Returns the job as it ended, whether well or not, or as it waits for an operator.  A vault that
// does not answer meanwhile is asked again for two minutes: it may be restarting, and the job goes
// on without it. With `quiet` nothing is shown.
Result<Json> wait_for_job(VaultClient& vault, const Paths& paths, const std::string& job,
                          Screen& screen, const Clock& clock, bool quiet);

// Why a job that did not succeed ended as it did, or waits for an operator.
Error error_of_job(const Json& job);

// What to do next about a job, whatever it is at; never empty.
std::string next_step(const Json& job);

}  // namespace farside::cli
