// A sealed message, whatever is in it, is taken apart within its bounds or refused.
#include "common/wsman/sealed_body.h"

#include "common/wsman/security_context.h"
#include "tests/fuzz/fuzz_target.h"

int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  using namespace farside::wsman;  // The names of the target.
  const std::string_view body = farside::fuzz::bytes(data, size);
  const auto view = read_sealed_body(body);
  if (!view) {
    FARSIDE_ASSERT(!view.error().what.empty());
  } else {
    FARSIDE_ASSERT(view->header.size() + view->text.size() <= body.size());
    const Sealed sealed{.header = std::string(view->header), .text = std::string(view->text)};
    const std::string written = write_sealed_body(sealed, view->plain_bytes);
    const auto again = read_sealed_body(written);
    FARSIDE_ASSERT(again && again->header == view->header && again->text == view->text);
  }
  if (size < 4096) (void)from_base64(body);
  return 0;
}
