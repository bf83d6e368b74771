#include "services/vault/front_door/lro.h"

#include <fmt/format.h>

#include "services/vault/front_door/uri.h"

namespace farside::front_door {

HttpResponse accepted(const AcceptedOperation& operation) {
  const std::string job = percent_encoded(operation.job);
  const std::string version = "?api-version=" + percent_encoded(operation.api_version);
  HttpResponse response{.status = 202};
  response.headers = {
      {"Azure-AsyncOperation", fmt::format("https://{}{}/replicationOperationStatus/{}{}",
                                           operation.host, operation.vault_path, job, version)},
      {"Location", fmt::format("https://{}{}/operationresults/{}{}", operation.host,
                               operation.resource, job, version)},
      {"Retry-After", "1"},
      {"x-ms-request-id", fmt::format("{}/replicationJobs/{}", operation.vault_path, job)}};
  return response;
}

}  // namespace farside::front_door
