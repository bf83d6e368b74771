// A chain of VHDX files over NBD, with the real nbdkit and QEMU's tools as the client.
#include <filesystem>

#include "tests/integration/vhdx/disks.h"

namespace farside::agent::vhdx {
namespace {

using test::Disks;
using test::Outcome;
using test::run;

constexpr std::uint64_t kDiskBytes = 20 * kMiB;

// Runs a command with the disk at $uri; nbdkit ends with it.
Outcome serve(const std::string& options, const std::string& command) {
  return run(std::string("timeout 120 nbdkit -U - ") + VHDX_NBD_PLUGIN + " " + options +
             " --run '" + command + "'");
}

struct NbdTest : testing::Test {
  Disks disks;
  std::string expected = std::string(kDiskBytes, '\0');

  // base <- sub/middle (by relative path) <- top (by absolute path, in another folder).
  void SetUp() override {
    std::filesystem::create_directories(disks / "sub");
    std::filesystem::create_directories(disks / "vms/web");
    disks.create("base.vhdx", {.disk_bytes = kDiskBytes});
    disks.change("base.vhdx", expected, 20);
    disks.create_child("sub/middle.avhdx", "base.vhdx", "..\\base.vhdx", "");
    disks.change("sub/middle.avhdx", expected, 8);
    disks.create_child("vms/web/top.avhdx", "sub/middle.avhdx", "", "\\\\?\\C:\\sub\\middle.avhdx");
  }
  std::string options() const {
    return "file=" + disks / "vms/web/top.avhdx" + " root=" + disks / ".";
  }
  void expect_served() {
    disks.write_raw("expected.raw", expected);
    const Outcome outcome = serve(
        "-r " + options(), "qemu-img compare -f raw -F raw \"$uri\" " + disks / "expected.raw");
    EXPECT_EQ(outcome.status, 0) << outcome.output;
  }
};

TEST_F(NbdTest, ReadsThroughAllParents) {
  expect_served();
}

TEST_F(NbdTest, WritesGoIntoTheTopAndStay) {
  const std::string base = disks.raw("base.vhdx");
  const std::string middle = disks.raw("sub/middle.avhdx");

  const Outcome outcome = serve(options(),
                                "qemu-io -f raw -c \"write -P 65 1M 3M\" -c \"write -P 66 512 512\""
                                " -c \"write -z 5M 512\" -c flush -c \"read -P 65 2M 1M\""
                                " -c \"discard 8M 4M\" -c \"write -P 67 12582912 65536\" \"$uri\"");

  EXPECT_EQ(outcome.status, 0) << outcome.output;
  expected.replace(kMiB, 3 * kMiB, 3 * kMiB, 'A').replace(512, 512, 512, 'B');
  expected.replace(5 * kMiB, 512, 512, '\0').replace(8 * kMiB, 4 * kMiB, 4 * kMiB, '\0');
  expected.replace(12 * kMiB, 65536, 65536, 'C');
  expect_served();
  EXPECT_EQ(disks.raw("base.vhdx"), base);
  EXPECT_EQ(disks.raw("sub/middle.avhdx"), middle);
  EXPECT_FALSE(outcome.output.contains("error")) << outcome.output;
}

TEST_F(NbdTest, TellsWhatIsZeros) {
  disks.create("empty.vhdx", {.disk_bytes = kDiskBytes});

  const Outcome map = serve("-r file=" + disks / "empty.vhdx", "nbdinfo --map --totals \"$uri\"");

  EXPECT_EQ(map.status, 0) << map.output;
  EXPECT_TRUE(map.output.contains("100.0%")) << map.output;
  EXPECT_TRUE(map.output.contains("hole,zero")) << map.output;
}

TEST_F(NbdTest, RefusesAChainWithoutAParent) {
  std::filesystem::remove(disks / "base.vhdx");

  const Outcome outcome = serve(options(), "qemu-img info \"$uri\"");

  EXPECT_NE(outcome.status, 0);
  EXPECT_TRUE(outcome.output.contains("parent 2 of the disk")) << outcome.output;
}

TEST_F(NbdTest, IsReadOnlyOnRequest) {
  const Outcome outcome = serve("-r " + options(), "qemu-io -f raw -c \"write 0 512\" \"$uri\"");

  EXPECT_NE(outcome.status, 0);
}

}  // namespace
}  // namespace farside::agent::vhdx
