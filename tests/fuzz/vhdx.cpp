// A VHDX file comes from a host that we do not trust.  The input changes bytes of a small good one;
// checksums are made right again, as they would keep the fuzzer out.
//
//   | which file: 1 | area: 1 | offset in it: 3 | count: 1 | bytes: count | area ...
#include <algorithm>
#include <array>
#include <string>
#include <vector>

#include "services/agent/platforms/hyperv/vhdx/chain.h"
#include "services/agent/platforms/hyperv/vhdx/crc32c.h"
#include "services/agent/platforms/hyperv/vhdx/layout.h"
#include "services/agent/platforms/hyperv/vhdx/new_image.h"
#include "services/agent/platforms/hyperv/vhdx/writable_image.h"
#include "tests/fuzz/fuzz_target.h"
#include "tests/support/memory_file.h"

namespace farside::agent::vhdx {
namespace {

using farside::test::Bytes;

constexpr std::uint64_t kDiskBytes = 8 * kMiB;
constexpr std::size_t kFiles = 3;
constexpr std::uint64_t kWalkedBytesMax = kTiB;

// 0: dynamic.  1: its child, with a partial block.  2: that, with a log to replay.
std::array<Bytes, kFiles> make_files() {
  SeededRandom random(1);
  std::array<Bytes, kFiles> files;
  const auto write = [&](Bytes& bytes, bool close) {
    auto image = WritableImage::open(farside::test::open(bytes), HasNoChildren{}, random);
    FARSIDE_ASSERT(image.has_value());
    FARSIDE_ASSERT((*image)->write_at(512, std::string(1024, 'a')).has_value());
    FARSIDE_ASSERT((*image)->write_at(2 * kMiB, std::string(kMiB, 'b')).has_value());
    FARSIDE_ASSERT((*image)->flush().has_value());
    if (close) FARSIDE_ASSERT((*image)->close().has_value());
  };
  FARSIDE_ASSERT(create(*farside::test::open(files[0]),
                        {.disk_bytes = kDiskBytes, .block_bytes = kBlockBytesMin}, random)
                     .has_value());
  write(files[0], true);
  const auto base = Image::open(farside::test::open(files[0]));
  FARSIDE_ASSERT(base.has_value());
  NewImage child = child_of(**base, "base.vhdx", "");
  child.block_bytes = kBlockBytesMin;
  FARSIDE_ASSERT(create(*farside::test::open(files[1]), child, random).has_value());
  files[2] = files[1];
  write(files[1], true);
  write(files[2], false);
  return files;
}

const std::array<Bytes, kFiles>& files() {
  static const std::array<Bytes, kFiles> kMade = make_files();
  return kMade;
}

struct Area {
  std::uint64_t at;
  std::uint64_t bytes;
};
constexpr std::array kAreas{Area{0, 8},
                            Area{kHeaderAt[0], 80},
                            Area{kHeaderAt[1], 80},
                            Area{kRegionTableAt[0], 128},
                            Area{kRegionTableAt[1], 128},
                            Area{kMiB, kMiB},                              // Log.
                            Area{2 * kMiB, 512},                           // Metadata's table,
                            Area{2 * kMiB + kMetadataTableBytes, 512},     // and its items.
                            Area{3 * kMiB, 128},                           // BAT: of blocks,
                            Area{3 * kMiB + std::uint64_t{4096} * 8, 64},  // and of bitmaps.
                            Area{4 * kMiB, 4 * kMiB}};                     // Blocks and bitmaps.

void change(Bytes& file, std::string_view rest) {
  while (rest.size() > 5) {
    const Area& area = kAreas[static_cast<unsigned char>(rest[0]) % kAreas.size()];
    const std::uint64_t offset = load<std::uint32_t>(std::string(rest.substr(1, 3)) + '\0', 0);
    const std::size_t count =
        std::min<std::size_t>(static_cast<unsigned char>(rest[4]), rest.size() - 5);
    const std::uint64_t at = area.at + offset % area.bytes;
    if (fits(at, count, file.size())) file.write(at, rest.substr(5, count));
    rest.remove_prefix(5 + count);
  }
}

void fix_checksum(Bytes& file, std::uint64_t at, std::uint64_t length) {
  std::string sum(4, '\0');
  store(sum, 0, checksum_without(file.read(at, length), 4));
  file.write(at + 4, sum);
}

void fix_checksums(Bytes& file) {
  for (const std::uint64_t at : kHeaderAt) fix_checksum(file, at, kHeaderBytes);
  for (const std::uint64_t at : kRegionTableAt) fix_checksum(file, at, kRegionTableBytes);
  for (std::uint64_t at = kMiB; at < 2 * kMiB; at += kLogSectorBytes) {
    const std::string head = file.read(at, 12);
    const auto length = load<std::uint32_t>(head, 8);
    if (!head.starts_with("loge") || length < 64 || !fits(at, length, 2 * kMiB)) continue;
    fix_checksum(file, at, length);
  }
}

ParentOpener opener() {
  return [](const ParentLocator&) -> Result<std::unique_ptr<hyperv::ByteFile>> {
    static Bytes base;
    base = files()[0];
    return farside::test::open(base);
  };
}

// All that map() tells can be read, and together it is the disk.
void walk(Chain& chain) {
  const std::uint64_t bytes = std::min(chain.disk_bytes(), kWalkedBytesMax);
  std::uint64_t at = 0;
  while (at < bytes) {
    const std::uint64_t part = std::min(bytes - at, 1024 * kMiB);
    const auto pieces = chain.map(at, part);
    FARSIDE_ASSERT(pieces.has_value());
    std::uint64_t length = 0;
    for (const Piece& piece : *pieces) {
      length += piece.length;
      if (!piece.file) continue;
      const auto size = chain.file(*piece.file).size();
      FARSIDE_ASSERT(size.has_value());
      FARSIDE_ASSERT(fits(piece.file_offset, piece.length, *size));
    }
    FARSIDE_ASSERT(length == part);
    at += part;
  }
  std::string head(std::min(chain.disk_bytes(), 4 * kMiB), '\0');
  FARSIDE_ASSERT(chain.read_at(0, head).has_value());
}

// What a reader accepts can be written to, and is a good file afterwards.
void write(Bytes& file) {
  SeededRandom random(2);
  auto image = WritableImage::open(farside::test::open(file), HasNoChildren{}, random);
  if (!image) return;  // Without a log.
  const std::uint64_t sector = (*image)->metadata().logical_sector_bytes;
  const std::string bytes(sector, 'w');
  FARSIDE_ASSERT((*image)->write_at(0, bytes).has_value());
  if ((*image)->disk_bytes() > sector) {
    FARSIDE_ASSERT((*image)->zero(sector, sector).has_value());
  }
  FARSIDE_ASSERT((*image)->close().has_value());
  image->reset();
  const auto again = Image::open(farside::test::open(file));
  FARSIDE_ASSERT(again.has_value());
  std::vector<Segment> segments;
  FARSIDE_ASSERT((*again)->map(0, sector, segments).has_value());
  FARSIDE_ASSERT(segments.size() == 1 && segments[0].source == Source::kThisFile);
  FARSIDE_ASSERT(file.read(segments[0].file_offset, sector) == bytes);
}

void try_file(std::string_view input) {
  Bytes file = files()[static_cast<unsigned char>(input[0]) % kFiles];
  change(file, input.substr(1));
  fix_checksums(file);
  auto image = Image::open(farside::test::open(file));
  if (!image) return;
  // A log may make any length of file of a small one; walking all of it takes too long here.
  if ((*image)->disk_bytes() > kWalkedBytesMax) return;
  image->reset();
  if (auto chain = Chain::open(farside::test::open(file), opener())) walk(**chain);
  write(file);
}

}  // namespace
}  // namespace farside::agent::vhdx

int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  if (size != 0) farside::agent::vhdx::try_file(farside::fuzz::bytes(data, size));
  return 0;
}
