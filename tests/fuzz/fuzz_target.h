// A fuzz target is one function over untrusted bytes.  Under libFuzzer it is driven by the fuzzer,
// in every other build by replay.cpp over the corpus, as an ordinary test.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string_view>

#include "common/base/assert.h"

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size);

namespace farside::fuzz {

inline std::string_view bytes(const std::uint8_t* data, std::size_t size) {
  return {reinterpret_cast<const char*>(data), size};
}

}  // namespace farside::fuzz
