// Farside never harms production: real guests, and operators and other tools who do with them what
// they do while points are taken.
#include <fcntl.h>
#include <gmock/gmock.h>
#include <libvirt/virterror.h>
#include <poll.h>
#include <sys/wait.h>

#include <atomic>
#include <filesystem>
#include <future>
#include <thread>

#include "services/agent/platforms/deadline.h"
#include "services/agent/platforms/libvirt/domain_jobs.h"
#include "services/agent/platforms/libvirt/image_file.h"
#include "services/agent/platforms/libvirt/program.h"
#include "tests/contract/platform/libvirt_host.h"
#include "tests/contract/platform/replica.h"

namespace farside::agent {
namespace {

using libvirt::DomainHandle;
using std::chrono::milliseconds;
using std::chrono::seconds;
using testing::HasSubstr;

template <class T>
std::string why(const Result<T>& result) {
  return result ? "" : to_text(result.error());
}

template <class T>
ErrorCode code(const Result<T>& result) {
  return result ? ErrorCode{0} : result.error().code;
}

void wait(milliseconds time) {
  for (const Deadline deadline(time); deadline.pause();) {
  }
}

class ProductionTest : public testing::Test {
 protected:
  static LibvirtHost& host() { return LibvirtHost::shared(); }
  static Platform& platform() { return host().platform(); }

  void SetUp() override {
    ASSERT_TRUE(platform().reconcile({}));
    ASSERT_TRUE(platform().start(host().witness()));
    ASSERT_TRUE(platform().forget_tokens(host().witness()));
    host().write_more(10);
  }

  // What an operator's tool holds.
  static DomainHandle domain(const std::string& id) {
    return DomainHandle(virDomainLookupByUUIDString(host().connection(), id.c_str()));
  }
  static DomainHandle witness() { return domain(host().witness()); }

  static Result<std::unique_ptr<Point>> point(const std::string& token,
                                              const std::string& since = "") {
    return platform().create_point({.vm_id = host().witness(), .token = token, .since = since});
  }

  void follow(const std::string& token, const std::string& since) {
    auto next = point(token, since);
    ASSERT_TRUE(next) << why(next);
    const auto changed = replica_.apply_changes(**next);
    ASSERT_TRUE(changed) << why(changed);
    bytes_ = *changed;
    const auto closed = (*next)->close();
    ASSERT_TRUE(closed) << why(closed);
  }

  testing::AssertionResult replica_has(std::uint64_t seq) {
    const auto verdict = replica_.check({.acknowledged = seq});
    if (!verdict) return testing::AssertionFailure() << to_text(verdict.error());
    if (!verdict->ok) return testing::AssertionFailure() << to_json(*verdict);
    return testing::AssertionSuccess();
  }

  static void turn_off() {
    const auto shut = platform().shut_down(host().witness(), 60);
    ASSERT_TRUE(shut) << why(shut);
    ASSERT_FALSE(shut->forced);
  }

