#include "services/agent/platforms/hyperv/smb/flush_tap.h"

#include <dlfcn.h>
#include <fmt/format.h>

namespace farside::agent::smb {
namespace {

struct Expected {
  const char* bytes = nullptr;
  std::size_t length = 0;
  std::uint64_t offset = 0;
};
Expected expected;
std::optional<WireHandle> noted;

using WriteSend = void* (*)(void* memory, void* events, void* connection, std::uint32_t timeout_ms,
                            void* session, void* tree, std::uint32_t length, std::uint64_t offset,
                            std::uint64_t persistent, std::uint64_t volatile_part,
                            std::uint32_t remaining, std::uint32_t flags, const std::uint8_t* data);
using FlushCall = std::uint32_t (*)(void* connection, std::uint32_t timeout_ms, void* session,
                                    void* tree, std::uint64_t persistent,
                                    std::uint64_t volatile_part);

// Source: MS-ERREF 2.3.1.
constexpr std::uint32_t kTimedOut = 0xC00000B5;
constexpr std::uint32_t kDisconnected = 0xC000020C;
constexpr std::uint32_t kReset = 0xC000020D;
constexpr std::uint32_t kAborted = 0xC0000241;
constexpr std::uint32_t kDiskFull = 0xC000007F;

}  // namespace

void expect_write(const char* bytes, std::size_t length, std::uint64_t offset) {
  expected = {.bytes = bytes, .length = length, .offset = offset};
  noted.reset();
}

std::optional<WireHandle> written_handle() {
  return noted;
}

Status flush(const WireHandle& handle, std::uint32_t timeout_ms) {
  static const auto call = reinterpret_cast<FlushCall>(::dlsym(RTLD_DEFAULT, "smb2cli_flush"));
  if (call == nullptr) {
    return fail(ErrorCode::kUnsupported, "this libsmbclient has no SMB2 FLUSH");
  }
  const std::uint32_t status = call(handle.connection, timeout_ms, handle.session, handle.tree,
                                    handle.persistent, handle.volatile_part);
  if (status == 0) return {};
  ErrorCode code = ErrorCode::kIo;
  if (status == kTimedOut || status == kDisconnected || status == kReset || status == kAborted) {
    code = ErrorCode::kUnavailable;
  } else if (status == kDiskFull) {
    code = ErrorCode::kNoSpace;
  }
  return fail(code, fmt::format("SMB2 FLUSH failed with NTSTATUS {:#010x}", status));
}

}  // namespace farside::agent::smb

// Found by libsmbclient's libraries before their own.
extern "C" __attribute__((visibility("default"))) void* smb2cli_write_send(
    void* memory, void* events, void* connection, std::uint32_t timeout_ms, void* session,
    void* tree, std::uint32_t length, std::uint64_t offset, std::uint64_t persistent,
    std::uint64_t volatile_part, std::uint32_t remaining, std::uint32_t flags,
    const std::uint8_t* data) {
  using namespace farside::agent::smb;  // The names of the file above.
  static const auto next = reinterpret_cast<WriteSend>(::dlsym(RTLD_NEXT, "smb2cli_write_send"));
  const char* bytes = reinterpret_cast<const char*>(data);
  const std::uint64_t into = static_cast<std::uint64_t>(bytes - expected.bytes);
  if (bytes >= expected.bytes && into < expected.length && length <= expected.length - into &&
      offset == expected.offset + into) {
    noted = {.connection = connection,
             .session = session,
             .tree = tree,
             .persistent = persistent,
             .volatile_part = volatile_part};
  }
  return next(memory, events, connection, timeout_ms, session, tree, length, offset, persistent,
              volatile_part, remaining, flags, data);
}
