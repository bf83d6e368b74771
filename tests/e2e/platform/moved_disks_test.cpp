// A VM whose disks have been moved out of its view has them for good, whatever becomes of its QEMU.
#include <gmock/gmock.h>

#include <chrono>
#include <csignal>
#include <filesystem>

#include "services/agent/platforms/deadline.h"
#include "services/agent/platforms/libvirt/domain_jobs.h"
#include "services/agent/platforms/libvirt/program.h"
#include "services/agent/platforms/libvirt/qcow2_header.h"
#include "tests/contract/platform/libvirt_host.h"

namespace farside::agent {
namespace {

using std::chrono::seconds;
using testing::HasSubstr;

class MovedDisksTest : public testing::Test {
 protected:
  static LibvirtHost& host() { return LibvirtHost::shared(); }
  static Platform& platform() { return host().platform(); }

  static void SetUpTestSuite() {
    ASSERT_TRUE(platform().reconcile({}));
    ASSERT_TRUE(platform().power_off(host().witness()));  // It only costs time here.
  }

  // Of a guest that runs nothing: nobody flushes its disk.
  NewVm create(const std::string& name) {
    NewVm vm = host().new_vm(name);
    const auto created = platform().create_vm(vm);
    EXPECT_TRUE(created) << to_text(created.error());
    EXPECT_EQ(virDomainSuspend(domain(vm).get()), 0);
    return vm;
  }

  static libvirt::DomainHandle domain(const NewVm& vm) {
    return libvirt::DomainHandle(virDomainLookupByUUIDString(host().connection(), vm.id.c_str()));
  }

  static std::string xml(const NewVm& vm) {
    return libvirt::take_text(virDomainGetXMLDesc(domain(vm).get(), 0));
  }

  static Result<BlockProgress> detach(const NewVm& vm) {
    auto progress = platform().detach_view(vm.id);
    for (const Deadline deadline(seconds(120)); progress && !progress->finished;) {
      EXPECT_LE(progress->done, progress->total);
      if (!deadline.pause()) return fail(ErrorCode::kTimeout, "it is not detached");
      progress = platform().detach_view(vm.id);
    }
    return progress;
  }

  // Only as far as QEMU's own word for it.
  static void pull(const NewVm& vm) {
    ASSERT_TRUE(platform().detach_view(vm.id));
    for (const Deadline deadline(seconds(120)); xml(vm).contains("protocol='nbd'");) {
      ASSERT_TRUE(deadline.pause());
    }
  }

  static void kill_qemu(const NewVm& vm) {
    const pid_t pid = LibvirtHost::pid_of(host().connection(), host().options().root, vm.id);
    ASSERT_GT(pid, 0);
    ::kill(pid, SIGKILL);
    for (const Deadline deadline(seconds(20)); virDomainIsActive(domain(vm).get()) == 1;) {
      ASSERT_TRUE(deadline.pause());
    }
  }

  static std::string backing(const std::string& image) {
    const auto header = libvirt::read_qcow2_header(image);
    return header ? header->backing : to_text(header.error());
  }

  static bool is_whole(const std::string& image) {
    const auto compared = libvirt::run_program(
        {"qemu-img", "compare", "-f", "raw", "-F", "qcow2", host().path("view.raw"), image},
        seconds(60));
    EXPECT_TRUE(compared);
    if (compared->exit_code != 0) ADD_FAILURE() << compared->output;
    return backing(image).empty();
  }

