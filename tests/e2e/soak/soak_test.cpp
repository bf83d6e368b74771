// Six guests of odd shapes under a real daemon, points of each every few seconds, a tool that asks
// libvirt all it can be asked, and an operator who saves, stops, starts, resizes and tidies up
// meanwhile.  No QEMU ends unasked, no start is undone, no command is refused for long, nothing
// hangs, and each point is a prefix of what its guest wrote.
//
// FARSIDE_SOAK_SECONDS: how long, default 180.  FARSIDE_SOAK_SEED: who does what when.
#include <fmt/core.h>
#include <gmock/gmock.h>
#include <libvirt/virterror.h>
#include <poll.h>

#include <atomic>
#include <cstdlib>
#include <deque>
#include <fstream>
#include <functional>
#include <mutex>
#include <thread>

#include "common/base/random.h"
#include "services/agent/platforms/deadline.h"
#include "services/agent/platforms/libvirt/libvirt_platform.h"
#include "services/agent/platforms/libvirt/program.h"
#include "tests/contract/platform/replica.h"
#include "tests/support/guest/domain.h"
#include "tests/support/libvirtd/libvirtd.h"
#include "tests/support/temp_folder.h"

namespace farside::agent {
namespace {

using libvirt::ConnectionHandle;
using libvirt::DomainHandle;
using std::chrono::milliseconds;
using std::chrono::seconds;
using std::chrono::steady_clock;

// A command that is refused because a point is open is repeated for so long; the machine is busy.
constexpr seconds kCommandMax(60);
constexpr seconds kPointMax(180);  // A guest that starts is left alone for up to 90 s.

std::uint64_t setting(const char* name, std::uint64_t fallback) {
  const char* text = std::getenv(name);
  return text == nullptr ? fallback : std::strtoull(text, nullptr, 10);
}

struct Guest {
  guest::WitnessVm vm;
  std::vector<std::uint64_t> disks;  // Bytes of each.
  bool has_witness = false;
  std::atomic<bool> should_run = true;
  std::atomic<int> points = 0;
  std::atomic<int> lost_tracking = 0;
  std::string last_trouble{};  // Of its own thread, until that has ended.
  std::atomic<steady_clock::rep> moved = steady_clock::now().time_since_epoch().count();
};

class Soak {
 public:
  Soak() : seed_(setting("FARSIDE_SOAK_SEED", 1)) {}
  void run();

 private:
  void define_guests();
  void start_guests();
  void define(const std::string& name, std::vector<std::uint64_t> disks, bool has_witness);
  void replicate(Guest& guest);
  void ask();
  void operate();
  void migrate_storage(Guest& guest, virDomainPtr domain, bool to_its_end);
  static void snapshot(virDomainPtr domain);
  void tell_logs() const;
  void command(const std::string& what, const std::function<int()>& call);
  bool is_over() const { return steady_clock::now() >= until_; }
  DomainHandle find(virConnectPtr connection, const Guest& guest) const {
    return DomainHandle(virDomainLookupByUUIDString(connection, guest.vm.id.c_str()));
  }
  std::string path(const std::string& name) const { return folder_ / name; }

