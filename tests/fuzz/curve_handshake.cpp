// What a stranger sends to a CURVE port is refused or asked for more, within its bounds.
#include "common/bus/bytes.h"
#include "common/bus/curve_server.h"
#include "tests/fuzz/fuzz_target.h"

int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  using namespace farside::bus;  // The names of the target.
  static const CurveKeys keys = generate_keys().value();
  static const CurveServerOptions options{.public_key = key_bytes(keys.public_key).value(),
                                          .secret_key = key_bytes(keys.secret_key).value(),
                                          .part_bytes_max = 4096,
                                          .parts_max = 2,
                                          .admits = [](const std::string&) { return false; }};
  std::string_view rest = farside::fuzz::bytes(data, size);
  CurveServer server(options);
  while (true) {
    const std::size_t needs = server.needs();
    FARSIDE_ASSERT(needs > 0 && needs <= 1024);
    if (rest.size() < needs) return 0;
    Bytes bytes(needs);
    rest.copy(bytes.span().data(), needs);
    rest.remove_prefix(needs);
    const auto taken = server.take(std::move(bytes));
    FARSIDE_ASSERT(server.key().empty());
    if (!taken) return 0;
    FARSIDE_ASSERT(!taken->message);
  }
}
