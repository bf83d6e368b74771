// A real guest, moved: what a point holds boots elsewhere and continues the same history.
#include <gmock/gmock.h>
#include <poll.h>

#include <filesystem>
#include <fstream>

#include "services/agent/platforms/deadline.h"
#include "services/agent/platforms/libvirt/program.h"
#include "tests/contract/platform/libvirt_host.h"
#include "tests/contract/platform/replica.h"
#include "tests/support/guest/checker.h"

namespace farside::agent {
namespace {

using std::chrono::seconds;

class FailoverTest : public testing::Test {
 protected:
  static LibvirtHost& host() { return LibvirtHost::shared(); }
  static Platform& platform() { return host().platform(); }

  void SetUp() override {
    ASSERT_TRUE(platform().reconcile({}));
    ASSERT_TRUE(platform().start(host().witness()));
    ASSERT_TRUE(platform().forget_tokens(host().witness()));
  }

  // Writes the disks of a new point into raw files, and returns their paths.
  std::vector<std::string> export_point(const std::string& token) {
    auto point = platform().create_point(
        {.vm_id = host().witness(), .token = token, .since = "", .app_consistent = false});
    EXPECT_TRUE(point) << (point ? "" : to_text(point.error()));
    Replica replica;
    EXPECT_TRUE(replica.copy_all(**point));
    EXPECT_TRUE((*point)->close());
    std::vector<std::string> paths;
    for (std::size_t i = 0; i < replica.disks().size(); ++i) {
      paths.push_back(host().path(token + "-" + std::to_string(i) + ".raw"));
      std::ofstream(paths.back(), std::ios::binary)
          .write(replica.disks()[i].data(),
                 static_cast<std::streamsize>(replica.disks()[i].size()));
    }
    return paths;
  }

  // The shape of the witness as another VM over views of these images.
  NewVm successor(const std::string& name, const std::vector<std::string>& images) {
    NewVm vm = host().new_vm(name);
    const auto shape = platform().describe_vm(host().witness());
    EXPECT_TRUE(shape);
    vm.shape = *shape;
    vm.shape.name = name;
    vm.serial_log = host().path(name + ".log");
    vm.disks.clear();
    for (std::size_t i = 0; i < images.size(); ++i) {
      const std::string disk = shape->disks[i].name;
      vm.disks.push_back({.name = disk,
                          .bytes = shape->disks[i].bytes,
                          .overlay_path = host().path("overlays/" + name + "-" + disk),
                          .nbd_socket = host().serve(images[i], "raw"),
                          .nbd_export = "view"});
    }
    return vm;
  }

  // False if the guest does not report more than `seq` in time.
  bool reports_more_than(const std::string& log, const std::string& what, std::uint64_t seq) {
    for (const Deadline deadline(seconds(90)); host().reported(log, what) <= seq;) {
      if (!deadline.pause()) return false;
    }
    return true;
  }

