// What the map of an image says, and a domain that is put on its view again.
#include <gmock/gmock.h>

#include "services/agent/platforms/libvirt/moved_disks.h"
#include "services/agent/platforms/libvirt/program.h"
#include "services/agent/platforms/libvirt/qcow2_map.h"
#include "services/agent/platforms/libvirt/xml.h"
#include "tests/support/temp_folder.h"

namespace farside::agent::libvirt {
namespace {

using testing::ElementsAre;
using testing::IsEmpty;

constexpr std::uint64_t kCluster = 64U << 10U;
constexpr std::uint64_t kGibibyte = std::uint64_t{1} << 30U;

class Qcow2MapTest : public testing::Test {
 protected:
  static void run(std::vector<std::string> words) {
    const auto done = run_program(std::move(words), std::chrono::seconds(30));
    ASSERT_TRUE(done) << to_text(done.error());
    ASSERT_EQ(done->exit_code, 0) << done->output;
  }

  std::vector<Extent> unmapped(std::uint64_t from, std::uint64_t to) const {
    const auto map = Qcow2Map::open(image_);
    EXPECT_TRUE(map) << to_text(map.error());
    const auto found = map->unmapped(from, to);
    EXPECT_TRUE(found) << to_text(found.error());
    return *found;
  }

  static Extent range(std::uint64_t from, std::uint64_t to) {
    return {.offset = from, .length = to - from, .zero = false};
  }

  test::TempFolder folder_;
  const std::string image_ = folder_ / "image.qcow2";
};

TEST_F(Qcow2MapTest, TellsWhatTheImageSaysNothingAbout) {
  ASSERT_NO_FATAL_FAILURE(run({"qemu-img", "create", "-q", "-f", "qcow2", image_, "2G"}));
  EXPECT_THAT(unmapped(0, 2 * kGibibyte), ElementsAre(range(0, 2 * kGibibyte)));

  ASSERT_NO_FATAL_FAILURE(run({"qemu-io", "-f", "qcow2", "-c", "write 64k 128k", "-c",
                               "write -z 1G 64k", "-c", "write 2097088k 64k", image_}));

  EXPECT_THAT(unmapped(0, 2 * kGibibyte),
              ElementsAre(range(0, kCluster), range(3 * kCluster, kGibibyte),
                          range(kGibibyte + kCluster, 2 * kGibibyte - kCluster)));
  EXPECT_THAT(unmapped(kCluster, 3 * kCluster), IsEmpty());
  EXPECT_THAT(unmapped(kCluster + 512, 4 * kCluster - 512),
              ElementsAre(range(3 * kCluster, 4 * kCluster - 512)));
}

TEST_F(Qcow2MapTest, WhatAGuestDiscardsStaysMapped) {
  ASSERT_NO_FATAL_FAILURE(run({"qemu-img", "create", "-q", "-f", "qcow2", image_, "1M"}));
  ASSERT_NO_FATAL_FAILURE(run({"qemu-io", "-f", "qcow2", "-c", "write 0 1M", image_}));

  ASSERT_NO_FATAL_FAILURE(run({"qemu-io", "-d", "unmap", "-f", "qcow2", "-c", "discard 0 512k",
                               "-c", "write -z -u 512k 256k", image_}));

  EXPECT_THAT(unmapped(0, 1U << 20U), IsEmpty());
}

TEST_F(Qcow2MapTest, RefusesFormsThatItDoesNotRead) {
  ASSERT_NO_FATAL_FAILURE(
      run({"qemu-img", "create", "-q", "-f", "qcow2", "-o", "extended_l2=on", image_, "1M"}));
  const auto extended = Qcow2Map::open(image_);
  EXPECT_EQ(extended ? ErrorCode{} : extended.error().code, ErrorCode::kUnsupported);
  const auto absent = Qcow2Map::open(folder_ / "absent");
  EXPECT_EQ(absent ? ErrorCode{} : absent.error().code, ErrorCode::kNotFound);
}

TEST(WithViewTest, PutsTheDiskThatIsMeantOnItsView) {
  const std::string other =
      "<disk type='file'><source file='/a'/><backingStore/><target dev='vdb' bus='virtio'/></disk>";
  const std::string tail = "<target dev='vda' bus='virtio'/><alias name='x'/></disk></devices>";
  for (const std::string before : {"", "<backingStore/>",
                                   "<backingStore type='file'><source file='/o'/><backingStore/>"
                                   "</backingStore>"}) {
    const auto changed =
        with_view("<devices>" + other + "<disk type='file'><source file='/b'/>" + before + tail,
                  "vda", {.socket = "/run/a&b", .name = "vda"});

    ASSERT_TRUE(changed) << to_text(changed.error());
    const auto document = XmlDocument::parse(*changed);
    ASSERT_TRUE(document) << *changed;
    const auto disks = document->root().children("disk");
    ASSERT_EQ(disks.size(), 2U);
    EXPECT_FALSE(disks[0].child("backingStore").child("source"));
    ASSERT_EQ(disks[1].children("backingStore").size(), 1U) << *changed;
    const XmlNode view = disks[1].child("backingStore").child("source");
    EXPECT_EQ(view.attribute("name"), "vda");
    EXPECT_EQ(view.child("host").attribute("socket"), "/run/a&b");
  }
  EXPECT_FALSE(with_view("<devices>" + other + "</devices>", "vda", {}));
}

}  // namespace
}  // namespace farside::agent::libvirt
