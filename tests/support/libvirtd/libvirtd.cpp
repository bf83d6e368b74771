#include "tests/support/libvirtd/libvirtd.h"

#include <fcntl.h>
#include <fmt/core.h>
#include <signal.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#include <array>
#include <cstdio>
#include <fstream>
#include <iterator>
#include <utility>

#include "services/agent/platforms/deadline.h"

namespace farside {
namespace {

using agent::Deadline;
using std::chrono::seconds;

std::string read(const std::filesystem::path& path) {
  std::ifstream file(path, std::ios::binary);
  return {std::istreambuf_iterator<char>(file), {}};
}

}  // namespace

std::string Libvirtd::why_not() {
  FILE* script = ::popen(FARSIDE_LIBVIRTD_SCRIPT " --why-not", "r");
  if (script == nullptr) return "no shell here";
  std::array<char, 200> line{};
  std::string text = std::fgets(line.data(), line.size(), script) == nullptr ? "" : line.data();
  ::pclose(script);
  while (text.ends_with('\n')) text.pop_back();
  return text;
}

Libvirtd::Libvirtd(std::filesystem::path folder) : folder_(std::move(folder)) {
  std::filesystem::create_directories(folder_ / "log");
}

Libvirtd::~Libvirtd() {
  kill_guests();
  thaw();
  stop();
}

void Libvirtd::become_daemon() const {
  ::prctl(PR_SET_PDEATHSIG, SIGKILL);  // A test that is killed leaves no daemon behind.
  const std::string output = folder_ / "log/output";
  const int fd = ::open(output.c_str(), O_WRONLY | O_CREAT | O_APPEND, 0600);
  ::dup2(fd, STDOUT_FILENO);
  ::dup2(fd, STDERR_FILENO);
  ::execl(FARSIDE_LIBVIRTD_SCRIPT, "libvirtd", folder_.c_str(), nullptr);
  ::_exit(127);
}

Status Libvirtd::start() {
  if (pid_ > 0) return {};
  std::error_code ignored;
  std::filesystem::remove(folder_ / "sock/libvirt-sock", ignored);
  pid_ = ::fork();
  if (pid_ == 0) become_daemon();
  // The first one asks QEMU what it can do, which takes a while.
  for (const Deadline deadline(seconds(90)); !connect();) {
    if (::waitpid(pid_, nullptr, WNOHANG) == pid_) {
      pid_ = 0;
      return fail(ErrorCode::kPlatform, "libvirtd ended: " + read(folder_ / "log/output"));
    }
    if (!deadline.pause()) return fail(ErrorCode::kTimeout, "libvirtd does not answer");
  }
  return {};
}

void Libvirtd::stop() {
  if (pid_ <= 0) return;
  ::kill(pid_, SIGTERM);
  const Deadline deadline(seconds(20));
  while (::waitpid(pid_, nullptr, WNOHANG) == 0) {
    if (!deadline.pause()) ::kill(pid_, SIGKILL);
  }
  pid_ = 0;
}

Status Libvirtd::restart() {
  stop();
  return start();
}

void Libvirtd::freeze() {
  if (pid_ > 0) ::kill(pid_, SIGSTOP);
}

void Libvirtd::thaw() {
  if (pid_ > 0) ::kill(pid_, SIGCONT);
}

std::string Libvirtd::uri() const {
  return fmt::format("qemu+unix:///system?socket={}/sock/libvirt-sock", folder_.string());
}

Result<agent::libvirt::ConnectionHandle> Libvirtd::connect() const {
  return agent::libvirt::open_connection({.uri = uri(), .root = ""});
}

pid_t Libvirtd::pid_of(const std::string& name) const {
  pid_t pid = 0;
  std::ifstream(folder_ / "run/qemu" / (name + ".pid")) >> pid;
  return pid;
}

void Libvirtd::kill_guests() const {
  std::error_code error;
  for (const auto& entry : std::filesystem::directory_iterator(folder_ / "run/qemu", error)) {
    if (entry.path().extension() != ".pid") continue;
    pid_t pid = 0;
    std::ifstream(entry.path()) >> pid;
    // The number may belong to somebody else by now.
    // Its images lie beside the daemon's folder.
    const std::string tests_folder = folder_.parent_path().string();
    if (pid > 0 && read(fmt::format("/proc/{}/cmdline", pid)).contains(tests_folder)) {
      ::kill(pid, SIGKILL);
    }
  }
}

}  // namespace farside