  Replica replica_;
  std::uint64_t bytes_ = 0;
};

TEST_F(ProductionTest, ASavedStateSurvivesPointsAndIsWhatTheVmGoesOnFrom) {
  follow("first", "");
  const std::uint64_t acknowledged = host().write_more(10);
  const std::uint64_t boots = host().reported("witness.log", "resumed");
  ASSERT_EQ(virDomainManagedSave(witness().get(), 0), 0) << libvirt::libvirt_error("").error().what;
  const auto is_saved = [] { return virDomainHasManagedSaveImage(witness().get(), 0); };
  ASSERT_EQ(is_saved(), 1);

  follow("second", "first");
  EXPECT_TRUE(replica_has(acknowledged));
  follow("third", "second");
  EXPECT_EQ(bytes_, 0U);
  EXPECT_EQ(is_saved(), 1) << "points";
  ASSERT_TRUE(platform().reconcile({}));
  host().restart_agent();
  ASSERT_TRUE(platform().reconcile({}));
  ASSERT_TRUE(platform().list_vms());
  follow("fourth", "third");
  EXPECT_EQ(is_saved(), 1) << "a restart of the agent";
  ASSERT_TRUE(platform().power_off(host().witness()));
  ASSERT_TRUE(platform().forget_tokens(host().deaf()));
  const auto shut_down = platform().shut_down(host().witness(), 5);
  ASSERT_FALSE(shut_down) << "its memory would not go along to another host";
  EXPECT_EQ(shut_down.error().code, ErrorCode::kConflict);
  EXPECT_EQ(is_saved(), 1);

  ASSERT_EQ(virDomainCreate(witness().get()), 0);
  EXPECT_EQ(is_saved(), 0);
  const std::uint64_t newest = host().write_more(10);
  EXPECT_EQ(host().reported("witness.log", "resumed"), boots) << "it was not booted";
  follow("fifth", "fourth");
  EXPECT_GT(bytes_, 0U);
  EXPECT_TRUE(replica_has(newest));
}

// As `libvirt-guests` does when its host goes down, or an operator who does not wait.
TEST_F(ProductionTest, ASaveInPlaceOfAShutdownIsNoShutdown) {
  ASSERT_TRUE(platform().start(host().deaf()));
  auto saved = std::async(std::launch::async, [] {
    wait(seconds{2});
    return virDomainManagedSave(domain(host().deaf()).get(), 0);
  });

  const auto shut_down = platform().shut_down(host().deaf(), 60);

  ASSERT_FALSE(shut_down) << "its memory would be left behind";
  EXPECT_EQ(shut_down.error().code, ErrorCode::kConflict);
  ASSERT_EQ(saved.get(), 0);
  ASSERT_EQ(virDomainManagedSaveRemove(domain(host().deaf()).get(), 0), 0);
  ASSERT_TRUE(platform().start(host().deaf()));
}

// The undo of a failover starts what it has shut down, and nothing else.
TEST_F(ProductionTest, AVmThatItsOperatorSavedIsNotStartedForHim) {
  ASSERT_TRUE(platform().start(host().deaf()));
  ASSERT_EQ(virDomainManagedSave(domain(host().deaf()).get(), 0), 0);

  EXPECT_EQ(code(platform().start(host().deaf())), ErrorCode::kAlreadyExists);

  EXPECT_EQ(virDomainHasManagedSaveImage(domain(host().deaf()).get(), 0), 1);
  EXPECT_EQ(virDomainIsActive(domain(host().deaf()).get()), 0);
  ASSERT_EQ(virDomainManagedSaveRemove(domain(host().deaf()).get(), 0), 0);
  ASSERT_TRUE(platform().start(host().deaf()));
}

TEST_F(ProductionTest, AGuestWhoseQemuStandsKeepsNoOtherFromBeingReplicatedAfterARestart) {
  ASSERT_TRUE(platform().start(host().deaf()));
  {
    const auto open = platform().create_point({.vm_id = host().deaf(), .token = "d-1"});
    ASSERT_TRUE(open) << why(open);
  }
  const pid_t qemu = LibvirtHost::pid_of(host().connection(), host().options().root, host().deaf());
  ASSERT_GT(qemu, 0);
  ASSERT_EQ(::kill(qemu, SIGSTOP), 0);

  host().restart_agent();
  const auto reconciled = platform().reconcile({});
  EXPECT_TRUE(reconciled) << why(reconciled);
  auto other = point("w-1", "");
  EXPECT_TRUE(other) << why(other);
  if (other) {
    EXPECT_TRUE((*other)->abandon());
  }

  ASSERT_EQ(::kill(qemu, SIGCONT), 0);
  for (int i = 0; i < 120; ++i) {
    const auto again = platform().create_point({.vm_id = host().deaf(), .token = "d-2"});
    if (again) {
      EXPECT_TRUE((*again)->abandon());
      break;
    }
    ASSERT_LT(i, 119) << why(again);
    wait(seconds{1});
  }
  ASSERT_TRUE(platform().forget_tokens(host().deaf()));
}

TEST_F(ProductionTest, AnOperatorsStartWinsAgainstThePointOfAVmThatIsOff) {
  follow("first", "");
  turn_off();
  auto open = point("second", "first");
  ASSERT_TRUE(open) << why(open);
  Replica partly = replica_;
  ASSERT_TRUE(partly.apply_changes(**open)) << "the images are open now";
  EXPECT_FALSE((*open)->is_lost());

  ASSERT_EQ(virDomainCreate(witness().get()), 0) << libvirt::libvirt_error("start").error().what;

  EXPECT_TRUE((*open)->is_lost());
  EXPECT_EQ((*open)->loss().code, ErrorCode::kBusy);
  EXPECT_EQ(code((*open)->close()), ErrorCode::kBusy) << "what may be torn is not confirmed";
  EXPECT_TRUE((*open)->abandon());
  const std::uint64_t newest = host().write_more(20);
  EXPECT_EQ(virDomainIsActive(witness().get()), 1);
  follow("third", "first");
  EXPECT_TRUE(replica_has(newest));
}

TEST_F(ProductionTest, AnAttemptThatWasLostToAStartCanBeGoneOnWith) {
  follow("first", "");
  turn_off();
  auto open = point("second", "first");
  ASSERT_TRUE(open) << why(open);
  ASSERT_EQ(virDomainCreate(witness().get()), 0);
  host().write_more(10);
  ASSERT_TRUE(replica_.apply_changes(**open)) << "torn, as it is read while the guest writes";
  ASSERT_TRUE((*open)->abandon());
  open->reset();

  const std::uint64_t newest = host().write_more(10);
  follow("third", "second");

  EXPECT_TRUE(replica_has(newest)) << "the changes since it cover what was torn";
}

TEST_F(ProductionTest, StartsAtAnyInstantStay) {
  const std::string deaf = host().deaf();
  const auto take = [&](const std::string& token, const std::string& since) {
    return platform().create_point({.vm_id = deaf, .token = token, .since = since});
  };
  std::string token;
  for (int round = 0; round < 6; ++round) {
    ASSERT_TRUE(platform().power_off(deaf));
    std::atomic<bool> stop = false;
    // Points one after the other, as fast as they can.
    std::thread points([&] {
      for (int i = 0; !stop; ++i) {
        const std::string next = "t-" + std::to_string(round) + "-" + std::to_string(i);
        auto open = take(next, token);
        if (!open) {
          const bool is_lost = code(open) == ErrorCode::kTrackingLost;
          EXPECT_TRUE(is_lost || code(open) == ErrorCode::kBusy) << why(open);
          if (is_lost) token.clear();
          continue;
        }
        for (const auto& disk : (*open)->disks()) (void)disk->allocated();
        if ((*open)->close()) {
          token = next;
        } else {
          EXPECT_TRUE((*open)->abandon());
        }
      }
    });
    wait(milliseconds(120 * round));
    const bool is_started = virDomainCreate(domain(deaf).get()) == 0;
    EXPECT_TRUE(is_started) << libvirt::libvirt_error("start").error().what;
    wait(milliseconds(400));
    stop = true;
    points.join();
    ASSERT_EQ(virDomainIsActive(domain(deaf).get()), 1) << "round " << round;
  }
  ASSERT_TRUE(platform().power_off(deaf));
  ASSERT_TRUE(platform().forget_tokens(deaf));
}

TEST_F(ProductionTest, AVmThatIsOffIsOpenedOnlyIfItChanged) {
  follow("first", "");
  turn_off();
  follow("second", "first");
  const auto scratch = [] { return host().scratch_files(); };
  EXPECT_EQ(scratch(), 0);

  auto open = point("third", "second");
  ASSERT_TRUE(open) << why(open);
  for (const auto& disk : (*open)->disks()) EXPECT_TRUE(disk->changes()->empty());
  EXPECT_EQ(scratch(), 0) << "nobody serves its images";
  ASSERT_TRUE((*open)->close());

  ASSERT_EQ(virDomainCreate(witness().get()), 0);
  const std::uint64_t newest = host().write_more(10);
  turn_off();
  follow("fourth", "third");
  EXPECT_GT(bytes_, 0U);
  EXPECT_TRUE(replica_has(newest)) << "changes of a run in between are told by the bitmap";
}

TEST_F(ProductionTest, AKilledHypervisorLeavesLostTrackingAndNotFewerChanges) {
  follow("first", "");
  turn_off();
  follow("second", "first");
  ASSERT_EQ(virDomainCreate(witness().get()), 0);
  const std::uint64_t newest = host().write_more(10);
  const pid_t pid =
      LibvirtHost::pid_of(host().connection(), host().options().root, host().witness());
  ASSERT_GT(pid, 0);
  ::kill(pid, SIGKILL);
  for (const Deadline deadline(seconds(20)); virDomainIsActive(witness().get()) == 1;) {
    ASSERT_TRUE(deadline.pause());
  }

  EXPECT_EQ(code(point("third", "second")), ErrorCode::kTrackingLost);
  auto whole = point("third");
  ASSERT_TRUE(whole) << why(whole);
  ASSERT_TRUE(replica_.copy_all(**whole));
  ASSERT_TRUE((*whole)->close());
  EXPECT_TRUE(replica_has(newest));
}

TEST_F(ProductionTest, ImagesThatWereReplacedAreLostTracking) {
  follow("first", "");
  turn_off();
  follow("second", "first");
  const std::string image = host().path("witness-a.qcow2");
  std::filesystem::copy_file(image, image + ".restored");
  std::filesystem::rename(image + ".restored", image);

  EXPECT_EQ(code(point("third", "second")), ErrorCode::kTrackingLost);
  ASSERT_EQ(virDomainCreate(witness().get()), 0);
  EXPECT_EQ(code(point("third", "second")), ErrorCode::kTrackingLost);
}

TEST_F(ProductionTest, AnImageThatAnotherToolWritesIsLeftToIt) {
  follow("first", "");
  turn_off();
  const std::string socket = host().path("tool.sock");
  const std::string image = host().path("witness-a.qcow2");
  const pid_t pid = ::fork();
  if (pid == 0) {
    ::execlp("qemu-nbd", "qemu-nbd", "--persistent", "-f", "qcow2", "-k", socket.c_str(),
             image.c_str(), nullptr);
    ::_exit(127);
  }
  for (const Deadline deadline(seconds(20)); !libvirt::has_writer(image);) {
    ASSERT_TRUE(deadline.pause());
  }

  EXPECT_EQ(code(point("second", "first")), ErrorCode::kBusy);
  ::kill(pid, SIGTERM);
  ::waitpid(pid, nullptr, 0);
  follow("second", "first");
}

TEST_F(ProductionTest, ForgottenTokensOfAVmThatIsOffMeanNothingAndItsBitmapsGoWhenItRuns) {
  follow("first", "");
  turn_off();
  ASSERT_TRUE(platform().forget_tokens(host().witness()));

  EXPECT_EQ(code(point("second", "first")), ErrorCode::kTrackingLost);
  ASSERT_EQ(virDomainCreate(witness().get()), 0);
  // By itself.
  for (const Deadline deadline(seconds(30));
       virDomainListAllCheckpoints(witness().get(), nullptr, 0) > 0;) {
    ASSERT_TRUE(deadline.pause()) << "its bitmaps stay in the image";
  }
  follow("third", "");
  const std::uint64_t newest = host().write_more(5);
  follow("fourth", "third");
  EXPECT_TRUE(replica_has(newest));
}

// Of another tool, which lets QEMU make its socket there.
std::string tool_folder() {
  const std::string folder = LibvirtHost::shared().path("tool");
  std::filesystem::create_directory(folder);
  std::filesystem::permissions(folder, std::filesystem::perms::all);
  return folder;
}

// A pull backup like that of any other tool.
std::string foreign_backup(const std::string& folder) {
  return "<domainbackup mode='pull'><server transport='unix' socket='" + folder +
         "/other.sock'/><disks><disk name='vda' backup='yes' type='file'><scratch file='" + folder +
         "/other.qcow2'/></disk><disk name='vdb' backup='no'/></disks></domainbackup>";
}

TEST_F(ProductionTest, AnotherToolsBackupGoesFirst) {
  follow("first", "");
  ASSERT_EQ(
      virDomainBackupBegin(witness().get(), foreign_backup(tool_folder()).c_str(), nullptr, 0), 0)
      << libvirt::libvirt_error("backup").error().what;

  const auto refused = point("second", "first");
  EXPECT_EQ(code(refused), ErrorCode::kBusy);
  EXPECT_THAT(why(refused), HasSubstr("another tool's backup"));
  host().restart_agent();
  EXPECT_TRUE(platform().reconcile({}));
  const std::string still = libvirt::take_text(virDomainBackupGetXMLDesc(witness().get(), 0));
  EXPECT_THAT(still, HasSubstr("other.qcow2")) << "it was not ended";
  EXPECT_EQ(platform().describe_vm(host().witness())->problem, "");

  ASSERT_EQ(virDomainAbortJob(witness().get()), 0);
  const std::uint64_t newest = host().write_more(5);
  follow("second", "first");
  EXPECT_TRUE(replica_has(newest));
}

TEST_F(ProductionTest, ABlockJobAndASnapshotGoFirst) {
  const std::string copy = host().path("copy.qcow2");
  const std::string destination =
      "<disk type='file'><source file='" + copy + "'/><driver type='qcow2'/></disk>";
  ASSERT_EQ(virDomainBlockCopy(witness().get(), "vda", destination.c_str(), nullptr, 0,
                               VIR_DOMAIN_BLOCK_COPY_TRANSIENT_JOB),
            0)
      << libvirt::libvirt_error("copy").error().what;
  const auto refused = point("first");
  EXPECT_EQ(code(refused), ErrorCode::kBusy) << why(refused);
  EXPECT_THAT(why(refused), HasSubstr("block copy of disk vda"));
  virDomainBlockJobInfo job{};
  EXPECT_EQ(virDomainGetBlockJobInfo(witness().get(), "vda", &job, 0), 1) << "it goes on";
  ASSERT_EQ(virDomainBlockJobAbort(witness().get(), "vda", 0), 0);

  const DomainHandle deaf = domain(host().deaf());
  // Checkpoints, which exclude snapshots, can be dropped while it runs only.
  ASSERT_TRUE(platform().start(host().deaf()));
  ASSERT_TRUE(platform().forget_tokens(host().deaf()));
  ASSERT_TRUE(platform().power_off(host().deaf()));
  virDomainSnapshotPtr snapshot = virDomainSnapshotCreateXML(
      deaf.get(), "<domainsnapshot><name>before-update</name></domainsnapshot>", 0);
  ASSERT_NE(snapshot, nullptr) << libvirt::libvirt_error("snapshot").error().what;
  const auto second =
      platform().create_point({.vm_id = host().deaf(), .token = "deaf-1", .since = ""});
  EXPECT_EQ(code(second), ErrorCode::kBusy) << why(second);
  EXPECT_THAT(why(second), HasSubstr("before-update"));
  ASSERT_EQ(virDomainSnapshotDelete(snapshot, 0), 0);
  virDomainSnapshotFree(snapshot);
  follow("first", "");
}

// The public reports: QEMU ends with an assertion while somebody asks about disks for which scratch
// images are being made.
TEST_F(ProductionTest, AGuestWithManyDisksOutlivesPointsWhileAToolAsksAboutThem) {
  constexpr const char* kMany = "6b0f3f0e-0000-4000-8000-000000000004";
  guest::WitnessVm many{.name = "many", .id = kMany, .guest_dir = "", .disks = {}};
  for (const char* disk : {"a", "b", "c", "d"}) {
    many.disks.push_back(host().path(std::string("many-") + disk + ".qcow2"));
  }
  host().define(many);
  ASSERT_TRUE(platform().start(kMany));
  std::atomic<bool> stop = false;
  std::atomic<int> asked = 0;
  std::thread tool([&] {
    const DomainHandle vm = domain(kMany);
    while (!stop) {
      for (const char* disk : {"vda", "vdb", "vdc", "vdd"}) {
        virDomainBlockInfo info;
        if (virDomainGetBlockInfo(vm.get(), disk, &info, 0) == 0) ++asked;
      }
    }
  });

  std::string since;
  for (int i = 0; i < 40; ++i) {
    const std::string token = "many-" + std::to_string(i);
    auto open = platform().create_point({.vm_id = kMany, .token = token, .since = since});
    EXPECT_TRUE(open) << why(open);
    if (!open) break;
    EXPECT_TRUE(platform().list_vms());
    EXPECT_TRUE((*open)->close());
    since = token;
  }
  stop = true;
  tool.join();

  EXPECT_GT(asked.load(), 40);
  EXPECT_EQ(virDomainIsActive(domain(kMany).get()), 1) << "QEMU has ended";
  ASSERT_TRUE(platform().power_off(kMany));
}

}  // namespace
}  // namespace farside::agent
