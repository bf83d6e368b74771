// A configuration file, whatever is in it, is read or refused with a reason.
#include "common/base/config.h"

#include "tests/fuzz/fuzz_target.h"

int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  using farside::Config;
  auto config = Config::from_text(farside::fuzz::bytes(data, size), "fuzz.toml");
  if (!config) {
    FARSIDE_ASSERT(!config.error().what.empty());
    return 0;
  }
  const std::int64_t port = config->integer("listen.port", 8081, 1, 65535);
  FARSIDE_ASSERT(port >= 1 && port <= 65535);
  config->text("name", "");
  config->required_text("site");
  config->boolean("compression", true);
  config->texts("hosts");
  for (Config& table : config->tables("cloud")) {
    table.text("name", "");
    if (const auto finished = table.finish(); !finished) {
      FARSIDE_ASSERT(!finished.error().what.empty());
    }
  }
  if (const auto finished = config->finish(); !finished) {
    FARSIDE_ASSERT(!finished.error().what.empty());
  }
  return 0;
}