  const std::uint64_t seed_;
  test::TempFolder folder_;
  const std::string guest_ = guest::place_guest(FARSIDE_GUEST_DIR, folder_.path());
  Libvirtd daemon_{std::filesystem::path(folder_.path()) / "d"};
  SystemClock clock_;
  std::vector<std::unique_ptr<Guest>> guests_;
  std::unique_ptr<Platform> platform_;
  steady_clock::time_point until_;
  std::atomic<int> asked_ = 0;
  std::atomic<int> commands_ = 0;
  std::atomic<int> refused_ = 0;
  std::atomic<steady_clock::rep> slowest_ = 0;
};

void Soak::define(const std::string& name, std::vector<std::uint64_t> disks, bool has_witness) {
  auto guest = std::make_unique<Guest>();
  guest->has_witness = has_witness;
  guest->vm = {.name = name,
               .id = "6b0f3f0e-0000-4000-8000-0000000000" + std::to_string(20 + guests_.size()),
               .guest_dir = has_witness ? guest_ : "",
               .disks = {}};
  if (has_witness) {
    guest->vm.serial_log = path(name + ".log");
    guest->vm.options = {{"run_id", name}, {"slots", "256"}, {"fill_mib", "1"}, {"pace_ms", "150"}};
  }
  for (std::size_t i = 0; i < disks.size(); ++i) {
    guest->vm.disks.push_back(path(name + "-" + std::to_string(i) + ".qcow2"));
    ASSERT_TRUE(guest::create_qcow2(guest->vm.disks.back(), disks[i]));
  }
  guest->disks = std::move(disks);
  guests_.push_back(std::move(guest));
}

void Soak::define_guests() {
  constexpr std::uint64_t kMiB = 1U << 20U;
  define("one", {16 * kMiB}, true);
  define("four", {8 * kMiB, 12 * kMiB, 8 * kMiB, 9 * kMiB}, true);
  define("odd", {17 * kMiB + 512 * 7, 8 * kMiB}, true);
  define("saved", {16 * kMiB}, true);
  define("idle", {64 * kMiB + 512}, false);
  define("chain", {32 * kMiB}, false);
  const std::string overlay = path("chain-overlay.qcow2");
  const auto made = libvirt::run_program({"qemu-img", "create", "-q", "-f", "qcow2", "-F", "qcow2",
                                          "-b", guests_.back()->vm.disks[0], overlay},
                                         seconds(30));
  ASSERT_TRUE(made && made->exit_code == 0);
  guests_.back()->vm.disks[0] = overlay;
  const auto connection = daemon_.connect();
  ASSERT_TRUE(connection) << to_text(connection.error());
  for (const auto& guest : guests_) {
    std::string xml = guest::to_xml(guest->vm);
    if (!guest->has_witness) {  // Whose agent would never come.
      const std::size_t from = xml.find("<channel");
      xml.erase(from, xml.find("</channel>") + std::string_view("</channel>").size() - from);
    }
    const DomainHandle domain(virDomainDefineXML(connection->get(), xml.c_str()));
    ASSERT_TRUE(domain) << libvirt::libvirt_error("define").error().what;
  }
}

void Soak::start_guests() {
  const auto connection = daemon_.connect();
  ASSERT_TRUE(connection) << to_text(connection.error());
  for (const auto& guest : guests_) {
    ASSERT_EQ(virDomainCreate(find(connection->get(), *guest).get()), 0)
        << libvirt::libvirt_error("start").error().what;
  }
}

// Points of one guest, as a source takes them.
void Soak::replicate(Guest& guest) {
  SeededRandom random(seed_ + static_cast<std::uint64_t>(guest.vm.id.back()));
  Replica replica;
  std::string since;
  for (int i = 0; !is_over(); ++i) {
    const std::string token = guest.vm.name + "-" + std::to_string(i);
    auto point = platform_->create_point({.vm_id = guest.vm.id, .token = token, .since = since});
    if (!point) {
      const ErrorCode code = point.error().code;
      guest.last_trouble = to_text(point.error());
      if (code == ErrorCode::kTrackingLost) {
        ++guest.lost_tracking;
        since.clear();
      } else {
        // A snapshot that was made in a moment without a checkpoint.
        const bool has_snapshot = guest.last_trouble.contains("has snapshots");
        EXPECT_TRUE(code == ErrorCode::kBusy || code == ErrorCode::kUnavailable || has_snapshot)
            << guest.vm.name << ": " << to_text(point.error());
      }
      ::poll(nullptr, 0, 300);
      continue;
    }
    Replica next = replica;
    const auto moved = since.empty() ? next.copy_all(**point) : next.apply_changes(**point);
    if (moved && !(*point)->is_lost() && (*point)->close()) {
      replica = std::move(next);
      since = token;
      ++guest.points;
      guest.moved = steady_clock::now().time_since_epoch().count();
      if (guest.has_witness) {
        const auto verdict = replica.check({.blank_is_ok = true});
        EXPECT_TRUE(verdict && verdict->ok)
            << guest.vm.name << " " << token << ": " << (verdict ? to_json(*verdict) : "unread");
      }
    } else {
      guest.last_trouble = moved ? "lost or not closed" : to_text(moved.error());
      (void)(*point)->abandon();
    }
    point->reset();
    ::poll(nullptr, 0, static_cast<int>(1000 + random.next() % 2000));
  }
}

// A monitoring tool.
void Soak::ask() {
  const auto connection = daemon_.connect();
  ASSERT_TRUE(connection);
  while (!is_over()) {
    virDomainStatsRecordPtr* stats = nullptr;
    if (virConnectGetAllDomainStats(connection->get(), 0, &stats,
                                    VIR_CONNECT_GET_ALL_DOMAINS_STATS_NOWAIT) >= 0) {
      virDomainStatsRecordListFree(stats);
    }
    for (const auto& guest : guests_) {
      const DomainHandle domain = find(connection->get(), *guest);
      if (!domain) continue;
      for (std::size_t i = 0; i < guest->disks.size(); ++i) {
        const std::string disk = std::string("vd") + static_cast<char>('a' + i);
        virDomainBlockInfo info;
        virDomainGetBlockInfo(domain.get(), disk.c_str(), &info, 0);
        virDomainBlockStatsStruct counts;
        virDomainBlockStats(domain.get(), disk.c_str(), &counts, sizeof(counts));
        virDomainBlockJobInfo job;
        virDomainGetBlockJobInfo(domain.get(), disk.c_str(), &job, 0);
      }
      virDomainJobInfo job;
      virDomainGetJobInfo(domain.get(), &job);
      libvirt::take_text(virDomainGetXMLDesc(domain.get(), 0));
      libvirt::take_text(virDomainBackupGetXMLDesc(domain.get(), 0));
      virDomainListAllCheckpoints(domain.get(), nullptr, 0);
      ++asked_;
    }
    (void)platform_->list_vms();
  }
}

void Soak::command(const std::string& what, const std::function<int()>& call) {
  const auto from = steady_clock::now();
  std::string words;
  for (const Deadline deadline(kCommandMax); call() != 0;) {
    words = libvirt::libvirt_error(what).error().what;
    ++refused_;
    if (!deadline.pause()) {
      ADD_FAILURE() << "refused for " << kCommandMax.count() << " s: " << words;
      return;
    }
    ::poll(nullptr, 0, 200);
  }
  ++commands_;
  slowest_ = std::max(slowest_.load(), (steady_clock::now() - from).count());
}

// Copies the first disk to another file under the running guest, which then uses that, or does not.
void Soak::migrate_storage(Guest& guest, virDomainPtr domain, bool to_its_end) {
  const std::string place = path(fmt::format("{}-{}.qcow2", guest.vm.name, commands_.load()));
  const std::string xml =
      "<disk type='file'><driver type='qcow2'/><source file='" + place + "'/></disk>";
  command("copy storage of " + guest.vm.name, [&] {
    std::filesystem::remove(place);
    return virDomainBlockCopy(domain, "vda", xml.c_str(), nullptr, 0,
                              VIR_DOMAIN_BLOCK_COPY_TRANSIENT_JOB);
  });
  const unsigned flags = to_its_end ? VIR_DOMAIN_BLOCK_JOB_ABORT_PIVOT : 0;
  command("end copy of " + guest.vm.name, [&] {
    virDomainBlockJobInfo job{};
    if (virDomainGetBlockJobInfo(domain, "vda", &job, 0) == 0) return 0;  // Already ended.
    return virDomainBlockJobAbort(domain, "vda", flags);
  });
  if (!to_its_end) std::filesystem::remove(place);
}

// It is refused as long as there are checkpoints, and does no harm where there are none.
void Soak::snapshot(virDomainPtr domain) {
  const std::unique_ptr<virDomainSnapshot, decltype(&virDomainSnapshotFree)> made(
      virDomainSnapshotCreateXML(domain, "<domainsnapshot><name>mine</name></domainsnapshot>", 0),
      virDomainSnapshotFree);
  if (made) virDomainSnapshotDelete(made.get(), 0);
}

void Soak::operate() {
  const auto connection = daemon_.connect();
  ASSERT_TRUE(connection);
  SeededRandom random(seed_);
  const auto start = [&](Guest& guest, virDomainPtr domain) {
    command("start " + guest.vm.name, [&] { return virDomainCreate(domain); });
    guest.should_run = true;
  };
  for (int round = 0; !is_over(); ++round) {
    Guest& guest = *guests_[random.next() % guests_.size()];
    const DomainHandle domain = find(connection->get(), guest);
    ASSERT_TRUE(domain);
    switch (round % 7) {
      case 0: {
        guest.should_run = false;
        command("save " + guest.vm.name, [&] { return virDomainManagedSave(domain.get(), 0); });
        ::poll(nullptr, 0, static_cast<int>(random.next() % 4000));
        EXPECT_EQ(virDomainHasManagedSaveImage(domain.get(), 0), 1) << guest.vm.name;
        start(guest, domain.get());
        break;
      }
      case 1: {
        guest.should_run = false;
        command("destroy " + guest.vm.name,
                [&] { return virDomainDestroyFlags(domain.get(), VIR_DOMAIN_DESTROY_GRACEFUL); });
        ::poll(nullptr, 0, static_cast<int>(random.next() % 6000));
        start(guest, domain.get());
        break;
      }
      case 2:
        if (guest.has_witness) break;  // Its workload knows one size.
        guest.disks[0] += 1U << 20U;
        command("resize " + guest.vm.name, [&] {
          return virDomainBlockResize(domain.get(), "vda", guest.disks[0],
                                      VIR_DOMAIN_BLOCK_RESIZE_BYTES);
        });
        break;
      case 3: {
        virDomainCheckpointPtr* list = nullptr;
        const int count = virDomainListAllCheckpoints(domain.get(), &list, 0);
        for (int i = 0; i < count; ++i) {
          // It may be gone by itself, and it may be in use: who tidies up does not insist.
          virDomainCheckpointDelete(list[i], 0);
          virDomainCheckpointFree(list[i]);
        }
        std::free(list);
        break;
      }
      case 4:
        migrate_storage(guest, domain.get(), random.next() % 2 == 0);
        break;
      case 5:
        snapshot(domain.get());
        break;
      default:
        command("suspend " + guest.vm.name, [&] { return virDomainSuspend(domain.get()); });
        ::poll(nullptr, 0, 500);
        command("resume " + guest.vm.name, [&] { return virDomainResume(domain.get()); });
    }
    ::poll(nullptr, 0, static_cast<int>(500 + random.next() % 1500));
    for (const auto& each : guests_) {
      if (!each->should_run) continue;
      EXPECT_EQ(virDomainIsActive(find(connection->get(), *each).get()), 1)
          << each->vm.name << " does not run, and nobody asked for that";
      const steady_clock::time_point moved{steady_clock::duration(each->moved.load())};
      EXPECT_LT(steady_clock::now() - moved, kPointMax) << each->vm.name << " has no new points";
    }
    if (testing::Test::HasFailure()) return;
  }
}

// What the daemon and QEMU said, for whoever looks into a failure: their folder goes.
void Soak::tell_logs() const {
  constexpr std::size_t kLinesMax = 80;
  for (const auto& entry :
       std::filesystem::recursive_directory_iterator(daemon_.folder() / "log")) {
    if (entry.path().extension() != ".log") continue;
    std::deque<std::string> lines;
    std::ifstream in(entry.path());
    for (std::string line; std::getline(in, line);) {
      // Who asks for a job that is not there is told so, a thousand times.
      if (line.contains("no domain backup job present") || line.contains(" -")) continue;
      lines.push_back(line.substr(0, 300));
      if (lines.size() > kLinesMax) lines.pop_front();
    }
    std::printf("-- %s\n", entry.path().c_str());
    for (const auto& line : lines) std::printf("%s\n", line.c_str());
  }
}

void Soak::run() {
  const auto started = daemon_.start();
  ASSERT_TRUE(started) << to_text(started.error());
  define_guests();
  if (testing::Test::HasFatalFailure()) return;
  auto opened = libvirt::open_platform({.uri = daemon_.uri(),
                                        .root = "",
                                        .host_name = "soak",
                                        .state_dir = path("state"),
                                        .scratch_dir = path("scratch"),
                                        .scratch_reserve_bytes = 16U << 20U,
                                        .domain_type = "qemu"},
                                       clock_);
  ASSERT_TRUE(opened) << to_text(opened.error());
  platform_ = std::move(*opened);
  ASSERT_TRUE(platform_->reconcile({}));
  ASSERT_TRUE(platform_->list_vms());
  start_guests();
  if (testing::Test::HasFatalFailure()) return;
  for (const auto& guest : guests_) {
    guest->moved = steady_clock::now().time_since_epoch().count();
  }
  until_ = steady_clock::now() + seconds(setting("FARSIDE_SOAK_SECONDS", 180));
  std::vector<std::jthread> threads;
  for (const auto& guest : guests_) {
    threads.emplace_back([this, raw = guest.get()] { replicate(*raw); });
  }
  threads.emplace_back([this] { ask(); });
  threads.emplace_back([this] { operate(); });
  threads.clear();

  for (const auto& guest : guests_) {
    EXPECT_GT(guest->points.load(), 2) << guest->vm.name << ": " << guest->last_trouble;
    testing::Test::RecordProperty(guest->vm.name + "_points", guest->points.load());
    std::printf("%s: %d points, tracking lost %d times\n", guest->vm.name.c_str(),
                guest->points.load(), guest->lost_tracking.load());
  }
  std::printf("asked %d times, %d commands, %d refusals, slowest command %lld ms\n", asked_.load(),
              commands_.load(), refused_.load(),
              static_cast<long long>(slowest_.load() / 1'000'000));
  EXPECT_GT(commands_.load(), 0);
  if (testing::Test::HasFailure()) tell_logs();
}

TEST(SoakTest, NothingThatOperatorsAndToolsDoMeetsPointsBadly) {
  if (const auto why_not = Libvirtd::why_not(); !why_not.empty()) GTEST_SKIP() << why_not;
  Soak().run();
}

}  // namespace
}  // namespace farside::agent
