#include "tests/support/samba/samba_server.h"

#include <arpa/inet.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <poll.h>
#include <pwd.h>
#include <spawn.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>
#include <csignal>

#include <array>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <iterator>

namespace farside::test {
namespace {

constexpr const char* kSmbd = "/usr/sbin/smbd";
constexpr const char* kSmbpasswd = "/usr/bin/smbpasswd";
constexpr int kReadyMs = 20'000;
constexpr int kTryEveryMs = 20;

sockaddr_in loopback(std::uint16_t port) {
  sockaddr_in address{};
  address.sin_family = AF_INET;
  address.sin_port = htons(port);
  address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
  return address;
}

std::uint16_t free_port() {
  const int fd = ::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
  sockaddr_in address = loopback(0);
  socklen_t size = sizeof address;
  ::bind(fd, reinterpret_cast<const sockaddr*>(&address), sizeof address);
  ::getsockname(fd, reinterpret_cast<sockaddr*>(&address), &size);
  ::close(fd);
  return ntohs(address.sin_port);
}

bool takes_connections(std::uint16_t port) {
  const int fd = ::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
  const sockaddr_in address = loopback(port);
  const bool connected =
      ::connect(fd, reinterpret_cast<const sockaddr*>(&address), sizeof address) == 0;
  ::close(fd);
  return connected;
}

// Its output goes to a file together with its errors.
pid_t spawn(const std::vector<std::string>& words, int input, const std::string& output) {
  std::vector<char*> arguments;
  for (const std::string& word : words) arguments.push_back(const_cast<char*>(word.c_str()));
  arguments.push_back(nullptr);
  posix_spawn_file_actions_t actions;
  ::posix_spawn_file_actions_init(&actions);
  ::posix_spawn_file_actions_adddup2(&actions, input, STDIN_FILENO);
  ::posix_spawn_file_actions_addopen(&actions, STDOUT_FILENO, output.c_str(),
                                     O_WRONLY | O_CREAT | O_APPEND, 0600);
  ::posix_spawn_file_actions_adddup2(&actions, STDOUT_FILENO, STDERR_FILENO);
  ::posix_spawn_file_actions_addclosefrom_np(&actions, STDERR_FILENO + 1);
  posix_spawnattr_t attributes;
  ::posix_spawnattr_init(&attributes);
  ::posix_spawnattr_setpgroup(&attributes, 0);  // Its children are in it, and no one else.
  ::posix_spawnattr_setflags(&attributes, POSIX_SPAWN_SETPGROUP);
  pid_t pid = -1;
  const int failed =
      ::posix_spawn(&pid, words[0].c_str(), &actions, &attributes, arguments.data(), environ);
  ::posix_spawnattr_destroy(&attributes);
  ::posix_spawn_file_actions_destroy(&actions);
  return failed == 0 ? pid : -1;
}

std::string text_of(const std::string& path) {
  std::ifstream in(path);
  return {std::istreambuf_iterator<char>(in), std::istreambuf_iterator<char>()};
}

}  // namespace

std::string SambaServer::why_not() {
  if (::access(kSmbd, X_OK) != 0) return "samba is not installed";
  if (::geteuid() != 0) return "smbd needs root";
  return {};
}

std::string SambaServer::log() const {
  return text_of(folder_ / "log");
}

Result<std::unique_ptr<SambaServer>> SambaServer::start(SambaOptions options) {
  if (const std::string why = why_not(); !why.empty()) return fail(ErrorCode::kUnsupported, why);
  std::unique_ptr<SambaServer> server(new SambaServer(std::move(options)));
  FARSIDE_TRY(server->set_up());
  FARSIDE_TRY(server->run());
  return server;
}

Status SambaServer::set_up() {
  const passwd* runner = ::getpwuid(::geteuid());
  if (runner == nullptr) return fail(ErrorCode::kIo, "who runs this test has no name");
  const std::string me = runner->pw_name;
  // The folders of TempFolder are closed to others; smbd enters shares as those it serves.
  ::chmod(folder_.path().c_str(), 0755);
  const auto folder = [&](const char* name) {
    std::filesystem::create_directories(folder_ / name);
    return folder_ / name;
  };
  port_ = free_port();
  std::ofstream out(folder_ / "smb.conf");
  out << "[global]\n"
      << "server role = standalone server\n"
      << "workgroup = " << options_.domain << "\n"
      << "netbios name = TESTHOST\n"
      << "disable netbios = yes\n"
      << "smb ports = " << port_ << "\n"
      << "interfaces = lo\n"
      << "bind interfaces only = yes\n"
      << "server min protocol = SMB2_02\n"
      << "load printers = no\n"
      << "printcap name = /dev/null\n"
      << "disable spoolss = yes\n"
      << "private dir = " << folder("private") << "\n"
      << "lock directory = " << folder("lock") << "\n"
      << "state directory = " << folder("state") << "\n"
      << "cache directory = " << folder("cache") << "\n"
      << "pid directory = " << folder("pid") << "\n"
      << "ncalrpc dir = " << folder("ncalrpc") << "\n"
      << "binddns dir = " << folder("binddns") << "\n"
      << "passdb backend = tdbsam:" << folder("private") << "/passdb.tdb\n"
      << "username map = " << (folder_ / "users") << "\n"
      << "log file = " << (folder_ / "log") << "\n"
      << "max log size = 0\n"
      // Samba logs in only accounts that Unix knows: the user is another name of the runner.
      << "log level = 1\n";
  for (const std::string& line : options_.more) out << line << "\n";
  for (const SambaShare& share : options_.shares) {
    out << "[" << share.name << "]\n"
        << "path = " << share.folder << "\n"
        << "read only = " << (share.read_only ? "yes" : "no") << "\n"
        << "force user = " << (share.as_user.empty() ? me : share.as_user) << "\n";
    for (const std::string& line : share.more) out << line << "\n";
  }
  out.close();
  std::ofstream(folder_ / "users") << me << " = " << options_.user << "\n";
  std::ofstream(folder_ / "password") << options_.password << "\n" << options_.password << "\n";
  const int input = ::open((folder_ / "password").c_str(), O_RDONLY | O_CLOEXEC);
  const pid_t pid =
      spawn({kSmbpasswd, "-c", folder_ / "smb.conf", "-s", "-a", me}, input, folder_ / "output");
  ::close(input);
  int status = -1;
  if (pid > 0) ::waitpid(pid, &status, 0);
  std::filesystem::remove(folder_ / "password");
  if (status != 0) {
    return fail(ErrorCode::kIo, "smbpasswd failed: " + text_of(folder_ / "output"));
  }
  return {};
}

Status SambaServer::run() {
  // A pipe that nobody writes to: in the foreground smbd ends with its standard input, so also when
  // we are killed.
  std::array<int, 2> input{};
  if (::pipe2(input.data(), O_CLOEXEC) != 0) return fail(ErrorCode::kIo, "no pipe");
  pid_ = spawn({kSmbd, "-F", "--no-process-group", "-s", folder_ / "smb.conf"}, input[0],
               folder_ / "output");
  ::close(input[0]);
  input_ = input[1];
  if (pid_ < 0) return fail(ErrorCode::kIo, "smbd does not start");
  const int fd = static_cast<int>(::syscall(SYS_pidfd_open, pid_, 0));
  for (int waited = 0; waited < kReadyMs; waited += kTryEveryMs) {
    if (takes_connections(port_)) {
      ::close(fd);
      return {};
    }
    pollfd ended{.fd = fd, .events = POLLIN, .revents = 0};
    if (::poll(&ended, 1, kTryEveryMs) > 0) break;
  }
  ::close(fd);
  kill();
  return fail(ErrorCode::kTimeout,
              "smbd was not ready: " + text_of(folder_ / "output") + text_of(folder_ / "log"));
}

void SambaServer::kill() {
  if (pid_ < 0) return;
  // Its children are not ours to collect: what tells of their end is a descriptor of each.
  std::vector<pollfd> ends;
  std::ifstream children("/proc/" + std::to_string(pid_) + "/task/" + std::to_string(pid_) +
                         "/children");
  for (pid_t child = 0; children >> child;) {
    const int fd = static_cast<int>(::syscall(SYS_pidfd_open, child, 0));
    if (fd >= 0) ends.push_back({.fd = fd, .events = POLLIN, .revents = 0});
  }
  ::kill(-pid_, SIGKILL);
  ::waitpid(pid_, nullptr, 0);
  for (pollfd& end : ends) {
    ::poll(&end, 1, kReadyMs);
    ::close(end.fd);
  }
  pid_ = -1;
  ::close(input_);
}

Status SambaServer::restart() {
  kill();
  return run();
}

SambaServer::~SambaServer() {
  kill();
}

}  // namespace farside::test
