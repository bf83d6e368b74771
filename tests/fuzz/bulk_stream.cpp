// What comes in on the port for bulk is taken apart within its bounds, or refused.
#include "services/agent/data_plane/bulk_dialogue.h"
#include "tests/fuzz/fuzz_target.h"

int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  using namespace farside::data;  // The names of the target.
  const BulkDialogue::Claim claim = [](std::uint64_t session) -> std::optional<std::string> {
    if (session % 2 == 0) return std::nullopt;
    return "key";
  };
  BulkDialogue dialogue(claim);
  std::string_view rest = farside::fuzz::bytes(data, size);
  while (true) {
    const std::size_t needs = dialogue.needs();
    FARSIDE_ASSERT(needs > 0 && needs <= kBulkPayloadBytesMax);
    if (rest.size() < needs) return 0;
    farside::bus::Bytes bytes(needs);
    rest.copy(bytes.span().data(), needs);
    rest.remove_prefix(needs);
    const auto taken = dialogue.take(std::move(bytes));
    if (!taken) return 0;
    FARSIDE_ASSERT(!taken->message || taken->message->size() == 3);
  }
}
