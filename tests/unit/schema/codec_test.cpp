#include <gtest/gtest.h>

#include <algorithm>
#include <cstring>
#include <vector>

#include "common/base/random.h"
#include "common/schema/types.fields.h"
#include "common/schema/types.plain.h"
#include "tests/unit/schema/sample.plain.h"

namespace farside::msg {
namespace {

Everything full() {
  Everything e;
  e.flag = true;
  e.tiny = -128;
  e.small = -32768;
  e.medium = -2147483647;
  e.large = -(1LL << 62);
  e.utiny = 255;
  e.usmall = 65535;
  e.umedium = 4294967295U;
  e.ularge = ~0ULL;
  e.half = 0.5F;
  e.whole = -1e300;
  e.text = "h\xc3\xa9llo \"quoted\"\n";
  e.blob = std::string("\0\x01\xff", 3);
  e.colour = Colour::default_;
  e.leaf = {.name = "leaf", .weight = 2.25};
  e.flags = {true, false, true};
  e.numbers = {1, ~0ULL};
  e.texts = {"", "b"};
  e.blobs = {std::string(1, '\0'), ""};
  e.colours = {Colour::darkBlue, Colour::red};
  e.leaves = {{.name = "x", .weight = 1}, {}};
  e.nested = {{"a", "b"}, {}, {"c"}};
  e.maybe_text = "";
  e.maybe_blob = "blob";
  e.maybe_leaf = Leaf{};
  e.maybe_leaves = std::vector<Leaf>{};
  e.password = "hunter2";
  e.class_ = 7;
  e.preset = 3;
  e.paint = Colour::red;
  e.role = Role::agent;
  e.disk = {.name = "vda", .bytes = 1ULL << 40U, .path = "/x", .format = "raw"};
  e.on = false;
  e.choice.value = Disk{.name = "vdb"};
  return e;
}

template <class T>
T again(const T& value) {
  auto back = decode<T>(encode(value));
  EXPECT_TRUE(back) << back.error().what;
  return back ? *back : T{};
}

TEST(Codec, EveryKindSurvivesARoundTrip) {
  EXPECT_EQ(again(full()), full());
  EXPECT_EQ(again(Everything{}), Everything{});
  EXPECT_EQ(encode(full()).size() % 8, 0U);
}

TEST(Codec, DefaultsOfTheSchemaAreThoseOfTheStruct) {
  const Everything fresh;

  EXPECT_EQ(fresh.preset, -7);
  EXPECT_EQ(fresh.paint, Colour::darkBlue);
  EXPECT_TRUE(fresh.on);
  EXPECT_EQ(again(Leaf{}), Leaf{});
}

TEST(Codec, AbsentAndEmptyOptionalsDiffer) {
  Everything present;
  present.maybe_text = "";
  present.maybe_leaves = std::vector<Leaf>{};

  const Everything back = again(present);

  EXPECT_TRUE(back.maybe_text.has_value());
  EXPECT_TRUE(back.maybe_leaves.has_value());
  EXPECT_FALSE(back.maybe_blob.has_value());
  EXPECT_FALSE(back.maybe_leaf.has_value());
  EXPECT_NE(back, Everything{});
}

TEST(Codec, EveryArmOfAUnionIsKeptAndNamed) {
  const Choice leaf(Leaf{.name = "l"});
  const Choice nothing(Empty{});
  const Choice disk(Disk{.name = "d"});

  EXPECT_EQ(again(leaf), leaf);
  EXPECT_EQ(again(nothing), nothing);
  EXPECT_EQ(again(disk), disk);
  EXPECT_EQ(name_of(nothing), "nothing");
  EXPECT_EQ(name_of(disk), "dark_disk");
}

TEST(Codec, AnUnknownEnumValueIsRefused) {
  const auto read = decode<Painted>(encode(LaterPainted{.colour = LaterColour::green}));

  ASSERT_FALSE(read);
  EXPECT_EQ(read.error().code, ErrorCode::kCorrupt);
  EXPECT_NE(read.error().what.find("Colour"), std::string::npos) << read.error().what;
}

TEST(Codec, AnUnknownArmIsRefusedAndAKnownOneIsNot) {
  const auto unknown = decode<Choice>(encode(LaterChoice(LaterLeaf{.name = "n"})));
  const auto known = decode<Choice>(encode(LaterChoice(Leaf{.name = "n"})));

  ASSERT_FALSE(unknown);
  EXPECT_EQ(unknown.error().code, ErrorCode::kCorrupt);
  ASSERT_TRUE(known);
  EXPECT_EQ(*known, Choice(Leaf{.name = "n"}));
}

TEST(Codec, FieldsOfALaterVersionAreIgnoredAndMissingOnesAreDefaults) {
  const LaterLeaf later{
      .name = "n", .weight = 4, .colour = LaterColour::green, .extra = {"x", "y"}};

  EXPECT_EQ(decode<Leaf>(encode(later)).value(), (Leaf{.name = "n", .weight = 4}));
  EXPECT_EQ(decode<LaterLeaf>(encode(Leaf{.name = "n"})).value(), LaterLeaf{.name = "n"});
}

TEST(Codec, BytesMayStartAtAnyAddress) {
  const std::string bytes = encode(full());
  std::vector<char> memory(bytes.size() + 16);

  for (std::size_t shift = 0; shift < 8; ++shift) {
    std::memcpy(memory.data() + shift, bytes.data(), bytes.size());
    const auto back = decode<Everything>({memory.data() + shift, bytes.size()});
    ASSERT_TRUE(back) << "shift " << shift << ": " << back.error().what;
    EXPECT_EQ(*back, full());
  }
}

TEST(Codec, TruncatedAndExtendedBytesAreRefused) {
  const std::string bytes = encode(full());

  for (std::size_t length = 0; length < bytes.size(); ++length) {
    const auto read = decode<Everything>(std::string_view(bytes).substr(0, length));
    ASSERT_FALSE(read) << "length " << length;
    ASSERT_EQ(read.error().code, ErrorCode::kCorrupt);
  }
  EXPECT_FALSE(decode<Everything>(bytes + std::string(8, '\0')));
}

TEST(Codec, DamagedBytesNeverEscapeAsAnException) {
  const std::string bytes = encode(full());
  SeededRandom random(1);

  int refused = 0;
  for (int i = 0; i < 20'000; ++i) {
    std::string damaged = bytes;
    for (std::uint64_t n = random.below(8) + 1; n > 0; --n) {
      damaged[random.below(damaged.size())] = static_cast<char>(random.next());
    }
    if (!decode<Everything>(damaged)) ++refused;
  }

  EXPECT_GT(refused, 1000);
}

// A HostEntry of that size with so many empty VMs, of which nothing lies in the message but their
// number.
// Source: Cap'n Proto, encoding.md, "Structs", "Lists".
std::string bomb_of_vms(std::uint64_t items, std::size_t bytes) {
  constexpr std::uint64_t kPointers = 3;  // Of a HostEntry; the last is its VMs.
  std::vector<std::uint64_t> words(bytes / 8);
  words[0] = std::uint64_t{words.size() - 1} << 32U;      // One segment, so many words.
  words[1] = kPointers << 48U;                            // The root: pointers only.
  words[1 + kPointers] = (std::uint64_t{7} << 32U) | 1U;  // A list of structs, right behind.
  words[2 + kPointers] = items << 2U;                     // So many, of no words each.
  std::string out(words.size() * 8, '\0');
  std::memcpy(out.data(), words.data(), out.size());
  return out;
}

TEST(Codec, AListOfEmptyStructsIsRefusedBeforeItIsMemory) {
  const auto few = decode<HostEntry>(bomb_of_vms(1'000, 1U << 20U));
  const auto many = decode<HostEntry>(bomb_of_vms(1'000'000, 8U << 20U));

  ASSERT_TRUE(few) << few.error().what;
  EXPECT_EQ(few->vms.size(), 1'000U);
  ASSERT_FALSE(many);
  EXPECT_EQ(many.error().code, ErrorCode::kTooLarge) << many.error().what;
}

// Those of an honest peer: none of them has less of a message than it needs room for.
TEST(Codec, AListOfAnyStructHasRoom) {
  for_each_struct_of_types([]<class T>(const char* name) {
    constexpr std::size_t kPerByte = 8;  // As many as there is room for; see generated.h.
    const std::size_t bytes = encode(T{}).size() - 16;
    EXPECT_LE(sizeof(T), kPerByte * std::max<std::size_t>(bytes, 1)) << name;
  });
}

TEST(Codec, AnInventoryOfALargeSiteIsRead) {
  Inventory site;
  Vm vm{.id = "5b4e2c1a-8f0d-4f7b-9a55-0123456789ab", .name = "vm-of-a-large-site"};
  vm.disks = {{.name = "vda", .bytes = 1ULL << 36U, .path = "/var/lib/libvirt/images/one.qcow2"}};
  vm.nics = {{.mac = "52:54:00:12:34:56"}};
  site.hosts.emplace_back().vms.assign(17'000, vm);
  const std::string bytes = encode(site);

  const auto back = decode<Inventory>(bytes);

  ASSERT_TRUE(back) << back.error().what << ", of " << bytes.size() << " bytes";
  EXPECT_EQ(back->hosts.front().vms.size(), 17'000U);
}

TEST(Codec, PrintsOnOneLineWithoutDefaultsAndSecrets) {
  EXPECT_EQ(to_text(Everything{}), "Everything{}");
  EXPECT_EQ(to_text(HostState{.name = "a", .processors = 2}),
            "HostState{name=\"a\", processors=2}");
  EXPECT_EQ(to_text(Everything{.password = "hunter2"}), "Everything{password=***}");
  EXPECT_EQ(to_text(Choice(Leaf{.name = "a\nb", .weight = 0.5})),
            "Leaf{name=\"a\\nb\", weight=0.5}");
  const std::string all = to_text(full());
  EXPECT_EQ(all.find('\n'), std::string::npos);
  EXPECT_EQ(all.find("hunter2"), std::string::npos);
  EXPECT_NE(all.find("colours=[darkBlue, red]"), std::string::npos) << all;
  EXPECT_NE(all.find("blob=<3 bytes>"), std::string::npos) << all;
}

TEST(Codec, EnumsAreReadFromTheirNames) {
  EXPECT_EQ(enum_from_text<Colour>("darkBlue"), Colour::darkBlue);
  EXPECT_EQ(enum_from_text<Colour>("default"), Colour::default_);
  EXPECT_EQ(enum_from_text<Colour>("pink"), std::nullopt);
  EXPECT_EQ(to_text(Colour::default_), "default");
}

}  // namespace
}  // namespace farside::msg
