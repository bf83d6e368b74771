// The agent of a Hyper-V host is killed at any instant of its work, and the host itself: the next
// agent puts in order what was left, nothing of ours stays behind, and nothing is lost.
#include <gmock/gmock.h>
#include <poll.h>
#include <signal.h>
#include <sys/wait.h>
#include <unistd.h>

#include <filesystem>
#include <functional>

#include "services/agent/platforms/hyperv/tracking.h"
#include "tests/contract/platform/hyperv_host.h"
#include "tests/contract/platform/replica.h"

namespace farside::agent {
namespace {

using testing::UnorderedElementsAreArray;

constexpr int kKills = 5;

template <class T>
std::string why(const Result<T>& result) {
  return result ? "" : to_text(result.error());
}

// An agent that does `work` again and again until it is killed.
class DoomedAgent final {
 public:
  explicit DoomedAgent(const std::function<void(Platform&, int)>& work) {
    pid_ = ::fork();
    if (pid_ != 0) return;
    static const SystemClock clock;
    const auto platform = hyperv::open_platform(HypervHost::shared().options(), clock);
    if (!platform) ::_exit(1);
    for (int round = 0;; ++round) work(**platform, round);
  }
  ~DoomedAgent() {
    ::kill(pid_, SIGKILL);
    ::waitpid(pid_, nullptr, 0);
  }
  DoomedAgent(const DoomedAgent&) = delete;
  DoomedAgent& operator=(const DoomedAgent&) = delete;

 private:
  pid_t pid_ = -1;
};

class HypervCrashTest : public testing::Test {
 protected:
  static HypervHost& host() { return HypervHost::shared(); }
  static Platform& platform() { return host().platform(); }

  void SetUp() override {
    const std::uint64_t seed = SystemRandom().next();
    RecordProperty("seed", std::to_string(seed));
    std::printf("seed %llu\n", static_cast<unsigned long long>(seed));
    random_ = std::make_unique<SeededRandom>(seed);
    ASSERT_TRUE(platform().reconcile({}));
    ASSERT_TRUE(platform().start(host().witness()));
    ASSERT_TRUE(platform().forget_tokens(host().witness()));
    host().write_more(5);
  }

  void wait_a_while() { ::poll(nullptr, 0, static_cast<int>(200 + random_->below(2500))); }

  static msg::StoredTracking tracking() {
    const auto opened = hyperv::Tracking::open(host().path("state/tracking"));
    return opened->load(host().witness()).value_or(msg::StoredTracking{});
  }

  // No checkpoint is open, and every reference point of the host is one that we know.
  static void expect_nothing_of_ours_is_left() {
    EXPECT_EQ(host().open_checkpoints(), 0U);
    std::vector<std::string> known;
    const msg::StoredTracking record = tracking();
    EXPECT_EQ(record.open.checkpoint, "");
    EXPECT_TRUE(record.dropped.empty());
    for (const auto& point : record.points) known.push_back(point.reference_point);
    EXPECT_THAT(host().ids_of("Msvm_VirtualSystemReferencePoint"),
                UnorderedElementsAreArray(known));
  }

  // A point of all, and one of what changes then, hold what the guest was told is safe.
  static void expect_the_witness_can_be_replicated() {
    Replica replica;
    auto first =
        platform().create_point({.vm_id = host().witness(), .token = "first-after-a-crash"});
    ASSERT_TRUE(first) << why(first);
    ASSERT_TRUE(replica.copy_all(**first));
    ASSERT_TRUE((*first)->abandon());
    const std::uint64_t acknowledged = host().write_more(10);
    auto second = platform().create_point({.vm_id = host().witness(),
                                           .token = "second-after-a-crash",
                                           .since = "first-after-a-crash"});
    ASSERT_TRUE(second) << why(second);
    ASSERT_TRUE(replica.apply_changes(**second));
    ASSERT_TRUE((*second)->close());
    const auto verdict = replica.check({.acknowledged = acknowledged});
    ASSERT_TRUE(verdict && verdict->ok);
  }

