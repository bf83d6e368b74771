// Definitions of VMs as they travel and are kept: packed, and named by the digest of their content.
//
// Thread: any.
#pragma once

#include <cstddef>
#include <string>
#include <string_view>

#include "common/base/result.h"
#include "common/schema/types.plain.h"

namespace farside::replica {

inline constexpr std::size_t kDefinitionBytesMax = std::size_t{4} << 20U;  // Unpacked.

struct PackedDefinition {
  std::string digest;  // SHA-256 of the encoded definition; empty: the VM has none to tell.
  std::string packed;  // zstd.
};

// Of what pack_definition() makes, without packing: that is for a target that lacks it.  Errors:
// kTooLarge.
Result<std::string> definition_digest(const msg::VmDefinition& definition);

// Errors: kTooLarge.
Result<PackedDefinition> pack_definition(const msg::VmDefinition& definition);

// Errors: kCorrupt (not what `digest` names), kUnsupported (it is, in an unknown form), kTooLarge.
Result<msg::VmDefinition> unpack_definition(const std::string& digest, std::string_view packed);

// 64 lower-case hexadecimal digits: fit to name a file.
bool is_definition_digest(std::string_view digest);

}  // namespace farside::replica
