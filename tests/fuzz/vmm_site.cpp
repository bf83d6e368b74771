// Whatever scripts on a VMM server say, it is a site or refused with a reason.  The bytes are the
// six answers, one after the other, with a zero byte between.
#include "services/provider/vmm/scripts.h"
#include "services/provider/vmm/site.h"
#include "tests/fuzz/fuzz_target.h"

int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  using namespace farside::provider::vmm;  // The names of the target.
  std::string_view bytes = farside::fuzz::bytes(data, size);
  Answers answers;
  for (const Script& script : scripts()) {
    const std::size_t end = std::min(bytes.find('\0'), bytes.size());
    answers[script.name] = bytes.substr(0, end);
    bytes.remove_prefix(std::min(end + 1, bytes.size()));
  }
  const auto site = site_from_answers(
      answers, {.host_networks = {{"Servers", "switch"}}, .storage_paths = {{"Fast", "D:\\r"}}});
  FARSIDE_ASSERT(site || !site.error().what.empty());
  return 0;
}