  std::unique_ptr<Random> random_;
};

// Points one after the other, each since the last one that is known; some are abandoned.
void take_points(Platform& platform, int round) {
  static std::string since;
  const std::string token = "round-" + std::to_string(::getpid()) + "-" + std::to_string(round);
  auto point = platform.create_point(
      {.vm_id = HypervHost::shared().witness(), .token = token, .since = since});
  if (!point) {
    since.clear();
    return;
  }
  Replica replica;
  if (!since.empty()) std::ignore = (*point)->disks()[0]->changes();
  const Status ended = round % 3 == 2 ? (*point)->abandon() : (*point)->close();
  if (ended) since = token;
}

TEST_F(HypervCrashTest, AKilledAgentLeavesNoCheckpointAndNoUnknownReferencePoint) {
  for (int kill = 0; kill < kKills; ++kill) {
    {
      const DoomedAgent agent(take_points);
      wait_a_while();
    }
    const auto reconciled = platform().reconcile({});
    ASSERT_TRUE(reconciled) << why(reconciled);

    expect_nothing_of_ours_is_left();
    for (const auto& known : tracking().points) {
      auto point = platform().create_point(
          {.vm_id = host().witness(), .token = "counts", .since = known.token});
      ASSERT_TRUE(point) << "its token is good: " << why(point);
      ASSERT_TRUE((*point)->abandon());
    }
    EXPECT_EQ(platform().describe_vm(host().witness())->state, msg::PowerState::running);
  }
  expect_the_witness_can_be_replicated();
  ASSERT_TRUE(platform().forget_tokens(host().witness()));
  EXPECT_TRUE(host().ids_of("Msvm_VirtualSystemReferencePoint").empty());
}

// No cycle comes by for an item that is paused: what its last point left is ended all the same.
TEST_F(HypervCrashTest, ACheckpointThatCouldNotBeEndedIsEndedLater) {
  auto point = platform().create_point({.vm_id = host().witness(), .token = "left"});
  ASSERT_TRUE(point) << why(point);
  host().fail_jobs(1'000);
  EXPECT_FALSE((*point)->close());
  point->reset();
  EXPECT_EQ(host().open_checkpoints(), 1U);
  ASSERT_TRUE(platform().describe_host()) << "one VM in trouble hides no host";
  EXPECT_EQ(host().open_checkpoints(), 1U);

  host().fail_jobs(0);
  // The host's part first, then the record of it.
  const auto is_ended = [] {
    return host().open_checkpoints() == 0 && tracking().open.token.empty();
  };
  for (int i = 0; i < 100 && !is_ended(); ++i) {
    ASSERT_TRUE(platform().describe_host());
    ::poll(nullptr, 0, 100);
  }

  expect_nothing_of_ours_is_left();
  expect_the_witness_can_be_replicated();
}

TEST_F(HypervCrashTest, AKilledAgentLeavesNoVmAndNoFile) {
  const std::string vms = host().file_of(R"(C:\Farside\vms)");
  for (int kill = 0; kill < kKills; ++kill) {
    {
      const DoomedAgent agent([](Platform& platform, int) {
        const NewVm vm = HypervHost::shared().new_vm("doomed");
        std::ignore = platform.create_vm(vm);
        std::ignore = platform.destroy_vm(vm.id, /*delete_overlays=*/true);
      });
      wait_a_while();
    }
    const auto reconciled = platform().reconcile({});
    ASSERT_TRUE(reconciled) << why(reconciled);

    EXPECT_TRUE(!std::filesystem::exists(vms) || std::filesystem::is_empty(vms));
    const auto left = platform().list_vms();
    ASSERT_TRUE(left) << why(left);
    EXPECT_EQ(left->size(), 2U) << "the operator's own";
  }
}

TEST_F(HypervCrashTest, AHostThatLosesPowerLosesNoWrite) {
  for (int kill = 0; kill < 3; ++kill) {
    std::uint64_t acknowledged = 0;
    {
      const DoomedAgent agent(take_points);
      wait_a_while();
      acknowledged = host().acknowledged();
      host().kill_host();
    }
    host().restart_agent();
    const auto reconciled = platform().reconcile({});
    ASSERT_TRUE(reconciled) << why(reconciled);

    expect_nothing_of_ours_is_left();
    EXPECT_EQ(platform().describe_vm(host().witness())->state, msg::PowerState::off);
    Replica replica;
    auto cold = platform().create_point({.vm_id = host().witness(), .token = "cold"});
    ASSERT_TRUE(cold) << why(cold);
    ASSERT_TRUE(replica.copy_all(**cold));
    ASSERT_TRUE((*cold)->close());
    EXPECT_TRUE(replica.check({.acknowledged = acknowledged})->ok);
    ASSERT_TRUE(platform().start(host().witness()));
    host().write_more(5);
  }
  expect_the_witness_can_be_replicated();
}

}  // namespace
}  // namespace farside::agent
