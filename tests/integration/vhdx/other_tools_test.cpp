// Our VHDX files under the eyes of QEMU and of libvhdi, and QEMU's under ours.
#include "tests/integration/vhdx/disks.h"

namespace farside::agent::vhdx {
namespace {

using test::Disks;
using test::Outcome;
using test::run;

// Not a multiple of any block's size.
constexpr std::uint64_t kDiskBytes = 37 * kMiB + 4096;

void expect_success(const Outcome& outcome) {
  EXPECT_EQ(outcome.status, 0) << outcome.output;
}

void compare_with_qemu(const Disks& disks, const std::string& name, const std::string& expected) {
  disks.write_raw("expected.raw", expected);
  const Outcome checked = run("qemu-img check -f vhdx " + disks / name);
  expect_success(checked);
  EXPECT_TRUE(checked.output.contains("No errors were found")) << checked.output;
  expect_success(
      run("qemu-img compare -f vhdx -F raw " + disks / name + " " + disks / "expected.raw"));
}

struct Kind {
  std::string name;
  NewImage image;
};

class OursTest : public testing::TestWithParam<Kind> {};

TEST_P(OursTest, IsReadByQemu) {
  Disks disks;
  NewImage image = GetParam().image;
  image.disk_bytes = kDiskBytes;
  disks.create("disk.vhdx", image);
  std::string expected(kDiskBytes, '\0');
  compare_with_qemu(disks, "disk.vhdx", expected);
  for (int round = 0; round < 2; ++round) {
    disks.change("disk.vhdx", expected, 40);
    compare_with_qemu(disks, "disk.vhdx", expected);
  }
  EXPECT_EQ(disks.contents("disk.vhdx"), expected);
}

TEST_P(OursTest, IsWrittenByQemuAndReadByUs) {
  Disks disks;
  NewImage image = GetParam().image;
  image.disk_bytes = kDiskBytes;
  disks.create("disk.vhdx", image);
  std::string expected(kDiskBytes, '\0');
  disks.change("disk.vhdx", expected, 10);
  expect_success(run("qemu-io -f vhdx -c 'write -P 65 1M 3M' -c 'write -P 66 20000256 512' " +
                     disks / "disk.vhdx"));
  expected.replace(kMiB, 3 * kMiB, 3 * kMiB, 'A').replace(20'000'256, 512, 512, 'B');

  EXPECT_EQ(disks.contents("disk.vhdx"), expected);
  disks.change("disk.vhdx", expected, 10);
  EXPECT_EQ(disks.contents("disk.vhdx"), expected);
  compare_with_qemu(disks, "disk.vhdx", expected);
}

TEST_P(OursTest, IsReadByLibvhdi) {
  if (run("/usr/bin/python3 -c 'import pyvhdi'").status != 0) {
    GTEST_SKIP() << "python3-libvhdi is not installed";
  }
  Disks disks;
  NewImage image = GetParam().image;
  image.disk_bytes = kDiskBytes;
  disks.create("disk.vhdx", image);
  std::string expected(kDiskBytes, '\0');
  disks.change("disk.vhdx", expected, 40);

  expect_success(run(std::string("/usr/bin/python3 ") + READ_WITH_LIBVHDI + " " +
                     disks / "libvhdi.raw" + " " + disks / "disk.vhdx"));

  EXPECT_EQ(disks.raw("libvhdi.raw"), expected);
}

INSTANTIATE_TEST_SUITE_P(
    Disks, OursTest,
    testing::Values(Kind{"Dynamic1M", {.block_bytes = 1U << 20U}}, Kind{"Dynamic2M", {}},
                    Kind{"Dynamic32M", {.block_bytes = 32U << 20U}},
                    Kind{"Fixed", {.block_bytes = 1U << 20U, .is_fixed = true}}),
    [](const auto& kind) { return kind.param.name; });

TEST(OursByLibvhdiTest, DifferencingDisksAreRead) {
  if (run("/usr/bin/python3 -c 'import pyvhdi'").status != 0) {
    GTEST_SKIP() << "python3-libvhdi is not installed";
  }
  Disks disks;
  disks.create("base.vhdx", {.disk_bytes = kDiskBytes});
  std::string expected(kDiskBytes, '\0');
  disks.change("base.vhdx", expected, 30);
  disks.create_child("middle.avhdx", "base.vhdx", "base.vhdx", "\\\\?\\C:\\base.vhdx");
  disks.change("middle.avhdx", expected, 15);
  disks.create_child("top.avhdx", "middle.avhdx", "middle.avhdx", "\\\\?\\C:\\middle.avhdx");
  disks.change("top.avhdx", expected, 5);

  expect_success(run(std::string("/usr/bin/python3 ") + READ_WITH_LIBVHDI + " " +
                     disks / "libvhdi.raw" + " " + disks / "top.avhdx" + " " +
                     disks / "middle.avhdx" + " " + disks / "base.vhdx"));

  EXPECT_EQ(disks.raw("libvhdi.raw"), expected);
}

class QemusTest : public testing::TestWithParam<std::string> {};

TEST_P(QemusTest, IsReadByUs) {
  Disks disks;
  expect_success(run("qemu-img create -q -f vhdx -o " + GetParam() + " " + disks / "disk.vhdx" +
                     " " + std::to_string(kDiskBytes)));
  std::string expected(kDiskBytes, '\0');
  EXPECT_EQ(disks.contents("disk.vhdx"), expected);
  expect_success(
      run("qemu-io -f vhdx -c 'write -P 65 1M 3M' -c 'write -P 66 20000256 512' -c "
          "'write -P 67 37M 4096' " +
          disks / "disk.vhdx"));
  expected.replace(kMiB, 3 * kMiB, 3 * kMiB, 'A').replace(20'000'256, 512, 512, 'B');
  expected.replace(37 * kMiB, 4096, 4096, 'C');
  EXPECT_EQ(disks.contents("disk.vhdx"), expected);

  disks.change("disk.vhdx", expected, 20);

  EXPECT_EQ(disks.contents("disk.vhdx"), expected);
  compare_with_qemu(disks, "disk.vhdx", expected);
}

INSTANTIATE_TEST_SUITE_P(Disks, QemusTest,
                         testing::Values("subformat=dynamic", "subformat=dynamic,block_size=1M",
                                         "subformat=dynamic,block_size=64M",
                                         "subformat=dynamic,block_state_zero=off",
                                         "subformat=dynamic,log_size=4M",
                                         "subformat=fixed,block_state_zero=off",
                                         "subformat=fixed,block_size=1M,block_state_zero=off"));

// What we leave in the log, QEMU must understand: the process ends after flush(), without close().
TEST(OursByQemuTest, ALogThatIsToBeReplayedIsReplayed) {
  Disks disks;
  disks.create("disk.vhdx", {.disk_bytes = kDiskBytes});
  SystemRandom random;
  std::string bat;
  {
    auto image = WritableImage::open(disks.open("disk.vhdx", LocalFile::Mode::kReadWrite),
                                     HasNoChildren{}, random);
    ASSERT_TRUE(image) << to_text(image.error());
    bat.resize(kLogSectorBytes);
    ASSERT_TRUE((*image)->file().read_at(3 * kMiB, bat));
    ASSERT_TRUE((*image)->write_at(5 * kMiB, std::string(1 * kMiB, 'x')));
    ASSERT_TRUE((*image)->flush());
    // The table never reached its place.
    ASSERT_TRUE((*image)->file().write_at(3 * kMiB, bat));
  }
  std::string expected(kDiskBytes, '\0');
  expected.replace(5 * kMiB, kMiB, kMiB, 'x');
  EXPECT_EQ(disks.contents("disk.vhdx"), expected);

  expect_success(run("qemu-io -f vhdx -c 'read -P 120 5M 1M' " + disks / "disk.vhdx"));

  compare_with_qemu(disks, "disk.vhdx", expected);
  EXPECT_EQ(disks.contents("disk.vhdx"), expected);
}

}  // namespace
}  // namespace farside::agent::vhdx
