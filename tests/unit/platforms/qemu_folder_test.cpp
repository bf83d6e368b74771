#include "services/agent/platforms/libvirt/qemu_folder.h"

#include <gtest/gtest.h>
#include <sys/stat.h>
#include <unistd.h>

#include <filesystem>
#include <fstream>

#include "tests/support/temp_folder.h"

namespace farside::agent::libvirt {
namespace {

constexpr uid_t kNobody = 65'534;
const std::optional<QemuUser> kQemu = QemuUser{.uid = kNobody, .gid = kNobody};

class QemuFolderTest : public testing::Test {
 protected:
  QemuFolderTest() : before_(::umask(077)) {}
  ~QemuFolderTest() override { ::umask(before_); }
  void SetUp() override {
    if (::geteuid() != 0) GTEST_SKIP() << "only root gives folders to another group";
    ::chmod(folder_.path().c_str(), 0711);
  }

  struct stat facts(const std::string& path) const {
    struct stat out{};
    EXPECT_EQ(::stat((folder_ / path).c_str(), &out), 0) << path;
    return out;
  }
  mode_t mode(const std::string& path) const { return facts(path).st_mode & ALLPERMS; }
  gid_t group(const std::string& path) const { return facts(path).st_gid; }

  const mode_t before_;
  const test::TempFolder folder_;
};

TEST_F(QemuFolderTest, LetsItsGroupPassAndNothingMore) {
  ASSERT_TRUE(make_qemu_folder(folder_ / "replicas/farside-vms/vm", kQemu, 2));

  EXPECT_EQ(mode("replicas/farside-vms/vm"), 0710U);
  EXPECT_EQ(mode("replicas/farside-vms"), 0710U);
  EXPECT_EQ(group("replicas/farside-vms"), kNobody);
  EXPECT_EQ(mode("replicas"), 0700U);
  EXPECT_EQ(group("replicas"), ::getegid());
}

TEST_F(QemuFolderTest, StaysClosedWhereQemuIsNobodyElse) {
  ASSERT_TRUE(make_qemu_folder(folder_ / "one", std::nullopt));
  ASSERT_TRUE(make_qemu_folder(folder_ / "two", QemuUser{.uid = 0, .gid = 0}));

  EXPECT_EQ(mode("one"), 0700U);
  EXPECT_EQ(mode("two"), 0700U);
}

TEST_F(QemuFolderTest, IsMendedWhereItsMakerWasKilled) {
  std::filesystem::create_directory(folder_ / "vm");
  ASSERT_EQ(mode("vm"), 0700U);

  ASSERT_TRUE(make_qemu_folder(folder_ / "vm", kQemu));

  EXPECT_EQ(mode("vm"), 0710U);
  EXPECT_EQ(group("vm"), kNobody);
}

TEST_F(QemuFolderTest, StaysAsSomebodyHasSetIt) {
  for (const mode_t rights : {0770U, 0750U, 0755U, 02770U, 0711U}) {
    std::filesystem::create_directory(folder_ / "vm");
    ASSERT_EQ(::chmod((folder_ / "vm").c_str(), rights), 0);

    ASSERT_TRUE(make_qemu_folder(folder_ / "vm", kQemu));

    EXPECT_EQ(mode("vm"), rights);
  }
}

// The kernel is the judge.
TEST_F(QemuFolderTest, IsEnteredByQemuAloneAndNamesTheFolderThatIsClosed) {
  ASSERT_TRUE(make_qemu_folder(folder_ / "data/scratch", kQemu));
  const Status closed = check_entry(folder_ / "data/scratch", *kQemu);
  ASSERT_FALSE(closed);
  EXPECT_EQ(closed.error().code, ErrorCode::kForbidden);
  EXPECT_NE(closed.error().what.find("may not enter the folder " + (folder_ / "data")),
            std::string::npos)
      << closed.error().what;
  EXPECT_NE(closed.error().advice.find("chmod o+x " + (folder_ / "data")), std::string::npos);

  ASSERT_TRUE(make_qemu_folder(folder_ / "data/scratch", kQemu,
                               levels_within(folder_ / "data/scratch", folder_ / "data")));

  EXPECT_TRUE(check_entry(folder_ / "data/scratch", *kQemu));
  EXPECT_FALSE(check_entry(folder_ / "data/scratch", {.uid = 12'345, .gid = 12'345}));
}

TEST_F(QemuFolderTest, WhereItMakesSocketsIsItsOwnWhateverItWas) {
  for (const mode_t before : {0700U, 0755U, 01777U}) {
    std::filesystem::create_directory(folder_ / "nbd");
    ASSERT_EQ(::chmod((folder_ / "nbd").c_str(), before), 0);

    ASSERT_TRUE(make_qemu_drop(folder_ / "nbd", kQemu));

    EXPECT_EQ(mode("nbd"), 0700U);
    EXPECT_EQ(facts("nbd").st_uid, kNobody);
    ASSERT_EQ(::chown((folder_ / "nbd").c_str(), 0, 0), 0);
  }
}

TEST_F(QemuFolderTest, ASocketThatItUsesIsItsOwn) {
  std::ofstream(folder_ / "socket") << "s";

  ASSERT_TRUE(share_with_qemu(folder_ / "socket", *kQemu));

  EXPECT_EQ(mode("socket"), 0600U);
  EXPECT_EQ(facts("socket").st_uid, kNobody);
  EXPECT_TRUE(share_with_qemu(folder_ / "socket", {.uid = 0, .gid = 0}));
}

TEST_F(QemuFolderTest, ADeviceIsTriedAsQemu) {
  std::ofstream(folder_ / "device") << "d";
  const Status closed = check_device(folder_ / "device", *kQemu);
  ASSERT_FALSE(closed);
  EXPECT_NE(closed.error().advice.find("adduser nobody kvm"), std::string::npos)
      << closed.error().advice;
  ASSERT_EQ(::chmod((folder_ / "device").c_str(), 0666), 0);

  EXPECT_TRUE(check_device(folder_ / "device", *kQemu));
  EXPECT_TRUE(check_device(folder_ / "absent", *kQemu));
}

TEST(QemuUserTest, IsReadFromWhatLibvirtSaysOfItself) {
  const auto user = [](const std::string& models) {
    return read_qemu_user("<capabilities><host>" + models + "</host></capabilities>").value();
  };
  EXPECT_EQ(user("<secmodel><model>apparmor</model></secmodel><secmodel><model>dac</model>"
                 "<doi>0</doi><baselabel type='kvm'>+64055:+106</baselabel>"
                 "<baselabel type='qemu'>+64055:+106</baselabel></secmodel>"),
            (QemuUser{.uid = 64'055, .gid = 106}));
  EXPECT_EQ(user(""), std::nullopt);
  EXPECT_EQ(user("<secmodel><model>dac</model><baselabel type='kvm'>qemu:qemu</baselabel>"
                 "</secmodel>"),
            std::nullopt);
}

TEST(LevelsTest, CountsThoseOfTheAgentsOwnFolder) {
  EXPECT_EQ(levels_within("/srv/data/scratch", "/srv/data"), 2);
  EXPECT_EQ(levels_within("/srv/data/a/b", "/srv/data"), 3);
  EXPECT_EQ(levels_within("/srv/data", "/srv/data"), 1);
  EXPECT_EQ(levels_within("/srv/other", "/srv/data"), 1);
  EXPECT_EQ(levels_within("/srv/database", "/srv/data"), 1);
  EXPECT_EQ(levels_within("/srv/other", ""), 1);
}

}  // namespace
}  // namespace farside::agent::libvirt
