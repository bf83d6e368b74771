#include "common/wire/frame.h"

#include <gtest/gtest.h>

#include "common/schema/types.capnp.h"
#include "common/schema/types.plain.h"

namespace farside::wire {
namespace {

TEST(Frame, ReadsInPlaceWhenAligned) {
  capnp::MallocMessageBuilder message;
  message.initRoot<Disk>().setName("vda");
  const std::string bytes = to_bytes(message);

  auto frame = Frame::open(bytes);
  ASSERT_TRUE(frame) << frame.error().what;
  const Status read = frame->read<Disk>([&](Disk::Reader disk) -> Status {
    EXPECT_STREQ(disk.getName().cStr(), "vda");
    const bool in_place = disk.getName().begin() >= bytes.data() &&
                          disk.getName().begin() < bytes.data() + bytes.size();
    EXPECT_EQ(in_place, reinterpret_cast<std::uintptr_t>(bytes.data()) % 8 == 0);
    return {};
  });

  EXPECT_TRUE(read);
}

TEST(Frame, RefusesHugeAndEmptyInput) {
  EXPECT_EQ(Frame::open({}).error().code, ErrorCode::kCorrupt);
  EXPECT_EQ(Frame::open("1234567").error().code, ErrorCode::kCorrupt);
  const std::string huge(kMessageBytesMax + 8, '\0');
  EXPECT_EQ(Frame::open(huge).error().code, ErrorCode::kTooLarge);
}

TEST(Frame, PassesOnTheRefusalOfItsUser) {
  capnp::MallocMessageBuilder message;
  message.initRoot<Disk>();
  const std::string bytes = to_bytes(message);

  const Status read = Frame::open(bytes).value().read<Disk>(
      [](Disk::Reader) -> Status { return fail(ErrorCode::kStaleEpoch, "old"); });

  ASSERT_FALSE(read);
  EXPECT_EQ(read.error().code, ErrorCode::kStaleEpoch);
}

// A pointer that leads back to itself must end as an error, not as endless work.
TEST(Frame, RefusesStructuresThatAreDeeperThanAnyOfOurs) {
  // One segment of two words: a root pointer to a struct of one pointer, which points to itself.
  std::string bytes(24, '\0');
  bytes[4] = 2;        // Segment size in words.
  bytes[14] = 1;       // Root: struct at offset 0, no data words, one pointer.
  bytes[16] = '\xfc';  // That pointer: struct at offset -1 (itself), one pointer.
  bytes[17] = bytes[18] = bytes[19] = '\xff';
  bytes[22] = 1;

  const auto read = msg::decode<msg::Disk>(bytes);

  ASSERT_FALSE(read);
  EXPECT_EQ(read.error().code, ErrorCode::kCorrupt);
}

}  // namespace
}  // namespace farside::wire
