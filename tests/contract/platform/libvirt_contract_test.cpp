// The contract of platforms, kept by libvirt with real guests; and what only libvirt has to keep.
#include <sys/stat.h>
#include <unistd.h>

#include "services/agent/platforms/libvirt/program.h"
#include "services/agent/platforms/libvirt/qemu_user.h"
#include "tests/contract/platform/libvirt_host.h"
#include "tests/contract/platform/platform_contract.h"

namespace farside::agent {
namespace {

// The kernel is the judge.
bool may_read(const std::string& path, uid_t uid) {
  const auto tried =
      libvirt::run_program({"setpriv", "--reuid", std::to_string(uid), "--regid",
                            std::to_string(uid), "--clear-groups", "--", "test", "-r", path},
                           std::chrono::seconds(10));
  EXPECT_TRUE(tried);
  EXPECT_LE(tried->exit_code, 1) << tried->output;
  return tried->exit_code == 0;
}

TEST(LibvirtQemuTest, IsNotRootAndItsDisksAreNobodyElses) {
  if (::geteuid() != 0) GTEST_SKIP() << "QEMU runs as this user, who is not root";
  auto& host = LibvirtHost::shared();
  const auto user = libvirt::embedded_qemu_user();
  ASSERT_TRUE(user);
  NewVm vm = host.new_vm("owned");
  vm.disks[0].overlay_path = host.path("owned/" + vm.id + "/vda.qcow2");
  const mode_t before = ::umask(077);  // As in every program of ours.
  const Status created = host.platform().create_vm(vm);
  ::umask(before);
  ASSERT_TRUE(created) << to_text(created.error());

  for (const std::string& id : {std::string(host.witness()), vm.id}) {
    const pid_t pid = LibvirtHost::pid_of(host.connection(), host.options().root, id);
    ASSERT_GT(pid, 0);
    struct stat process{};
    ASSERT_EQ(::stat(("/proc/" + std::to_string(pid)).c_str(), &process), 0);
    EXPECT_EQ(process.st_uid, user->uid);
    EXPECT_NE(process.st_uid, 0U);
  }
  const std::string& disk = vm.disks[0].overlay_path;
  constexpr uid_t kNobody = 65'534;
  EXPECT_TRUE(may_read(disk, 0));
  EXPECT_FALSE(may_read(disk, kNobody));
  EXPECT_FALSE(may_read(std::filesystem::path(disk).parent_path().string(), kNobody));

  EXPECT_TRUE(host.platform().destroy_vm(vm.id, true));
}

}  // namespace

INSTANTIATE_TYPED_TEST_SUITE_P(Libvirt, PlatformContract, LibvirtHost);

}  // namespace farside::agent
