#include "services/agent/replica_store/segment.h"

#include <fmt/format.h>

#include <array>
#include <charconv>

namespace farside::replica {
namespace {

constexpr std::string_view kRecordMagic = "FSB1";

struct Header {
  Codec codec = Codec::kRaw;
  BlockKey key;
  std::uint32_t stored = 0;
  std::uint32_t plain = 0;
  std::uint64_t hash = 0;
};

std::string to_bytes(const Header& header) {
  const auto with_check = [&](std::uint64_t check) {
    std::string out(kRecordMagic);
    put_number(out, static_cast<std::uint64_t>(header.codec), 1);
    put_number(out, 0, 1);
    put_number(out, header.key.disk, 2);
    put_number(out, header.key.block, 4);
    put_number(out, header.stored, 4);
    put_number(out, header.plain, 4);
    put_number(out, check, 4);
    put_number(out, header.key.seq, 8);
    put_number(out, header.hash, 8);
    return out;
  };
  return with_check(hash_of(with_check(0)) & 0xffffffffU);
}

// Empty if these are not the bytes of a header.
std::optional<Header> header_from(std::string_view bytes) {
  const std::uint64_t codec = number_at(bytes, 4, 1);
  const Header header{.codec = static_cast<Codec>(codec),
                      .key = {.disk = static_cast<std::uint16_t>(number_at(bytes, 6, 2)),
                              .block = static_cast<std::uint32_t>(number_at(bytes, 8, 4)),
                              .seq = number_at(bytes, 24, 8)},
                      .stored = static_cast<std::uint32_t>(number_at(bytes, 12, 4)),
                      .plain = static_cast<std::uint32_t>(number_at(bytes, 16, 4)),
                      .hash = number_at(bytes, 32, 8)};
  if (header.codec != Codec::kRaw && header.codec != Codec::kZstd) return std::nullopt;
  if (header.stored > kBlockBytes || header.plain > kBlockBytes) return std::nullopt;
  if (to_bytes(header) != bytes) return std::nullopt;
  return header;
}

// Space of dead payloads is given back in whole pages of the file.
bool is_reclaimed(std::uint64_t offset, std::string_view payload) {
  constexpr std::uint64_t kPage = 4096;
  const std::uint64_t first = (offset + kPage - 1) / kPage * kPage;
  const std::uint64_t end = (offset + payload.size()) / kPage * kPage;
  return first < end && is_zero(payload.substr(first - offset, end - first));
}

}  // namespace

std::optional<std::uint32_t> segment_number(std::string_view file_name) {
  const std::size_t dot = file_name.find('.');
  if (dot == std::string_view::npos || file_name.substr(dot) != ".seg") return std::nullopt;
  std::uint32_t number = 0;
  const char* const begin = std::to_address(file_name.begin());
  const auto [rest, error] = std::from_chars(begin, begin + dot, number);
  if (error != std::errc{} || rest != begin + dot) return std::nullopt;
  return fmt::format("{:08}.seg", number) == file_name ? std::optional(number) : std::nullopt;
}

std::string segment_path(const std::string& folder, std::uint32_t number) {
  return fmt::format("{}/segments/{:08}.seg", folder, number);
}

Result<SegmentWriter> SegmentWriter::create(const std::string& folder, std::uint32_t number) {
  SegmentWriter writer;
  FARSIDE_ASSIGN(writer.file_, File::open_to_write(segment_path(folder, number)));
  FARSIDE_TRY(writer.file_.write_at(0, kSegmentMagic));
  FARSIDE_TRY(sync_folder(folder + "/segments"));
  writer.number_ = number;
  writer.bytes_ = kSegmentMagic.size();
  writer.dirty_ = true;
  return writer;
}

Result<BlockEntry> SegmentWriter::append(const BlockKey& key, Codec codec, std::string_view payload,
                                         std::uint32_t plain_length, std::uint64_t hash) {
  const auto stored = static_cast<std::uint32_t>(payload.size());
  std::string record =
      to_bytes({.codec = codec, .key = key, .stored = stored, .plain = plain_length, .hash = hash});
  record += payload;
  dirty_ = true;
  FARSIDE_TRY(file_.write_at(bytes_, record));
  const BlockEntry entry{.codec = codec,
                         .segment = number_,
                         .offset = bytes_ + kRecordHeaderBytes,
                         .stored = stored,
                         .hash = hash};
  bytes_ += record.size();
  return entry;
}

Result<File> SegmentWriter::take_dirty() {
  FARSIDE_ASSIGN(File file, file_.again());
  dirty_ = false;
  return file;
}

Result<SegmentCheck> check_segment(const std::string& path, const BlockHash& hash) {
  FARSIDE_ASSIGN(const File file, File::open_to_read(path));
  SegmentCheck check;
  FARSIDE_ASSIGN(check.file_bytes, file.size());
  std::array<char, kSegmentMagic.size()> magic{};
  if (check.file_bytes < magic.size() || !file.read_at(0, magic) ||
      std::string_view(magic.data(), magic.size()) != kSegmentMagic) {
    return fail(ErrorCode::kCorrupt, path + " is not a segment");
  }
  check.bytes = magic.size();

  std::array<char, kRecordHeaderBytes> head{};
  std::string payload;
  std::array<char, kBlockBytes> plain{};
  while (check.bytes < check.file_bytes) {
    const std::uint64_t rest = check.file_bytes - check.bytes;
    if (rest < head.size()) {
      check.problem = "the header is cut off";
      break;
    }
    FARSIDE_TRY(file.read_at(check.bytes, head));
    const auto header = header_from({head.data(), head.size()});
    if (!header) {
      check.problem = "no record header";
      break;
    }
    if (rest < head.size() + header->stored) {
      check.problem = "the payload is cut off";
      break;
    }
    payload.resize(header->stored);
    FARSIDE_TRY(file.read_at(check.bytes + head.size(), payload));
    const std::span<char> to(plain.data(), header->plain);
    if (!unpack(header->codec, payload, to) || hash({to.data(), to.size()}) != header->hash) {
      if (!is_reclaimed(check.bytes + head.size(), payload)) {
        check.problem = "the payload does not match its hash";
        break;
      }
      ++check.reclaimed;
    }
    check.bytes += head.size() + header->stored;
    ++check.records;
  }
  return check;
}

}  // namespace farside::replica
