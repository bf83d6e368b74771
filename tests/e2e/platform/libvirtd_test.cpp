// Real guests under a real daemon that is restarted, stopped and frozen while points are taken: the
// guests go on, fences hold as soon as there is anybody to hold them, and no call waits for ever.
#include <gmock/gmock.h>
#include <libvirt/virterror.h>
#include <poll.h>

#include <chrono>
#include <fstream>
#include <future>
#include <optional>

#include "services/agent/platforms/deadline.h"
#include "services/agent/platforms/libvirt/libvirt_platform.h"
#include "tests/contract/platform/replica.h"
#include "tests/support/guest/domain.h"
#include "tests/support/libvirtd/libvirtd.h"
#include "tests/support/temp_folder.h"

namespace farside::agent {
namespace {

using libvirt::ConnectionHandle;
using libvirt::DomainHandle;
using std::chrono::seconds;
using testing::HasSubstr;

constexpr const char* kWitness = "6b0f3f0e-0000-4000-8000-000000000001";
constexpr const char* kDeaf = "6b0f3f0e-0000-4000-8000-000000000002";
constexpr std::uint64_t kDiskBytes = 16U << 20U;
constexpr int kCallSeconds = 4;
// Fairness of a busy machine; what matters is that there is an end.
constexpr seconds kLongest(3 * kCallSeconds);

template <class T>
std::string why(const Result<T>& result) {
  return result ? "" : to_text(result.error());
}

template <class T>
ErrorCode code(const Result<T>& result) {
  return result ? ErrorCode{0} : result.error().code;
}

// Daemon and guests, shared by all tests: asking QEMU what it can do takes long.
struct Host {
  test::TempFolder folder;
  Libvirtd daemon{std::filesystem::path(folder.path()) / "d"};
  SystemClock clock;
  libvirt::Options options;
  std::unique_ptr<Platform> platform;
};

class LibvirtdTest : public testing::Test {
 protected:
  static void SetUpTestSuite() {
    if (!Libvirtd::why_not().empty()) return;
    host_ = new Host;
    const auto started = host_->daemon.start();
    ASSERT_TRUE(started) << why(started);
    host_->options = {.uri = host_->daemon.uri(),
                      .root = "",
                      .host_name = "test-host",
                      .state_dir = path("state"),
                      .scratch_dir = path("scratch"),
                      .scratch_reserve_bytes = 16U << 20U,
                      .guest_start_seconds = 0,
                      .call_seconds = kCallSeconds,
                      .domain_type = "qemu"};
    define({.name = "witness",
            .id = kWitness,
            .guest_dir = guest::place_guest(FARSIDE_GUEST_DIR, host_->folder.path()),
            .disks = {path("witness-a.qcow2"), path("witness-b.qcow2")},
            .serial_log = path("witness.log"),
            .options = {{"run_id", "libvirtd"}, {"slots", "512"}, {"fill_mib", "2"}}});
    define({.name = "deaf", .id = kDeaf, .guest_dir = "", .disks = {path("deaf.qcow2")}});
  }

  static void TearDownTestSuite() {
    delete host_;
    host_ = nullptr;
  }

  void SetUp() override {
    if (const auto why_not = Libvirtd::why_not(); !why_not.empty()) GTEST_SKIP() << why_not;
    host().daemon.thaw();
    ASSERT_TRUE(host().daemon.start());
    if (!host().platform) open();
    ASSERT_TRUE(answers());
    ASSERT_TRUE(platform().reconcile({}));
    ASSERT_TRUE(platform().set_fenced(kDeaf, false));
    ASSERT_TRUE(platform().start(kWitness));
    ASSERT_TRUE(platform().forget_tokens(kWitness));
    write_more(5);
  }

  static Host& host() { return *host_; }
  static Platform& platform() { return *host().platform; }
  static std::string path(const std::string& name) { return host_->folder / name; }

  static void open_again(int guest_start_seconds) {
    host().platform.reset();
    host().options.guest_start_seconds = guest_start_seconds;
    open();
  }

  static void open() {
    auto opened = libvirt::open_platform(host().options, host().clock);
    ASSERT_TRUE(opened) << why(opened);
    host().platform = std::move(*opened);
  }

