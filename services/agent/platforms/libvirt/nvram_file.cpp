#include "services/agent/platforms/libvirt/nvram_file.h"

#include <fcntl.h>
#include <fmt/core.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <cstdint>
#include <system_error>

#include "services/agent/platforms/libvirt/qcow2_header.h"

namespace farside::agent::libvirt {
namespace {

// Of `length` bytes at `at`, which are there.
std::uint64_t little_endian(std::string_view bytes, std::size_t at, std::size_t length) {
  std::uint64_t value = 0;
  for (std::size_t i = length; i-- > 0;) {
    value = value << 8U | static_cast<unsigned char>(bytes[at + i]);
  }
  return value;
}

std::uint64_t big_endian(std::string_view bytes, std::size_t at) {
  std::uint64_t value = 0;
  for (const char c : bytes.substr(at, 8)) {
    value = value << 8U | static_cast<unsigned char>(c);
  }
  return value;
}

//   0          16      32        40       44
//   | zeros 16 | GUID 16 | length 8 | _FVH 4 | ...
// Source: UEFI PI Specification, volume 3, "Firmware Volume Header" (EFI_FIRMWARE_VOLUME_HEADER):
// signature '_FVH' at byte 40; EDK II, MdeModulePkg/Include/Guid/SystemNvDataGuid.h: the GUID of a
// volume of variables, fff12b8d-7696-4c8b-a985-2747075b4f50.
bool begins_with_variables(std::string_view bytes, std::uint64_t room) {
  constexpr std::size_t kHeaderBytes = 56;
  constexpr std::string_view kVariables(
      "\x8d\x2b\xf1\xff\x96\x76\x8b\x4c"
      "\xa9\x85\x27\x47\x07\x5b\x4f\x50",
      16);
  if (bytes.size() < kHeaderBytes) return false;
  const std::uint64_t length = little_endian(bytes, 32, 8);
  return bytes.substr(16, 16) == kVariables && bytes.substr(40, 4) == "_FVH" &&
         length >= kHeaderBytes && length <= room;
}

// What its first cluster holds; empty if it has none of its own, or packed.
// Source: QEMU, docs/interop/qcow2.txt, "Cluster mapping".
std::string_view first_cluster(std::string_view image, const Qcow2Header& header) {
  constexpr std::uint64_t kOffset = 0x00fffffffffffe00;
  constexpr std::uint64_t kPacked = std::uint64_t{1} << 62U;
  const auto entry_at = [&](std::uint64_t at) {
    return at > image.size() || image.size() - at < 8 ? 0 : big_endian(image, at);
  };
  if (header.is_encrypted || header.has_data_file || header.l1_entries == 0) return {};
  const std::uint64_t table = entry_at(header.l1_at) & kOffset;
  const std::uint64_t entry = table == 0 ? 0 : entry_at(table);
  const std::uint64_t at = entry & kOffset;
  if ((entry & kPacked) != 0 || at == 0 || at >= image.size()) return {};
  return image.substr(at);
}

Result<std::string> not_nvram(const std::string& path, const char* why) {
  return fail(ErrorCode::kUnsupported,
              fmt::format("{} does not hold the VM's UEFI variables: {}", path, why),
              "name the VM's own NVRAM file in its definition");
}

Result<std::string> read_all(int fd, const std::string& path) {
  struct stat what{};
  if (::fstat(fd, &what) != 0 || !S_ISREG(what.st_mode)) {
    return not_nvram(path, "it is no regular file");
  }
  std::string bytes(kNvramBytesMax + 1, '\0');
  std::size_t size = 0;
  ssize_t got = 0;
  while (size < bytes.size() && (got = ::read(fd, bytes.data() + size, bytes.size() - size)) != 0) {
    if (got < 0 && errno == EINTR) continue;
    if (got < 0) {
      return fail(ErrorCode::kIo,
                  fmt::format("read {}: {}", path, std::generic_category().message(errno)));
    }
    size += static_cast<std::size_t>(got);
  }
  if (size > kNvramBytesMax) {
    return fail(
        ErrorCode::kTooLarge,
        fmt::format("the UEFI variables in {} are larger than {} bytes", path, kNvramBytesMax));
  }
  bytes.resize(size);
  // Of zeros only: firmware has written nothing yet.
  if (bytes.find_first_not_of('\0') == std::string::npos) return std::string();
  if (!is_nvram(bytes)) return not_nvram(path, "it holds something else");
  return bytes;
}

Result<std::string> read_once(const std::string& path) {
  const int fd = ::open(path.c_str(), O_RDONLY | O_CLOEXEC | O_NONBLOCK | O_NOCTTY);
  if (fd < 0) {
    if (errno == ENOENT) return std::string();
    return fail(ErrorCode::kUnavailable,
                fmt::format("the UEFI variables in {} cannot be read: {}", path,
                            std::generic_category().message(errno)),
                "let the agent's user read that file");
  }
  auto bytes = read_all(fd, path);
  ::close(fd);
  return bytes;
}

}  // namespace

bool is_nvram(std::string_view content) {
  const auto header = parse_qcow2_header(content.substr(0, kQcow2HeaderBytes));
  if (header) return begins_with_variables(first_cluster(content, *header), header->bytes);
  return begins_with_variables(content, content.size());
}

// The guest's firmware writes the file through QEMU at any time: two equal reads are one state.
Result<std::string> read_nvram(const std::string& path) {
  constexpr int kReadsMax = 10;
  FARSIDE_ASSIGN(auto last, read_once(path));
  for (int i = 0; i < kReadsMax; ++i) {
    FARSIDE_ASSIGN(auto again, read_once(path));
    if (again == last) return last;
    last = std::move(again);
  }
  return fail(ErrorCode::kUnavailable,
              fmt::format("the UEFI variables in {} change all the time", path),
              "the next point tries again");
}

}  // namespace farside::agent::libvirt