  static guest::Verdict check(const std::vector<std::string>& images,
                              const guest::CheckOptions& options) {
    std::vector<std::unique_ptr<guest::Image>> disks;
    for (const std::string& path : images) {
      auto image = guest::open_image(path);
      EXPECT_TRUE(image) << (image ? "" : to_text(image.error()));
      if (!image) return {};
      disks.push_back(std::move(*image));
    }
    return guest::check(disks, options).value_or(guest::Verdict{});
  }
};

TEST_F(FailoverTest, TheGuestContinuesFromThePointAndThenWithoutTheView) {
  host().write_more(20);
  const std::uint64_t acknowledged = host().acknowledged();
  const std::vector<std::string> images = export_point("failover");
  const guest::Verdict point = check(images, {.acknowledged = acknowledged});
  ASSERT_TRUE(point.ok) << to_json(point);
  const NewVm vm = successor("successor", images);

  const auto created = platform().create_vm(vm);
  ASSERT_TRUE(created) << to_text(created.error());
  ASSERT_TRUE(reports_more_than("successor.log", "acknowledged", point.newest));
  EXPECT_EQ(host().reported("successor.log", "resumed"), point.newest);

  // The server of a view is restarted: the guest must not notice more than a pause.
  host().stop_serving(vm.disks[0].nbd_socket);
  host().serve_again(vm.disks[0].nbd_socket, images[0], "raw");
  const std::uint64_t before = host().reported("successor.log", "acknowledged");
  ASSERT_TRUE(reports_more_than("successor.log", "acknowledged", before + 20));

  Result<BlockProgress> progress = platform().detach_view(vm.id);
  for (const Deadline deadline(seconds(60)); progress && !progress->finished;) {
    ASSERT_TRUE(deadline.pause());
    progress = platform().detach_view(vm.id);
  }
  ASSERT_TRUE(progress) << to_text(progress.error());
  for (const NewDisk& disk : vm.disks) host().stop_serving(disk.nbd_socket);
  const std::uint64_t detached = host().reported("successor.log", "acknowledged");
  ASSERT_TRUE(reports_more_than("successor.log", "acknowledged", detached + 20));

  // Protected the other way round, the new VM is a source like any other.
  auto reverse = platform().create_point(
      {.vm_id = vm.id, .token = "reverse", .since = "", .app_consistent = false});
  ASSERT_TRUE(reverse) << to_text(reverse.error());
  Replica replica;
  ASSERT_TRUE(replica.copy_all(**reverse));
  EXPECT_TRUE(replica.check({.acknowledged = detached})->ok);
  ASSERT_TRUE((*reverse)->close());

  const auto shut = platform().shut_down(vm.id, 60);
  ASSERT_TRUE(shut) << to_text(shut.error());
  EXPECT_FALSE(shut->forced);
  const std::uint64_t final_seq = host().reported("successor.log", "final");
  const guest::Verdict end =
      check({vm.disks[0].overlay_path, vm.disks[1].overlay_path}, {.acknowledged = final_seq});
  EXPECT_TRUE(end.ok) << to_json(end);
  EXPECT_EQ(end.newest, final_seq);
  EXPECT_TRUE(check(images, {.acknowledged = point.newest}).ok) << "the view was only read";
  ASSERT_TRUE(platform().destroy_vm(vm.id, /*delete_overlays=*/true));
  ASSERT_TRUE(platform().start(host().witness()));
}

TEST_F(FailoverTest, TheGuestAgentMakesAPointConsistentForApplications) {
  host().write_more(20);
  PointRequest request{
      .vm_id = host().witness(), .token = "app-0", .since = "", .app_consistent = true};
  auto point = platform().create_point(request);
  // The agent in the guest needs a moment after the boot.
  for (const Deadline deadline(seconds(60)); point && !(*point)->is_app_consistent();) {
    ASSERT_TRUE(deadline.pause());
    ASSERT_TRUE((*point)->abandon());
    host().write_more(20);
    request.token = "app-" + std::to_string(host().acknowledged());
    point = platform().create_point(request);
  }
  ASSERT_TRUE(point) << to_text(point.error());
  Replica replica;
  ASSERT_TRUE(replica.copy_all(**point));
  ASSERT_TRUE((*point)->close());

  const auto verdict = replica.check({});
  ASSERT_TRUE(verdict);
  EXPECT_TRUE(verdict->ok) << to_json(*verdict);
  EXPECT_FALSE(verdict->partial);
  EXPECT_EQ(verdict->newest, host().reported("witness.log", "quiesced"))
      << "the guest wrote nothing between the agent's word and the point";
  host().write_more(20);  // And goes on afterwards.

  request = {.vm_id = host().deaf(), .token = "app", .since = "", .app_consistent = true};
  auto without_agent = platform().create_point(request);
  ASSERT_TRUE(without_agent) << to_text(without_agent.error());
  EXPECT_FALSE((*without_agent)->is_app_consistent());
  ASSERT_TRUE((*without_agent)->close());
  ASSERT_TRUE(platform().forget_tokens(host().deaf()));
}

TEST_F(FailoverTest, AFullScratchDirectoryLosesThePointAndNotTheGuest) {
  const auto open = [&](std::uint64_t reserve) {
    host().options().scratch_reserve_bytes = reserve;
    host().restart_agent();
    return platform().create_point(
        {.vm_id = host().witness(), .token = "full", .since = "", .app_consistent = false});
  };
  const std::uint64_t free = std::filesystem::space(host().path("scratch")).available;
  const std::uint64_t usual = host().options().scratch_reserve_bytes;

  const auto refused = open(free + (1ULL << 40U));
  EXPECT_EQ(refused ? ErrorCode{} : refused.error().code, ErrorCode::kNoSpace);
  auto point = open(free - (512U << 20U));
  ASSERT_TRUE(point) << to_text(point.error());
  EXPECT_FALSE((*point)->is_lost());
  const std::string filler = host().path("filler");
  const auto filled = libvirt::run_program({"fallocate", "-l", "1G", filler}, seconds(30));
  ASSERT_TRUE(filled && filled->exit_code == 0);
  for (const Deadline deadline(seconds(20)); !(*point)->is_lost();) ASSERT_TRUE(deadline.pause());

  std::filesystem::remove(filler);
  ASSERT_TRUE((*point)->abandon());
  point->reset();
  host().options().scratch_reserve_bytes = usual;
  host().restart_agent();
  const std::uint64_t acknowledged = host().write_more(20);
  const auto images = export_point("after");
  EXPECT_TRUE(check(images, {.acknowledged = acknowledged}).ok);
}

TEST_F(FailoverTest, ABitmapLeftInconsistentByAKilledHypervisorIsLostTracking) {
  auto first = platform().create_point(
      {.vm_id = host().witness(), .token = "first", .since = "", .app_consistent = false});
  ASSERT_TRUE(first) << to_text(first.error());
  ASSERT_TRUE((*first)->close());
  // The bitmap is written into the image at a clean end, and marked in use at the next start.
  ASSERT_TRUE(platform().power_off(host().witness()));
  const auto started = platform().start(host().witness());
  ASSERT_TRUE(started) << to_text(started.error());
  host().lose_tracking();

  const PointRequest since_first{
      .vm_id = host().witness(), .token = "second", .since = "first", .app_consistent = false};
  const auto lost = platform().create_point(since_first);
  EXPECT_EQ(lost ? ErrorCode{} : lost.error().code, ErrorCode::kTrackingLost);
  const auto images = export_point("third");
  EXPECT_TRUE(check(images, {.blank_is_ok = true}).ok);

  const auto info = libvirt::run_program(
      {"qemu-img", "info", "--force-share", host().path("witness-a.qcow2")}, seconds(30));
  ASSERT_TRUE(info);
  EXPECT_THAT(info->output, testing::Not(testing::HasSubstr("farside-first")))
      << "broken bitmaps are not left in the images";
}

}  // namespace
}  // namespace farside::agent