  static void define(const guest::WitnessVm& vm) {
    for (const std::string& disk : vm.disks) {
      ASSERT_TRUE(guest::create_qcow2(disk, kDiskBytes));
    }
    const auto connection = host_->daemon.connect();
    ASSERT_TRUE(connection) << why(connection);
    const DomainHandle domain(virDomainDefineXML(connection->get(), guest::to_xml(vm).c_str()));
    ASSERT_TRUE(domain) << libvirt::libvirt_error("define").error().what;
  }

  // Once the daemon is back, the platform is, without being told.
  static bool answers() {
    for (const Deadline deadline(seconds(60)); !platform().list_vms();) {
      if (!deadline.pause()) return false;
    }
    return true;
  }

  static std::uint64_t acknowledged() {
    return guest::last_reported(path("witness.log"), "acknowledged");
  }

  static std::uint64_t write_more(std::uint64_t records) {
    const std::uint64_t wanted = acknowledged() + records;
    for (const Deadline deadline(seconds(90)); acknowledged() < wanted;) {
      if (!deadline.pause()) {
        ADD_FAILURE() << "the witness does not write";
        break;
      }
    }
    return acknowledged();
  }

  Result<std::unique_ptr<Point>> point(const std::string& token, const std::string& since = "") {
    return platform().create_point({.vm_id = kWitness, .token = token, .since = since});
  }

  // A point since `since`, into the replica.
  void follow(const std::string& token, const std::string& since) {
    auto next = point(token, since);
    ASSERT_TRUE(next) << why(next);
    const auto changed = replica_.apply_changes(**next);
    ASSERT_TRUE(changed) << why(changed);
    const auto closed = (*next)->close();
    ASSERT_TRUE(closed) << why(closed);
  }

  testing::AssertionResult replica_has(std::uint64_t seq) {
    const auto verdict = replica_.check({.acknowledged = seq});
    if (!verdict) return testing::AssertionFailure() << to_text(verdict.error());
    if (!verdict->ok) return testing::AssertionFailure() << to_json(*verdict);
    return testing::AssertionSuccess();
  }

  // Every call of the platform that a cycle or a report makes, while nobody answers.
  void expect_all_unavailable() {
    const auto expect = [](const char* what, const auto& call) {
      const auto from = std::chrono::steady_clock::now();
      const auto result = call();
      EXPECT_LT(std::chrono::steady_clock::now() - from, kLongest) << what;
      EXPECT_EQ(code(result), ErrorCode::kUnavailable) << what << ": " << why(result);
      EXPECT_THAT(why(result), HasSubstr("qemu+unix")) << what;
    };
    expect("describe_host", [] { return platform().describe_host(); });
    expect("list_vms", [] { return platform().list_vms(); });
    expect("describe_vm", [] { return platform().describe_vm(kWitness); });
    expect("create_point", [&] { return point("never"); });
    expect("forget_tokens", [] { return platform().forget_tokens(kWitness); });
    expect("enforce_fences", [] { return platform().enforce_fences(); });
    expect("set_fenced", [] { return platform().set_fenced(kDeaf, true); });
    expect("reconcile", [] { return platform().reconcile({}); });
    expect("power_off", [] { return platform().power_off(kDeaf); });
    expect("start", [] { return platform().start(kWitness); });
  }

