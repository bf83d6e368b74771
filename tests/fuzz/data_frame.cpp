// A frame of the data plane decodes to what encodes to the same frame again, or is refused.
#include "common/schema/data.plain.h"
#include "tests/fuzz/fuzz_target.h"

int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  using farside::msg::DataFrame;
  const auto frame = farside::msg::decode<DataFrame>(farside::fuzz::bytes(data, size));
  if (!frame) {
    FARSIDE_ASSERT(!frame.error().what.empty());
    return 0;
  }
  const std::string bytes = encode(*frame);
  const auto again = farside::msg::decode<DataFrame>(bytes);
  FARSIDE_ASSERT(again.has_value());
  FARSIDE_ASSERT(encode(*again) == bytes);
  return 0;
}
