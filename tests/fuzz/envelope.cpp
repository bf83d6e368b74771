// A control frame decodes to what encodes to the same message again, or is refused.
#include "common/schema/envelope.plain.h"

#include "tests/fuzz/fuzz_target.h"

int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  using farside::msg::Envelope;
  const auto envelope = farside::msg::decode<Envelope>(farside::fuzz::bytes(data, size));
  if (!envelope) {
    FARSIDE_ASSERT(!envelope.error().what.empty());
    return 0;
  }
  const std::string bytes = encode(*envelope);
  const auto again = farside::msg::decode<Envelope>(bytes);
  FARSIDE_ASSERT(again.has_value());
  // Compared as bytes: a number that is none (NaN) does not equal itself.
  FARSIDE_ASSERT(encode(*again) == bytes);
  FARSIDE_ASSERT(!to_text(*again).empty());
  return 0;
}
