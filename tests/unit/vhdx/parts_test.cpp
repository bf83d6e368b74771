// The small parts: checksum, GUIDs, text, free space, bits.
#include <gtest/gtest.h>

#include "services/agent/platforms/hyperv/vhdx/bat.h"
#include "services/agent/platforms/hyperv/vhdx/crc32c.h"
#include "services/agent/platforms/hyperv/vhdx/free_space.h"
#include "services/agent/platforms/hyperv/vhdx/guid.h"
#include "services/agent/platforms/hyperv/vhdx/sector_bits.h"
#include "services/agent/platforms/hyperv/vhdx/utf16.h"

namespace farside::agent::vhdx {
namespace {

TEST(Crc32cTest, GivesTheValuesOfTheStandard) {
  // Source: RFC 3720, B.4.
  EXPECT_EQ(Crc32c().add(std::string(32, '\0')).value(), 0x8A9136AAU);
  EXPECT_EQ(Crc32c().add(std::string(32, '\xFF')).value(), 0x62A8AB43U);
  EXPECT_EQ(Crc32c().add("123456789").value(), 0xE3069283U);
  EXPECT_EQ(Crc32c().add("1234").add("56789").value(), 0xE3069283U);
}

TEST(GuidTest, LiesInMemoryAsWindowsPutsIt) {
  const auto guid = Guid::parse("{2DC27766-F623-4200-9D64-115E9BFD4A08}");

  ASSERT_TRUE(guid);
  EXPECT_EQ(std::string(guid->bytes.begin(), guid->bytes.begin() + 8),
            std::string("\x66\x77\xC2\x2D\x23\xF6\x00\x42", 8));
  EXPECT_EQ(guid->text(), "2dc27766-f623-4200-9d64-115e9bfd4a08");
  EXPECT_FALSE(Guid::parse("2dc27766-f623-4200-9d64-115e9bfd4a0"));
  EXPECT_FALSE(Guid::parse("2dc27766-f623-4200-9d64_115e9bfd4a08"));
  EXPECT_FALSE(Guid::parse("2dc27766-f623-4200-9d64-115e9bfd4ag8"));
  EXPECT_FALSE(Guid::parse("{"));
}

TEST(Utf16Test, GoesThereAndBack) {
  const std::string text = "..\\disk \xC3\xA4 \xE2\x82\xAC \xF0\x9F\x92\xBE.vhdx";
  const auto there = utf16le_of(text);

  ASSERT_TRUE(there);
  EXPECT_EQ(utf8_of(*there), text);
  EXPECT_EQ(utf16le_of("A"), std::string("A\0", 2));
  EXPECT_FALSE(utf16le_of("\xC3"));
  EXPECT_FALSE(utf16le_of("\xC0\x80"));
  EXPECT_FALSE(utf16le_of("\xED\xA0\x80"));
  EXPECT_FALSE(utf16le_of(std::string("a\0b", 3)));
  EXPECT_FALSE(utf8_of("A"));
  EXPECT_FALSE(utf8_of(std::string("\x00\xD8", 2)));
  EXPECT_FALSE(utf8_of(std::string("\x00\xDC", 2)));
  EXPECT_FALSE(utf8_of(std::string("\x00\xD8\x41\x00", 4)));
  EXPECT_FALSE(utf8_of(std::string("\0\0", 2)));
}

TEST(GeometryTest, CountsTheEntriesThatTheFormatWants) {
  // Source: [MS-VHDX] 2.5.  2 MiB blocks of 512-byte sectors: 2,048 blocks a chunk.
  Metadata disk{.block_bytes = 2U << 20U,
                .disk_bytes = 2049 * (2 * kMiB),
                .logical_sector_bytes = 512,
                .physical_sector_bytes = 4096};
  EXPECT_EQ(Geometry(disk).blocks_per_chunk, 2048u);
  EXPECT_EQ(Geometry(disk).entries, 2049u + 1);
  EXPECT_EQ(Geometry(disk).entry_of_block(2048), 2049u);
  EXPECT_EQ(Geometry(disk).entry_of_bitmap(0), 2048u);
  disk.parent = ParentLocator{};
  EXPECT_EQ(Geometry(disk).entries, 2 * 2049u);
  disk.disk_bytes = 512;
  EXPECT_EQ(Geometry(disk).bytes_of_block(0), 512u);
  disk.parent.reset();
  EXPECT_EQ(Geometry(disk).entries, 1u);
  disk.logical_sector_bytes = 4096;
  disk.disk_bytes = 64 * kTiB;
  disk.block_bytes = 256U << 20U;
  EXPECT_EQ(Geometry(disk).blocks_per_chunk, 128u);
}

TEST(FreeSpaceTest, JoinsWhatTouchesAndTakesFromTheFrontOrTheEnd) {
  FreeSpace space(100 * kMiB);
  space.give(10 * kMiB, kMiB);
  space.give(12 * kMiB, kMiB);
  EXPECT_EQ(space.take(2 * kMiB).at, 100 * kMiB);
  space.give(11 * kMiB, kMiB);

  const auto place = space.take(2 * kMiB);

  EXPECT_EQ(place.at, 10 * kMiB);
  EXPECT_FALSE(place.is_zeros);
  EXPECT_EQ(space.take(kMiB).at, 12 * kMiB);
  const auto fresh = space.take(kMiB);
  EXPECT_EQ(fresh.at, 102 * kMiB);
  EXPECT_TRUE(fresh.is_zeros);
  EXPECT_EQ(space.end(), 103 * kMiB);
}

TEST(SectorBitsTest, RunsEndWhereTheBitChanges) {
  std::string bits(16, '\0');
  set_bits(bits, 5, 77, true);

  EXPECT_EQ(end_of_run(bits, 0, 128), 5u);
  EXPECT_EQ(end_of_run(bits, 5, 128), 77u);
  EXPECT_EQ(end_of_run(bits, 5, 40), 40u);
  EXPECT_EQ(end_of_run(bits, 77, 128), 128u);
  set_bits(bits, 16, 24, false);
  EXPECT_EQ(end_of_run(bits, 5, 128), 16u);
  EXPECT_TRUE(has_bit(bits, 24));
}

}  // namespace
}  // namespace farside::agent::vhdx
