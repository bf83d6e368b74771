#include "tests/support/libvirtd/libvirtd.h"

#include <fcntl.h>
#include <fmt/core.h>
#include <sched.h>
#include <signal.h>
#include <sys/mount.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#include <array>
#include <cstdlib>
#include <fstream>
#include <iterator>
#include <utility>

#include "services/agent/platforms/deadline.h"

namespace farside {
namespace {

using agent::Deadline;
using std::chrono::seconds;

constexpr const char* kDaemon = "/usr/sbin/libvirtd";

// What the daemon takes for its own, and what it is in the folder.
constexpr std::array<std::pair<const char*, const char*>, 5> kPlaces{
    {{"etc", "/etc/libvirt"},
     {"lib", "/var/lib/libvirt"},
     {"run", "/run/libvirt"},
     {"cache", "/var/cache/libvirt"},
     {"log", "/var/log/libvirt"}}};

void write(const std::filesystem::path& path, const std::string& text) {
  std::ofstream(path, std::ios::trunc) << text;
}

std::string read(const std::filesystem::path& path) {
  std::ifstream file(path, std::ios::binary);
  return {std::istreambuf_iterator<char>(file), {}};
}

}  // namespace

std::string Libvirtd::why_not() {
  if (::access(kDaemon, X_OK) != 0) return "no libvirtd here (libvirt-daemon)";
  const pid_t pid = ::fork();
  if (pid == 0) ::_exit(::unshare(CLONE_NEWNS) == 0 ? 0 : 1);
  int status = 0;
  ::waitpid(pid, &status, 0);
  return status == 0 ? "" : "no mount namespaces here: run as root";
}

Libvirtd::Libvirtd(std::filesystem::path folder) : folder_(std::move(folder)) {
  for (const auto& [name, place] : kPlaces) {
    std::filesystem::create_directories(folder_ / name);
    std::error_code ignored;  // There may be one of the host's.
    std::filesystem::create_directories(place, ignored);
  }
  std::filesystem::create_directories(folder_ / "sock");
  write(folder_ / "etc/libvirtd.conf",
        fmt::format("unix_sock_dir = \"{0}/sock\"\nauth_unix_rw = \"none\"\n"
                    "log_outputs = \"2:file:{0}/log/libvirtd.log\"\n",
                    folder_.string()));
  // Guests run as root here because the test's files are root's, and without what a machine without
  // systemd lacks.
  write(folder_ / "etc/qemu.conf",
        "user = \"root\"\ngroup = \"root\"\nsecurity_driver = \"none\"\ndynamic_ownership = 0\n"
        "remember_owner = 0\ncgroup_controllers = []\nnamespaces = []\nstdio_handler = \"file\"\n");
}

Libvirtd::~Libvirtd() {
  kill_guests();
  thaw();
  stop();
}

void Libvirtd::become_daemon() const {
  ::prctl(PR_SET_PDEATHSIG, SIGKILL);  // A test that is killed leaves no daemon behind.
  if (::unshare(CLONE_NEWNS) != 0) ::_exit(126);
  if (::mount("none", "/", nullptr, MS_REC | MS_PRIVATE, nullptr) != 0) ::_exit(126);
  for (const auto& [name, place] : kPlaces) {
    const std::string from = folder_ / name;
    if (::mount(from.c_str(), place, nullptr, MS_BIND, nullptr) != 0) ::_exit(126);
  }
  const std::string output = folder_ / "log/output";
  const int fd = ::open(output.c_str(), O_WRONLY | O_CREAT | O_APPEND, 0600);
  ::dup2(fd, STDOUT_FILENO);
  ::dup2(fd, STDERR_FILENO);
  ::execl(kDaemon, "libvirtd", "-f", (folder_ / "etc/libvirtd.conf").c_str(), "-p",
          (folder_ / "run/libvirtd.pid").c_str(), nullptr);
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
