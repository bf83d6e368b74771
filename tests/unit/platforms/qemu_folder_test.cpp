#include "services/agent/platforms/libvirt/qemu_folder.h"

#include <gtest/gtest.h>
#include <sys/stat.h>
#include <unistd.h>

#include <filesystem>

#include "tests/support/temp_folder.h"

namespace farside::agent::libvirt {
namespace {

class QemuFolderTest : public testing::Test {
 protected:
  QemuFolderTest() : before_(::umask(077)) {}
  ~QemuFolderTest() override { ::umask(before_); }

  mode_t mode(const std::string& path) const {
    struct stat facts{};
    EXPECT_EQ(::stat((folder_ / path).c_str(), &facts), 0) << path;
    return facts.st_mode & ALLPERMS;
  }

  const mode_t before_;
  const test::TempFolder folder_;
};

TEST_F(QemuFolderTest, LetsOthersPassAndNothingMore) {
  ASSERT_TRUE(make_qemu_folder(folder_ / "replicas/farside-vms/vm", 2));

  EXPECT_EQ(mode("replicas/farside-vms/vm"), 0711U);
  EXPECT_EQ(mode("replicas/farside-vms"), 0711U);
  EXPECT_EQ(mode("replicas"), 0700U);
}

TEST_F(QemuFolderTest, IsMendedWhereItsMakerWasKilled) {
  std::filesystem::create_directory(folder_ / "vm");
  ASSERT_EQ(mode("vm"), 0700U);

  ASSERT_TRUE(make_qemu_folder(folder_ / "vm"));

  EXPECT_EQ(mode("vm"), 0711U);
}

TEST_F(QemuFolderTest, StaysAsSomebodyHasSetIt) {
  for (const mode_t rights : {0770U, 0750U, 0755U, 02770U}) {
    std::filesystem::create_directory(folder_ / "vm");
    ASSERT_EQ(::chmod((folder_ / "vm").c_str(), rights), 0);

    ASSERT_TRUE(make_qemu_folder(folder_ / "vm"));

    EXPECT_EQ(mode("vm"), rights);
  }
}

}  // namespace
}  // namespace farside::agent::libvirt
