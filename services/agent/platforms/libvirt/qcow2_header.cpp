#include "services/agent/platforms/libvirt/qcow2_header.h"

#include <fcntl.h>
#include <fmt/core.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <system_error>

namespace farside::agent::libvirt {
namespace {

// Source: QEMU, docs/interop/qcow2.txt.
constexpr std::string_view kMagic("QFI\xfb", 4);
constexpr std::size_t kVersion2Bytes = 72;
constexpr std::size_t kVersion3Bytes = 104;
constexpr std::uint32_t kBackingFormat = 0xE2792ACA;
constexpr std::uint64_t kCorruptBit = 2;
constexpr std::uint64_t kDataFileBit = 4;
constexpr std::uint64_t kSubclustersBit = 16;
constexpr std::uint32_t kBackingNameMax = 1023;

std::uint64_t number(std::string_view bytes, std::size_t at, std::size_t length) {
  std::uint64_t value = 0;
  for (const char c : bytes.substr(at, length)) {
    value = (value << 8U) | static_cast<unsigned char>(c);
  }
  return value;
}

std::uint32_t u32(std::string_view bytes, std::size_t at) {
  return static_cast<std::uint32_t>(number(bytes, at, 4));
}

std::string backing_format(std::string_view head, std::size_t at) {
  while (at + 8 <= head.size()) {
    const std::uint32_t type = u32(head, at);
    const std::size_t length = u32(head, at + 4);
    if (type == 0 || length > head.size() - at - 8) return {};
    if (type == kBackingFormat) return std::string(head.substr(at + 8, length));
    at += 8 + (length + 7) / 8 * 8;
  }
  return {};
}

}  // namespace

Result<Qcow2Header> parse_qcow2_header(std::string_view head) {
  if (head.size() < kVersion2Bytes || !head.starts_with(kMagic)) {
    return fail(ErrorCode::kUnsupported, "it is not a qcow2 image");
  }
  Qcow2Header header{.version = u32(head, 4),
                     .bytes = number(head, 24, 8),
                     .is_encrypted = u32(head, 32) != 0,
                     .cluster_bits = u32(head, 20),
                     .l1_at = number(head, 40, 8),
                     .l1_entries = u32(head, 36),
                     .backing = {},
                     .backing_format = {}};
  if (header.version < 2 || header.version > 3) {
    return fail(ErrorCode::kUnsupported,
                fmt::format("it has version {} of the qcow2 format", header.version));
  }
  std::size_t header_bytes = kVersion2Bytes;
  if (header.version == 3) {
    if (head.size() < kVersion3Bytes) return fail(ErrorCode::kCorrupt, "its header is cut off");
    const std::uint64_t incompatible = number(head, 72, 8);
    header.is_corrupt = (incompatible & kCorruptBit) != 0;
    header.has_data_file = (incompatible & kDataFileBit) != 0;
    header.has_subclusters = (incompatible & kSubclustersBit) != 0;
    header_bytes = u32(head, 100);
  }
  const std::uint64_t name_at = number(head, 8, 8);
  const std::uint32_t name_bytes = u32(head, 16);
  if (name_at != 0 && name_bytes != 0) {
    if (name_bytes > kBackingNameMax || name_at > head.size() ||
        name_bytes > head.size() - name_at) {
      return fail(ErrorCode::kCorrupt, "the name of its backing file is outside of its header");
    }
    header.backing = std::string(head.substr(name_at, name_bytes));
    header.backing_format = backing_format(head, header_bytes);
  }
  return header;
}

Result<Qcow2Header> read_qcow2_header(const std::string& path) {
  // Not blocked by a pipe that somebody put there.
  const int fd = ::open(path.c_str(), O_RDONLY | O_CLOEXEC | O_NONBLOCK | O_NOCTTY);
  if (fd < 0) {
    const int number = errno;
    const ErrorCode code = number == ENOENT   ? ErrorCode::kNotFound
                           : number == EACCES ? ErrorCode::kForbidden
                                              : ErrorCode::kIo;
    return fail(code, std::generic_category().message(number));
  }
  std::string head(kQcow2HeaderBytes, '\0');
  const ssize_t got = ::pread(fd, head.data(), head.size(), 0);
  const int number = errno;
  ::close(fd);
  if (got < 0) return fail(ErrorCode::kIo, std::generic_category().message(number));
  head.resize(static_cast<std::size_t>(got));
  return parse_qcow2_header(head);
}

}  // namespace farside::agent::libvirt
