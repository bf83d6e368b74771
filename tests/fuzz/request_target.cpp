// A request's path and query, as any client may send them: "path?query".
#include "services/vault/front_door/router.h"
#include "tests/fuzz/fuzz_target.h"

int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  using namespace farside::front_door;
  static const Router<int> kRouter(
      {{"GET", "/subscriptions/{s}/vaults/{v}/replicationJobs/{jobName}", "get", 1},
       {"POST", "/subscriptions/{s}/vaults/{v}/replicationJobs/export", "export", 2},
       {"GET", "/subscriptions", "list", 3}});
  const std::string_view target = farside::fuzz::bytes(data, size);
  const std::size_t question = std::min(target.find('?'), target.size());
  const auto match = kRouter.match("GET", target.substr(0, question));
  if (match) {
    for (const auto& [name, value] : match->values) {
      FARSIDE_ASSERT(percent_decoded(percent_encoded(value)) == value);
    }
  } else {
    FARSIDE_ASSERT(match.error().status >= 400);
  }
  const auto query = Query::parse(target.substr(std::min(question + 1, target.size())));
  if (query) {
    if (const auto version = required_api_version(*query); !version) {
      FARSIDE_ASSERT(version.error().status == 400);
    }
  }
  return 0;
}
