// A registration key comes by mail or memory stick: it is a key or it is refused with a reason.
#include "common/identity/key_file.h"

#include <algorithm>

#include "tests/fuzz/fuzz_target.h"

int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  const auto key = farside::identity::key_from_toml(farside::fuzz::bytes(data, size), "fuzz.key");
  if (!key) {
    FARSIDE_ASSERT(!key.error().what.empty());
    return 0;
  }
  // Names of ours have no such characters; a forged file may, and need not survive being written.
  for (const std::string* value :
       {&key->name, &key->site, &key->issuer, &key->endpoint, &key->server_key, &key->secret,
        &key->public_key, &key->secret_key}) {
    const bool plain = std::ranges::none_of(
        *value, [](unsigned char c) { return c == '\'' || c < 0x20 || c == 0x7f; });
    if (!plain) return 0;
  }
  const auto again =
      farside::identity::key_from_toml(farside::identity::to_toml(*key), "again.key");
  FARSIDE_ASSERT(again.has_value());
  FARSIDE_ASSERT(*again == *key);
  return 0;
}
