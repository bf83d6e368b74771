// The agent is killed in the middle of a point: the guest does not notice, and the next agent finds
// everything it needs.
#include <gmock/gmock.h>
#include <poll.h>
#include <signal.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#include <chrono>
#include <cstdio>
#include <filesystem>
#include <fstream>
#include <functional>
#include <sstream>

#include "common/base/random.h"
#include "tests/contract/platform/libvirt_host.h"
#include "tests/contract/platform/replica.h"

namespace farside::agent {
namespace {

// As it is left when the agent is killed within a moment that no test can hit: see
// half_begun.h.
void half_begin_a_job(const std::string& status_file) {
  std::ifstream in(status_file);
  std::stringstream text;
  text << in.rdbuf();
  std::string status = text.str();
  const std::size_t devices = status.find("<devices>");  // None has a job.
  ASSERT_NE(devices, std::string::npos) << status;
  status.insert(devices, "<job type='none' async='backup' flags='0x0' asyncStarted='1'/>");
  std::ofstream(status_file, std::ios::trunc) << status;
}

// The same of a start: QEMU's process is there, or not yet, and libvirt has not noted its number.
void half_begin_a_start(const std::string& status_file) {
  std::ifstream in(status_file);
  std::stringstream text;
  text << in.rdbuf();
  std::string status = text.str();
  const std::size_t tag = status.find("<domstatus ");
  const std::size_t devices = status.find("<devices>");
  ASSERT_LT(tag, devices) << status;
  status.insert(devices, "<job type='none' async='start' flags='0x1' asyncStarted='1'/>");
  status.replace(tag, status.find('>', tag) - tag,
                 "<domstatus state='paused' reason='starting up' pid='0'");
  std::ofstream(status_file, std::ios::trunc) << status;
}

// In a process of its own, as libvirt has one root per process, which therefore must not have been
// opened in this one: the first test.  Its exit status.
int in_a_process(const std::function<int()>& run) {
  const pid_t pid = ::fork();
  if (pid == 0) ::_exit(run());
  int status = 0;
  ::waitpid(pid, &status, 0);
  return WIFEXITED(status) ? WEXITSTATUS(status) : -1;
}

TEST(CrashTest, AJobThatWasOnlyHalfBegunDoesNotStay) {
  std::string pattern = (std::filesystem::temp_directory_path() / "farside.XXXXXX").string();
  ASSERT_NE(::mkdtemp(pattern.data()), nullptr);
  const std::filesystem::path folder = pattern;
  const int first = in_a_process([&] {
    // Without its end, which would take the folder along.
    (new LibvirtHost(folder))->write_more(20);
    return 0;
  });
  ASSERT_EQ(first, 0);
  half_begin_a_job(folder / "root/run/qemu/witness.xml");
  // QEMU had got further than libvirt's note.
  const std::string begin = "python3 " FARSIDE_HALF_BACKUP " " + pattern + "/root/lib/qemu";
  ASSERT_EQ(std::system(begin.c_str()), 0);

  const int second = in_a_process([&] {
    LibvirtHost host(folder);
    for (const char* left : {"query-jobs", "query-block-exports", "query-named-block-nodes"}) {
      const std::string told = host.ask_qemu(left);
      if (!told.empty() && !told.contains("backup") && !told.contains(".scratch")) continue;
      std::fprintf(stderr, "%s: %s\n", left, told.c_str());
      return 3;
    }
    auto point = host.platform().create_point({.vm_id = host.witness(), .token = "t", .since = ""});
    if (!point || !(*point)->close()) {
      std::fprintf(stderr, "%s\n", point ? "not closed" : to_text(point.error()).c_str());
      return 1;
    }
    host.write_more(20);
    return host.reported("witness.log", "resumed") == 0 ? 0 : 2;  // It was not started again.
  });

  EXPECT_EQ(second, 0);
}

TEST(CrashTest, AStartThatWasOnlyHalfBegunDoesNotStay) {
  for (const bool has_qemu : {true, false}) {
    std::string pattern = (std::filesystem::temp_directory_path() / "farside.XXXXXX").string();
    ASSERT_NE(::mkdtemp(pattern.data()), nullptr);
    const std::filesystem::path folder = pattern;
    const int first = in_a_process([&] {
      auto* host = new LibvirtHost(folder);
      const pid_t qemu =
          LibvirtHost::pid_of(host->connection(), host->options().root, host->witness());
      half_begin_a_start(folder / "root/run/qemu/witness.xml");
      if (!has_qemu) ::kill(qemu, SIGKILL);
      ::_exit(0);  // Before libvirt sees that and notes it.
      return 1;
    });
    ASSERT_EQ(first, 0);

    const int second = in_a_process([&] {
      LibvirtHost host(folder);
      const Status reconciled = host.platform().reconcile({});
      const auto vm = host.platform().describe_vm(host.witness());
      const Status started = host.platform().start(host.witness());
      if (reconciled && vm && vm->state == msg::PowerState::off && started) return 0;
      std::fprintf(stderr, "%s\n%s\n", vm ? "is there" : to_text(vm.error()).c_str(),
                   started ? "started" : to_text(started.error()).c_str());
      return 1;
    });

    EXPECT_EQ(second, 0) << (has_qemu ? "with" : "without") << " QEMU";
  }
}

// A VM whose start the agent was killed in is there in part: a process that waits for its parent,
// one that answers no monitor yet, one that is paused.  Whatever it is, the next agent is up soon.
TEST(CrashTest, AVmWhoseStartWasCutShortHoldsUpNobody) {
  std::string pattern = (std::filesystem::temp_directory_path() / "farside.XXXXXX").string();
  ASSERT_NE(::mkdtemp(pattern.data()), nullptr);
  const std::filesystem::path folder = pattern;
  ASSERT_EQ(in_a_process([&] {
              new LibvirtHost(folder);  // Without its end, which would take the folder along.
              return 0;
            }),
            0);
  SystemRandom random;
  const std::string proof = random.uuid();
  const char* tries = std::getenv("FARSIDE_CRASH_TRIES");
  for (int i = 0; i < (tries == nullptr ? 4 : std::atoi(tries)); ++i) {
    int ends[2];
    ASSERT_EQ(::pipe(ends), 0);
    const pid_t pid = ::fork();
    if (pid == 0) {
      LibvirtHost host(folder);
      const NewVm vm = host.new_vm("vm");
      const std::string beside = (folder / "proof").string();
      if (::write(ends[1], "y", 1) != 1) ::_exit(2);
      for (;;) std::ignore = host.platform().prove_vm(vm, proof, beside);
    }
    char ready = 0;
    ASSERT_EQ(::read(ends[0], &ready, 1), 1);
    ::close(ends[0]);
    ::close(ends[1]);
    const int after_ms = static_cast<int>(random.below(1500));
    ::poll(nullptr, 0, after_ms);
    ::kill(pid, SIGKILL);
    ::waitpid(pid, nullptr, 0);

    const auto began = std::chrono::steady_clock::now();
    const int next = in_a_process([&] {
      auto* host = new LibvirtHost(folder);
      const auto opened = std::chrono::steady_clock::now() - began;
      const Status reconciled = host->platform().reconcile({});
      const auto done = std::chrono::steady_clock::now() - began;
      std::printf("killed after %d ms: open after %.1f s, in order after %.1f s: %s\n", after_ms,
                  std::chrono::duration<double>(opened).count(),
                  std::chrono::duration<double>(done).count(),
                  reconciled ? "fine" : to_text(reconciled.error()).c_str());
      std::fflush(stdout);
      return reconciled && !host->platform().describe_vm(proof) ? 0 : 1;
    });
    EXPECT_EQ(next, 0);
  }
  ASSERT_EQ(in_a_process([&] {
              const LibvirtHost last(folder);  // It cleans up.
              return 0;
            }),
            0);
}

// Runs as the first agent; ends by being killed.
[[noreturn]] void be_the_first_agent(const std::filesystem::path& folder, int ready) {
  LibvirtHost host(folder);
  Platform& platform = host.platform();
  host.write_more(20);
  auto first = platform.create_point(
      {.vm_id = host.witness(), .token = "first", .since = "", .app_consistent = false});
  bool is_ok = first && (*first)->close();
  host.write_more(20);
  auto second = platform.create_point(
      {.vm_id = host.witness(), .token = "second", .since = "first", .app_consistent = false});
  Replica part;
  is_ok = is_ok && second && part.apply_changes(**second);
  const char answer = is_ok ? 'y' : 'n';
  if (::write(ready, &answer, 1) != 1) ::_exit(2);
  for (;;) ::pause();
}

TEST(CrashTest, AKilledAgentLeavesAWorkingGuestAndBothTokens) {
  std::string pattern = (std::filesystem::temp_directory_path() / "farside.XXXXXX").string();
  ASSERT_NE(::mkdtemp(pattern.data()), nullptr);
  const std::filesystem::path folder = pattern;
  int ends[2];
  ASSERT_EQ(::pipe(ends), 0);
  const pid_t pid = ::fork();
  if (pid == 0) be_the_first_agent(folder, ends[1]);
  ::close(ends[1]);
  char answer = 0;
  ASSERT_EQ(::read(ends[0], &answer, 1), 1);
  ::close(ends[0]);
  ASSERT_EQ(answer, 'y');

  ::kill(pid, SIGKILL);
  ::waitpid(pid, nullptr, 0);
  LibvirtHost host(folder);
  const pid_t guest = LibvirtHost::pid_of(host.connection(), host.options().root, host.witness());
  Platform& platform = host.platform();
  const auto reconciled = platform.reconcile({});

  ASSERT_TRUE(reconciled) << to_text(reconciled.error());
  EXPECT_EQ(platform.describe_vm(host.witness())->state, msg::PowerState::running);
  EXPECT_EQ(host.scratch_files(), 0);
  const std::uint64_t acknowledged = host.write_more(20);
  EXPECT_EQ(LibvirtHost::pid_of(host.connection(), host.options().root, host.witness()), guest);
  EXPECT_EQ(host.reported("witness.log", "resumed"), 0U) << "the guest was not restarted";
  for (const char* since : {"first", "second"}) {
    auto point = platform.create_point({.vm_id = host.witness(),
                                        .token = std::string("after-") + since,
                                        .since = since,
                                        .app_consistent = false});
    ASSERT_TRUE(point) << to_text(point.error());
    Replica changed;
    const auto bytes = changed.apply_changes(**point);
    ASSERT_TRUE(bytes) << to_text(bytes.error());
    EXPECT_GT(*bytes, 0U);
    ASSERT_TRUE((*point)->abandon());
  }
  auto whole = platform.create_point(
      {.vm_id = host.witness(), .token = "whole", .since = "", .app_consistent = false});
  ASSERT_TRUE(whole) << to_text(whole.error());
  Replica replica;
  ASSERT_TRUE(replica.copy_all(**whole));
  EXPECT_TRUE(replica.check({.acknowledged = acknowledged})->ok);
  ASSERT_TRUE((*whole)->close());
}

}  // namespace
}  // namespace farside::agent
