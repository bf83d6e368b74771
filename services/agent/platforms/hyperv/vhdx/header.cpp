#include "services/agent/platforms/hyperv/vhdx/header.h"

#include "services/agent/platforms/hyperv/vhdx/crc32c.h"
#include "services/agent/platforms/hyperv/vhdx/layout.h"

namespace farside::agent::vhdx {
namespace {

constexpr std::string_view kMark = "head";
constexpr std::size_t kChecksumAt = 4;
constexpr std::uint32_t kLogBytesMax = 64U << 20U;  // Windows makes logs of 1 MiB.

}  // namespace

Result<Header> parse_header(std::string_view bytes) {
  if (bytes.size() != kHeaderBytes || !bytes.starts_with(kMark)) return corrupt("no header");
  if (load<std::uint32_t>(bytes, kChecksumAt) != checksum_without(bytes, kChecksumAt)) {
    return corrupt("the header's checksum");
  }
  return Header{.sequence = load<std::uint64_t>(bytes, 8),
                .file_write = Guid::load(bytes, 16),
                .data_write = Guid::load(bytes, 32),
                .log = Guid::load(bytes, 48),
                .log_version = load<std::uint16_t>(bytes, 64),
                .version = load<std::uint16_t>(bytes, 66),
                .log_bytes = load<std::uint32_t>(bytes, 68),
                .log_at = load<std::uint64_t>(bytes, 72)};
}

std::string write_header(const Header& header) {
  std::string bytes(kHeaderBytes, '\0');
  bytes.replace(0, kMark.size(), kMark);
  store(bytes, 8, header.sequence);
  header.file_write.store(bytes, 16);
  header.data_write.store(bytes, 32);
  header.log.store(bytes, 48);
  store(bytes, 64, header.log_version);
  store(bytes, 66, header.version);
  store(bytes, 68, header.log_bytes);
  store(bytes, 72, header.log_at);
  store(bytes, kChecksumAt, checksum_without(bytes, kChecksumAt));
  return bytes;
}

Result<CurrentHeader> current_header(std::string_view first, std::string_view second) {
  const auto one = parse_header(first);
  const auto two = parse_header(second);
  if (!one && !two) return corrupt("both headers: " + one.error().what + ", " + two.error().what);
  const bool take_two = two && (!one || two->sequence > one->sequence);
  const Header& header = take_two ? *two : *one;
  // Updates write both; equal numbers with unequal contents leave no way to tell.
  if (one && two && one->sequence == two->sequence && *one != *two) {
    return corrupt("two headers of sequence number " + std::to_string(one->sequence));
  }
  if (header.version != 1) {
    return unsupported("version " + std::to_string(header.version) + " of the VHDX format");
  }
  if (!header.log.is_zero() && header.log_version != 0) {
    return unsupported("version " + std::to_string(header.log_version) + " of the VHDX log");
  }
  if (header.log_at % kMiB != 0 || header.log_bytes % kMiB != 0 ||
      (header.log_bytes != 0 && header.log_at < kMiB)) {
    return corrupt("the log's place, " + std::to_string(header.log_bytes) + " bytes at " +
                   std::to_string(header.log_at));
  }
  if (header.log_bytes > kLogBytesMax) {
    return unsupported("a log of " + std::to_string(header.log_bytes) + " bytes");
  }
  return CurrentHeader{.header = header, .place = take_two ? 1 : 0};
}

}  // namespace farside::agent::vhdx
