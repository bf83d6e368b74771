// Long-running operations: 202 with the two links that ARM clients poll.  The id of an operation
// is the id of its job.
#pragma once

#include <string>

#include "services/vault/front_door/http.h"

namespace farside::front_door {

struct AcceptedOperation {
  std::string host;        // HttpRequest::host
  std::string vault_path;  // "/Subscriptions/s/…/vaults/v"
  std::string resource;    // Path of the resource acted on, without "/testFailover" and the like.
  std::string job;
  std::string api_version;
};

// 202, empty body, Azure-AsyncOperation, Location, Retry-After: 1 and x-ms-request-id.
HttpResponse accepted(const AcceptedOperation& operation);

}  // namespace farside::front_door