  static void remove(const NewVm& vm) { ASSERT_TRUE(platform().destroy_vm(vm.id, true)); }
};

TEST_F(MovedDisksTest, WhatIsFinishedOutlivesAQemuThatIsKilledAndNobodyFlushed) {
  const NewVm vm = create("moved");

  const auto detached = detach(vm);
  kill_qemu(vm);

  ASSERT_TRUE(detached) << to_text(detached.error());
  EXPECT_TRUE(is_whole(vm.disks[0].overlay_path));
  ASSERT_TRUE(platform().detach_view(vm.id)->finished) << "once proven, it stays so";
  remove(vm);
}

// Tools that define their VMs anew know nothing of our mark.
TEST_F(MovedDisksTest, AVmThatLostItsMarkIsNotCalledMovedWhileItReadsItsView) {
  const NewVm vm = create("unmarked");
  const unsigned where = VIR_DOMAIN_AFFECT_LIVE | VIR_DOMAIN_AFFECT_CONFIG;
  char* text = virDomainGetMetadata(domain(vm).get(), VIR_DOMAIN_METADATA_ELEMENT,
                                    libvirt::kMarkSpace, VIR_DOMAIN_AFFECT_CONFIG);
  const std::string mark = libvirt::take_text(text);
  ASSERT_EQ(virDomainSetMetadata(domain(vm).get(), VIR_DOMAIN_METADATA_ELEMENT, nullptr, nullptr,
                                 libvirt::kMarkSpace, where),
            0);

  const auto detached = platform().detach_view(vm.id);

  ASSERT_FALSE(detached);
  EXPECT_EQ(detached.error().code, ErrorCode::kConflict);
  EXPECT_THAT(detached.error().advice, HasSubstr("virsh blockpull"));
  ASSERT_EQ(virDomainBlockPull(domain(vm).get(), "vda", 0, 0), 0);
  for (const Deadline deadline(seconds(120)); !platform().detach_view(vm.id);) {
    ASSERT_TRUE(deadline.pause());
  }
  EXPECT_EQ(backing(vm.disks[0].overlay_path), "");
  ASSERT_EQ(virDomainSetMetadata(domain(vm).get(), VIR_DOMAIN_METADATA_ELEMENT, mark.c_str(),
                                 "farside", libvirt::kMarkSpace, where),
            0);
  remove(vm);
}

TEST_F(MovedDisksTest, AVmThatEndsWithItsTablesUnwrittenReadsItsViewAgain) {
  const NewVm vm = create("lost");
  const std::string& overlay = vm.disks[0].overlay_path;
  pull(vm);
  kill_qemu(vm);
  ASSERT_EQ(backing(overlay), "") << "QEMU has entered that it stands on nothing";

  host().restart_agent();
  const auto off = detach(vm);

  ASSERT_FALSE(off) << "blocks are missing";
  EXPECT_EQ(off.error().code, ErrorCode::kConflict) << to_text(off.error());
  EXPECT_THAT(backing(overlay), HasSubstr("nbd"));
  EXPECT_THAT(xml(vm), HasSubstr("protocol='nbd'"));
  ASSERT_TRUE(platform().start(vm.id));
  EXPECT_THAT(xml(vm), HasSubstr("protocol='nbd'"));
  const auto detached = detach(vm);
  ASSERT_TRUE(detached) << to_text(detached.error());
  kill_qemu(vm);
  EXPECT_TRUE(is_whole(overlay));
  remove(vm);
}

TEST_F(MovedDisksTest, AStartNeverMeetsADiskThatLostBlocks) {
  const NewVm vm = create("started");
  pull(vm);
  kill_qemu(vm);

  const auto started = platform().start(vm.id);

  ASSERT_TRUE(started) << to_text(started.error());
  EXPECT_THAT(xml(vm), HasSubstr("protocol='nbd'"));
  const auto detached = detach(vm);
  ASSERT_TRUE(detached) << to_text(detached.error());
  kill_qemu(vm);
  EXPECT_TRUE(is_whole(vm.disks[0].overlay_path));
  remove(vm);
}

TEST_F(MovedDisksTest, AVmThatSomebodyStartedWithoutItsBlocksIsNeverCalledMoved) {
  const NewVm vm = create("by-hand");
  pull(vm);
  kill_qemu(vm);
  ASSERT_EQ(virDomainCreate(domain(vm).get()), 0);

  const auto detached = detach(vm);

  ASSERT_FALSE(detached);
  EXPECT_EQ(detached.error().code, ErrorCode::kCorrupt) << to_text(detached.error());
  remove(vm);
}

TEST_F(MovedDisksTest, AVmThatIsShutDownAfterTheCopyIsProvenFromItsFile) {
  const NewVm vm = create("off");
  pull(vm);
  ASSERT_TRUE(platform().power_off(vm.id));

  const auto detached = detach(vm);

  ASSERT_TRUE(detached) << to_text(detached.error());
  EXPECT_TRUE(is_whole(vm.disks[0].overlay_path));
  remove(vm);
}

TEST_F(MovedDisksTest, ASnapshotThatSomebodyPutOnTopIsWhatMustBeWhole) {
  const NewVm vm = create("snapshot");
  const std::string top = host().path("top.qcow2");
  const std::string snapshot =
      "<domainsnapshot><disks><disk name='vda' snapshot='external'><source file='" + top +
      "'/></disk></disks></domainsnapshot>";
  const auto made = virDomainSnapshotCreateXML(
      domain(vm).get(), snapshot.c_str(),
      VIR_DOMAIN_SNAPSHOT_CREATE_DISK_ONLY | VIR_DOMAIN_SNAPSHOT_CREATE_NO_METADATA);
  ASSERT_NE(made, nullptr) << libvirt::libvirt_error("snapshot").error().what;
  virDomainSnapshotFree(made);

  const auto detached = detach(vm);
  kill_qemu(vm);

  ASSERT_TRUE(detached) << to_text(detached.error());
  EXPECT_TRUE(is_whole(top));
  remove(vm);
}

TEST_F(MovedDisksTest, ACopyThatWasCutGoesOnFromItsView) {
  const NewVm vm = create("cut");
  ASSERT_EQ(virDomainBlockPull(domain(vm).get(), "vda", 1, 0), 0);  // At 1 MiB/s.
  kill_qemu(vm);

  const auto off = platform().detach_view(vm.id);
  ASSERT_FALSE(off);
  EXPECT_EQ(off.error().code, ErrorCode::kConflict) << to_text(off.error());
  ASSERT_TRUE(platform().start(vm.id));
  const auto detached = detach(vm);

  ASSERT_TRUE(detached) << to_text(detached.error());
  kill_qemu(vm);
  EXPECT_TRUE(is_whole(vm.disks[0].overlay_path));
  remove(vm);
}

}  // namespace
}  // namespace farside::agent