  inline static Host* host_ = nullptr;
  Replica replica_;
};

TEST_F(LibvirtdTest, ARestartOfTheDaemonEndsNeitherPointsNorGuests) {
  const pid_t guest = host().daemon.pid_of("witness");
  follow("first", "");
  auto open = point("second", "first");
  ASSERT_TRUE(open) << why(open);
  write_more(5);

  ASSERT_TRUE(host().daemon.restart());
  ASSERT_TRUE(answers());
  EXPECT_EQ(platform().describe_vm(kWitness)->state, msg::PowerState::running);
  EXPECT_FALSE((*open)->is_lost());
  const auto changed = replica_.apply_changes(**open);
  ASSERT_TRUE(changed) << "QEMU serves a point whether there is a daemon or not: " << why(changed);
  const auto closed = (*open)->close();
  ASSERT_TRUE(closed) << why(closed);

  const std::uint64_t newest = write_more(5);
  follow("third", "second");
  EXPECT_TRUE(replica_has(newest));
  EXPECT_EQ(host().daemon.pid_of("witness"), guest);
}

// libvirt's log is the judge: with a point open, it would say for 30 s that it cannot take the
// guest's word that its agent has come, and end no backup job of any VM meanwhile.
TEST_F(LibvirtdTest, AGuestThatStartsHoldsUpNobody) {
  open_again(/*guest_start_seconds=*/90);
  ASSERT_TRUE(answers());
  ASSERT_TRUE(platform().power_off(kWitness));
  ASSERT_TRUE(platform().start(kWitness));

  auto first = point("start-1");
  EXPECT_EQ(code(first), ErrorCode::kBusy);
  EXPECT_THAT(why(first), HasSubstr("is starting"));
  for (const Deadline deadline(seconds(100)); !first; first = point("start-1")) {
    ASSERT_TRUE(deadline.pause()) << why(first);
  }
  ASSERT_TRUE((*first)->close());

  std::ifstream log(host().daemon.folder() / "log/libvirtd.log");
  for (std::string line; std::getline(log, line);) {
    EXPECT_FALSE(line.contains("modify migration safe")) << line;
  }
  open_again(/*guest_start_seconds=*/0);
}

TEST_F(LibvirtdTest, WithoutItsDaemonAHostSaysSoAndThenGoesOn) {
  follow("first", "");
  ASSERT_TRUE(platform().set_fenced(kDeaf, true));

  host().daemon.stop();
  ::poll(nullptr, 0, 300);
  expect_all_unavailable();
  ASSERT_TRUE(host().daemon.start());
  ASSERT_TRUE(answers());

  const std::uint64_t newest = write_more(5);
  follow("second", "first");
  EXPECT_TRUE(replica_has(newest));
}

TEST_F(LibvirtdTest, AFrozenDaemonHoldsNobodyLongerThanTheDeadlineOfACall) {
  follow("first", "");
  ASSERT_TRUE(platform().set_fenced(kDeaf, true));

  host().daemon.freeze();
  expect_all_unavailable();
  host().daemon.thaw();
  ASSERT_TRUE(answers());

  const std::uint64_t newest = write_more(5);
  follow("second", "first");
  EXPECT_TRUE(replica_has(newest));
}

TEST_F(LibvirtdTest, AnAgentStartsWithoutADaemonAndFindsItLater) {
  host().platform.reset();
  host().daemon.stop();

  open();
  EXPECT_EQ(code(platform().list_vms()), ErrorCode::kUnavailable);
  EXPECT_EQ(code(platform().reconcile({})), ErrorCode::kUnavailable);
  ASSERT_TRUE(host().daemon.start());

  ASSERT_TRUE(answers());
  EXPECT_TRUE(platform().reconcile({}));
  EXPECT_EQ(platform().describe_vm(kWitness)->state, msg::PowerState::running);
}

TEST_F(LibvirtdTest, ANetworkThatIsDefinedLaterIsKnownAtTheNextLook) {
  const auto networks = [] {
    const auto described = platform().describe_host();
    EXPECT_TRUE(described) << why(described);
    return described ? described->networks : std::vector<std::string>();
  };
  const auto plan = [] {
    NewVm vm{.shape = {.name = "new", .nics = {{.network = "later"}}},
             .id = "6b0f3f0e-0000-4000-8000-000000000009"};
    vm.shape.memory_mib = 64;
    vm.shape.processors = 1;
    return code(platform().plan_vm(vm));
  };
  host().platform.reset();
  host().daemon.stop();
  open();
  EXPECT_FALSE(platform().describe_host()) << "networks cannot be learned now";
  ASSERT_TRUE(host().daemon.start());
  ASSERT_TRUE(answers());
  EXPECT_THAT(networks(), testing::Not(testing::Contains("later")));
  EXPECT_EQ(plan(), ErrorCode::kNotFound);

  const auto operators = host().daemon.connect();
  ASSERT_TRUE(operators) << why(operators);
  const std::unique_ptr<virNetwork, libvirt::FreeHandle> later(virNetworkCreateXML(
      operators->get(),
      "<network><name>later</name><forward mode='bridge'/><bridge name='br-later'/></network>"));
  ASSERT_TRUE(later) << libvirt::libvirt_error("create a network").error().what;
  EXPECT_EQ(plan(), ErrorCode{0}) << "a plan looks for itself";
  EXPECT_THAT(networks(), testing::Contains("later"));

  ASSERT_EQ(virNetworkDestroy(later.get()), 0);
  EXPECT_THAT(networks(), testing::Not(testing::Contains("later")));
}

TEST_F(LibvirtdTest, AShutdownOutlivesTheDaemonThatItBeganWith) {
  ASSERT_TRUE(platform().start(kDeaf));
  auto down = std::async(std::launch::async, [] { return platform().shut_down(kDeaf, 20); });
  ::poll(nullptr, 0, 3000);  // The button has been pressed, in vain.
  ASSERT_TRUE(host().daemon.restart());

  const auto ended = down.get();
  ASSERT_TRUE(ended) << why(ended);
  EXPECT_TRUE(ended->was_running);
  ASSERT_TRUE(answers());
  EXPECT_EQ(platform().describe_vm(kDeaf)->state, msg::PowerState::off);
}

TEST_F(LibvirtdTest, AFencedVmThatIsStartedByHandIsTurnedOffOnceTheDaemonIsBack) {
  ASSERT_TRUE(platform().set_fenced(kDeaf, true));
  ASSERT_TRUE(platform().enforce_fences());

  host().daemon.stop();
  ::poll(nullptr, 0, 300);
  const auto away = platform().enforce_fences();
  ASSERT_FALSE(away);
  EXPECT_THAT(away.error().what, HasSubstr("cannot be checked"));
  ASSERT_TRUE(host().daemon.start());
  {
    const auto operators = host().daemon.connect();
    ASSERT_TRUE(operators) << why(operators);
    const DomainHandle deaf(virDomainLookupByUUIDString(operators->get(), kDeaf));
    ASSERT_TRUE(deaf);
    ASSERT_EQ(virDomainCreate(deaf.get()), 0);
  }
  ASSERT_TRUE(answers());

  const auto enforced = platform().enforce_fences();
  ASSERT_TRUE(enforced) << why(enforced);
  EXPECT_THAT(*enforced, testing::ElementsAre(kDeaf));
  EXPECT_EQ(platform().describe_vm(kDeaf)->state, msg::PowerState::off);
}

TEST_F(LibvirtdTest, AFenceThatCouldNotReachTheAutostartDoesSoLater) {
  const auto operators = [] { return host().daemon.connect(); };
  const auto autostart = [&](std::optional<int> wanted) {
    const auto connection = operators();
    EXPECT_TRUE(connection) << why(connection);
    const DomainHandle deaf(virDomainLookupByUUIDString(connection->get(), kDeaf));
    if (wanted) {
      EXPECT_EQ(virDomainSetAutostart(deaf.get(), *wanted), 0);
    }
    int found = -1;
    EXPECT_EQ(virDomainGetAutostart(deaf.get(), &found), 0);
    return found;
  };
  EXPECT_EQ(autostart(1), 1);

  host().daemon.stop();
  ::poll(nullptr, 0, 300);
  EXPECT_FALSE(platform().set_fenced(kDeaf, true)) << "what was not done is not told as done";
  ASSERT_TRUE(host().daemon.start());
  ASSERT_TRUE(answers());
  const auto enforced = platform().enforce_fences();
  ASSERT_TRUE(enforced) << why(enforced);

  EXPECT_EQ(autostart({}), 0);
  ASSERT_TRUE(platform().set_fenced(kDeaf, false));
  EXPECT_EQ(autostart({}), 1) << "as the operator had it";
  autostart(0);
}

TEST_F(LibvirtdTest, APointThatCouldNotBeEndedIsToldAndEndedLater) {
  const auto has_backup = [] {
    const auto connection = host().daemon.connect();
    EXPECT_TRUE(connection) << why(connection);
    const DomainHandle witness(virDomainLookupByUUIDString(connection->get(), kWitness));
    return !libvirt::take_text(virDomainBackupGetXMLDesc(witness.get(), 0)).empty();
  };
  auto open = point("first");
  ASSERT_TRUE(open) << why(open);
  ASSERT_TRUE(has_backup());

  host().daemon.freeze();
  EXPECT_EQ(code((*open)->abandon()), ErrorCode::kUnavailable);
  open->reset();
  host().daemon.thaw();
  ASSERT_TRUE(answers());

  // Nobody asks for another point: it ends by itself.
  for (const Deadline deadline(seconds(60)); has_backup();) {
    ASSERT_TRUE(deadline.pause()) << "our backup job stays for ever";
  }
  for (const Deadline deadline(seconds(60));
       !platform().describe_vm(kWitness).value_or(msg::Vm{.problem = "?"}).problem.empty();) {
    ASSERT_TRUE(deadline.pause());
  }
}

}  // namespace
}  // namespace farside::agent
