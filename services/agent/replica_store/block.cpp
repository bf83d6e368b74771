#include "services/agent/replica_store/block.h"

#include <xxhash.h>
#include <zstd.h>

#include <array>
#include <cstring>
#include <memory>

namespace farside::replica {
namespace {

constexpr std::array<char, kBlockBytes> kZeros{};

// Contexts are costly to make; each thread keeps its own.
ZSTD_CCtx* packer() {
  thread_local const std::unique_ptr<ZSTD_CCtx, decltype(&ZSTD_freeCCtx)> context(ZSTD_createCCtx(),
                                                                                  ZSTD_freeCCtx);
  return context.get();
}
ZSTD_DCtx* unpacker() {
  thread_local const std::unique_ptr<ZSTD_DCtx, decltype(&ZSTD_freeDCtx)> context(ZSTD_createDCtx(),
                                                                                  ZSTD_freeDCtx);
  return context.get();
}

}  // namespace

std::uint64_t hash_of(std::string_view bytes) {
  return XXH3_64bits(bytes.data(), bytes.size());
}

std::uint64_t zero_hash() {
  static const std::uint64_t hash = hash_of({kZeros.data(), kBlockBytes});
  return hash;
}

bool is_zero(std::string_view bytes) {
  return bytes.empty() ||
         (bytes[0] == 0 && std::memcmp(bytes.data(), bytes.data() + 1, bytes.size() - 1) == 0);
}

Codec pack(std::string_view plain, int level, std::string& packed) {
  packed.clear();
  if (level <= 0) return Codec::kRaw;
  packed.resize(plain.size() - plain.size() / 8);
  const std::size_t size =
      ZSTD_compressCCtx(packer(), packed.data(), packed.size(), plain.data(), plain.size(), level);
  if (ZSTD_isError(size) != 0) {  // Does not fit: not worth it.
    packed.clear();
    return Codec::kRaw;
  }
  packed.resize(size);
  return Codec::kZstd;
}

Status unpack(Codec codec, std::string_view packed, std::span<char> plain) {
  switch (codec) {
    case Codec::kRaw:
      if (packed.size() != plain.size()) break;
      std::memcpy(plain.data(), packed.data(), packed.size());
      return {};
    case Codec::kZero:
      if (!packed.empty()) break;
      std::memset(plain.data(), 0, plain.size());
      return {};
    case Codec::kZstd: {
      const std::size_t size =
          ZSTD_decompressDCtx(unpacker(), plain.data(), plain.size(), packed.data(), packed.size());
      if (ZSTD_isError(size) != 0 || size != plain.size()) break;
      return {};
    }
    case Codec::kBase:
      break;
  }
  return fail(ErrorCode::kCorrupt, "a block's packed bytes do not unpack");
}

}  // namespace farside::replica
