#include "services/agent/replica_store/definition.h"

#include <zstd.h>

#include "common/base/sha256.h"

namespace farside::replica {
namespace {

constexpr int kLevel = 3;

Result<std::string> bytes_of(const msg::VmDefinition& definition) {
  std::string bytes = encode(definition);
  if (bytes.size() <= kDefinitionBytesMax) return bytes;
  return fail(ErrorCode::kTooLarge, "the definition of VM '" + definition.shape.name + "' has " +
                                        std::to_string(bytes.size()) + " bytes, more than " +
                                        std::to_string(kDefinitionBytesMax));
}

}  // namespace

bool is_definition_digest(std::string_view digest) {
  return digest.size() == 64 && digest.find_first_not_of("0123456789abcdef") == digest.npos;
}

Result<std::string> definition_digest(const msg::VmDefinition& definition) {
  if (definition == msg::VmDefinition{}) return std::string();
  FARSIDE_ASSIGN(const std::string bytes, bytes_of(definition));
  return sha256_hex(bytes);
}

Result<PackedDefinition> pack_definition(const msg::VmDefinition& definition) {
  if (definition == msg::VmDefinition{}) return PackedDefinition{};
  FARSIDE_ASSIGN(const std::string bytes, bytes_of(definition));
  PackedDefinition out{.digest = sha256_hex(bytes),
                       .packed = std::string(ZSTD_compressBound(bytes.size()), '\0')};
  const std::size_t size =
      ZSTD_compress(out.packed.data(), out.packed.size(), bytes.data(), bytes.size(), kLevel);
  if (ZSTD_isError(size) != 0) {
    return fail(ErrorCode::kInternal, std::string("pack a definition: ") + ZSTD_getErrorName(size));
  }
  out.packed.resize(size);
  return out;
}

Result<msg::VmDefinition> unpack_definition(const std::string& digest, std::string_view packed) {
  const auto damaged = [&](const char* why) {
    return fail(ErrorCode::kCorrupt, "the definition " + digest + " is damaged: " + why,
                "the source sends it again with its next change, or after a resynchronisation");
  };
  const auto size = ZSTD_getFrameContentSize(packed.data(), packed.size());
  if (size == ZSTD_CONTENTSIZE_ERROR || size == ZSTD_CONTENTSIZE_UNKNOWN) {
    return damaged("it is not packed as it should be");
  }
  if (size > kDefinitionBytesMax) {
    return fail(ErrorCode::kTooLarge, "a definition of " + std::to_string(size) + " bytes");
  }
  std::string bytes(size, '\0');
  const std::size_t got = ZSTD_decompress(bytes.data(), bytes.size(), packed.data(), packed.size());
  if (ZSTD_isError(got) != 0 || got != bytes.size()) return damaged("it cannot be unpacked");
  if (sha256_hex(bytes) != digest) return damaged("its content has another digest");
  auto definition = msg::decode<msg::VmDefinition>(bytes);
  if (definition) return definition;
  // It is what was sent: somebody newer may have written it.
  return fail(ErrorCode::kUnsupported,
              "the definition " + digest + " is not understood: " + definition.error().what,
              "run the version of Farside that wrote it");
}

}  // namespace farside::replica
