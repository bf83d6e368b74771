#include "services/agent/view/view_process.h"

#include <fcntl.h>
#include <poll.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <unistd.h>

#include <array>
#include <cerrno>
#include <csignal>
#include <cstdlib>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <iterator>
#include <vector>

#include "common/base/file.h"

namespace farside::replica {
namespace {

constexpr int kStartDeadlineMs = 15'000;
constexpr int kStopDeadlineMs = 5'000;
constexpr int kTryEveryMs = 10;

bool can_connect(const std::string& socket_path) {
  const int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
  if (fd < 0) return false;
  sockaddr_un address{};
  address.sun_family = AF_UNIX;
  std::strncpy(address.sun_path, socket_path.c_str(), sizeof address.sun_path - 1);
  const bool connected =
      connect(fd, reinterpret_cast<const sockaddr*>(&address), sizeof address) == 0;
  close(fd);
  return connected;
}

std::string tail_of(const std::string& path) {
  std::ifstream in(path);
  std::string text{std::istreambuf_iterator<char>(in), std::istreambuf_iterator<char>()};
  while (text.ends_with('\n')) text.pop_back();
  return text.size() <= 500 ? text : text.substr(text.size() - 500);
}

// True once the process is gone.
bool await_end(int pid, int deadline_ms) {
  const int fd = static_cast<int>(syscall(SYS_pidfd_open, pid, 0));
  if (fd < 0) return errno == ESRCH;
  pollfd ended{.fd = fd, .events = POLLIN, .revents = 0};
  const int result = poll(&ended, 1, deadline_ms);
  close(fd);
  return result > 0;
}

}  // namespace

std::string ViewProcess::path(const char* name) const {
  return files_.folder + "/views/" + files_.view + "/" + name;
}

std::optional<int> ViewProcess::pid() const {
  std::ifstream in(path("view.pid"));
  int pid = 0;
  if (!(in >> pid) || pid <= 1) return std::nullopt;
  std::ifstream line("/proc/" + std::to_string(pid) + "/cmdline");
  const std::string command{std::istreambuf_iterator<char>(line), std::istreambuf_iterator<char>()};
  const bool is_ours = command.find("nbdkit") != std::string::npos &&
                       command.find(files_.socket) != std::string::npos;
  return is_ours ? std::optional(pid) : std::nullopt;
}

Status ViewProcess::start() {
  if (is_alive() && can_connect(files_.socket)) return {};
  FARSIDE_TRY(stop());
  sockaddr_un address{};
  if (files_.socket.size() >= sizeof address.sun_path) {
    return fail(ErrorCode::kInvalidArgument,
                "socket path " + files_.socket + " is longer than a Unix socket allows",
                "give the agent a shorter run folder");
  }
  if (access(files_.plugin.c_str(), R_OK) != 0) {
    return fail(from_errno(errno, "open the view plug-in " + files_.plugin));
  }

  std::vector<std::string> arguments{"nbdkit",
                                     "--foreground",
                                     "--readonly",
                                     "--threads=16",
                                     "--unix=" + files_.socket,
                                     "--pidfile=" + path("view.pid"),
                                     files_.plugin,
                                     "folder=" + files_.folder,
                                     "index=" + path("index"),
                                     "seq=" + std::to_string(files_.seq)};
  std::vector<char*> argv;
  for (std::string& argument : arguments) argv.push_back(argument.data());
  argv.push_back(nullptr);

  const std::string log = path("view.log");
  const int log_fd = open(log.c_str(), O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0640);
  if (log_fd < 0) return fail(from_errno(errno, "open " + log));
  const int null_fd = open("/dev/null", O_RDWR | O_CLOEXEC);
  std::array<int, 2> alive{};  // Closed by the kernel when the view dies before it is ready.
  if (null_fd < 0 || pipe2(alive.data(), O_CLOEXEC) != 0) {
    const int number = errno;
    close(log_fd);
    if (null_fd >= 0) close(null_fd);
    return fail(from_errno(number, "start a view"));
  }

  // Twice forked, so that it is nobody's child and nobody has to collect it.  Between fork and exec
  // only calls that are safe there.
  const pid_t child = fork();
  if (child == 0) {
    setsid();
    const pid_t grandchild = fork();
    if (grandchild != 0) _exit(grandchild < 0 ? 1 : 0);
    sigset_t none;
    sigemptyset(&none);
    sigprocmask(SIG_SETMASK, &none, nullptr);
    dup2(null_fd, STDIN_FILENO);
    dup2(null_fd, STDOUT_FILENO);
    dup2(log_fd, STDERR_FILENO);
    dup2(alive[1], STDERR_FILENO + 1);  // Without O_CLOEXEC: nbdkit holds it until it dies.
    close_range(STDERR_FILENO + 2, ~0U, 0);
    execvp(argv[0], argv.data());
    dprintf(STDERR_FILENO, "cannot run nbdkit: %s\n", std::strerror(errno));
    _exit(127);
  }
  close(log_fd);
  close(null_fd);
  close(alive[1]);
  if (child < 0) {
    close(alive[0]);
    return fail(from_errno(errno, "start a view"));
  }
  int status = 0;
  while (waitpid(child, &status, 0) < 0 && errno == EINTR) {
  }
  const Status ready = await(alive[0]);
  close(alive[0]);
  if (ready) return {};
  const Status stopped = stop();
  return stopped ? ready : stopped;
}

Status ViewProcess::await(int alive_fd) const {
  for (int waited = 0; waited < kStartDeadlineMs; waited += kTryEveryMs) {
    if (is_alive() && can_connect(files_.socket)) return {};
    pollfd ended{.fd = alive_fd, .events = POLLIN, .revents = 0};
    if (poll(&ended, 1, kTryEveryMs) > 0) {
      const std::string words = tail_of(path("view.log"));
      const bool absent = words.find("cannot run nbdkit") != std::string::npos;
      return fail(absent ? ErrorCode::kNotFound : ErrorCode::kIo,
                  "the view " + files_.view + " of " + files_.folder + " did not start: " + words,
                  absent ? "install nbdkit" : "");
    }
  }
  return fail(ErrorCode::kTimeout, "the view " + files_.view + " of " + files_.folder +
                                       " was not ready in time: " + tail_of(path("view.log")));
}

std::string ViewProcess::last_error() const {
  std::string text = tail_of(path("view.log"));
  const auto at = text.rfind("error: ");
  if (at == std::string::npos) return {};
  text.erase(0, at + std::string_view("error: ").size());
  return text.substr(0, text.find('\n'));
}

Status ViewProcess::stop() {
  if (const auto running = pid()) {
    kill(*running, SIGTERM);
    if (!await_end(*running, kStopDeadlineMs)) {
      kill(*running, SIGKILL);
      if (!await_end(*running, kStopDeadlineMs)) {
        return fail(ErrorCode::kTimeout,
                    "view process " + std::to_string(*running) + " does not end even when killed");
      }
    }
  }
  std::error_code ignored;
  std::filesystem::remove(files_.socket, ignored);
  std::filesystem::remove(path("view.pid"), ignored);
  return {};
}

}  // namespace farside::replica
