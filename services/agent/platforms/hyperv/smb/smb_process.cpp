#include "services/agent/platforms/hyperv/smb/smb_process.h"

#include <fcntl.h>
#include <poll.h>
#include <spawn.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <csignal>
#include <cstring>
#include <filesystem>

namespace farside::agent::smb {
namespace {

constexpr int kSocketInChild = 3;
constexpr int kEndsByItselfMs = 500;
constexpr int kDiesMs = 5'000;
constexpr std::size_t kReceiveBytes = 1U << 20U;

std::string default_program() {
  std::error_code error;
  const auto self = std::filesystem::read_symlink("/proc/self/exe", error);
  const std::string beside = self.parent_path().string() + "/farside-smb";
  if (::access(beside.c_str(), X_OK) == 0) return beside;
  return "/usr/lib/farside/farside-smb";
}

bool ended_within(pid_t pid, int ms) {
  const int fd = static_cast<int>(::syscall(SYS_pidfd_open, pid, 0));
  if (fd < 0) return false;
  pollfd ended{.fd = fd, .events = POLLIN, .revents = 0};
  const int result = ::poll(&ended, 1, ms);
  ::close(fd);
  return result > 0;
}

}  // namespace

Result<std::unique_ptr<SmbProcess>> SmbProcess::start(const std::string& program) {
  const std::string path = program.empty() ? default_program() : program;
  if (::access(path.c_str(), X_OK) != 0) {
    return fail(ErrorCode::kNotFound, "no program " + path + ": " + std::strerror(errno),
                "install farside-smb next to farside-agent");
  }
  std::array<int, 2> ends{};
  if (::socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, ends.data()) != 0) {
    return fail(ErrorCode::kIo, std::string("make a socket pair: ") + std::strerror(errno));
  }
  // Room for a whole read, so that the other side goes on to the next one.
  constexpr int kRoom = 4 << 20;
  for (const int end : ends) {
    ::setsockopt(end, SOL_SOCKET, SO_SNDBUF, &kRoom, sizeof kRoom);
    ::setsockopt(end, SOL_SOCKET, SO_RCVBUF, &kRoom, sizeof kRoom);
  }
  posix_spawn_file_actions_t actions;
  ::posix_spawn_file_actions_init(&actions);
  ::posix_spawn_file_actions_adddup2(&actions, ends[1], kSocketInChild);
  ::posix_spawn_file_actions_addclosefrom_np(&actions, kSocketInChild + 1);
  posix_spawnattr_t attributes;
  ::posix_spawnattr_init(&attributes);
  sigset_t none;
  sigemptyset(&none);
  ::posix_spawnattr_setsigmask(&attributes, &none);
  // In a group of its own: an interrupt at a terminal is for the agent, which then ends it.
  ::posix_spawnattr_setpgroup(&attributes, 0);
  ::posix_spawnattr_setflags(&attributes, POSIX_SPAWN_SETSIGMASK | POSIX_SPAWN_SETPGROUP);
  std::string words = path;
  std::string number = std::to_string(kSocketInChild);
  std::array<char*, 3> arguments{words.data(), number.data(), nullptr};
  pid_t pid = -1;
  const int failed =
      ::posix_spawn(&pid, path.c_str(), &actions, &attributes, arguments.data(), environ);
  ::posix_spawnattr_destroy(&attributes);
  ::posix_spawn_file_actions_destroy(&actions);
  ::close(ends[1]);
  if (failed != 0) {
    ::close(ends[0]);
    return fail(ErrorCode::kIo, "start " + path + ": " + std::strerror(failed));
  }
  ::fcntl(ends[0], F_SETFL, O_NONBLOCK);
  return std::unique_ptr<SmbProcess>(new SmbProcess(pid, ends[0]));
}

SmbProcess::~SmbProcess() {
  ::close(socket_);
  // It may be inside a request that the server does not answer.
  if (!ended_within(pid_, kEndsByItselfMs)) {
    ::kill(pid_, SIGKILL);
    if (!ended_within(pid_, kDiesMs)) return;  // In the kernel's hands; init collects it.
  }
  while (::waitpid(pid_, nullptr, 0) < 0 && errno == EINTR) {
  }
}

void SmbProcess::send(std::string frame) {
  if (queued_bytes() == 0) {
    out_ = std::move(frame);
    sent_ = 0;
  } else {
    out_ += frame;
  }
}

Result<bool> SmbProcess::pump(int timeout_ms) {
  pollfd waited{.fd = socket_,
                .events = static_cast<short>(queued_bytes() > 0 ? POLLIN | POLLOUT : POLLIN),
                .revents = 0};
  const int ready = ::poll(&waited, 1, timeout_ms);
  if (ready < 0 && errno != EINTR) {
    return fail(ErrorCode::kIo, std::string("wait for farside-smb: ") + std::strerror(errno));
  }
  if (ready <= 0) return false;
  if ((waited.revents & POLLOUT) != 0) {
    const ssize_t count = ::send(socket_, out_.data() + sent_, queued_bytes(), MSG_NOSIGNAL);
    if (count > 0) sent_ += static_cast<std::size_t>(count);
    // What it said before it died is read below.
  }
  if ((waited.revents & (POLLIN | POLLHUP | POLLERR)) != 0) {
    if (used_ > 0) {
      std::memmove(in_.data(), in_.data() + used_, have_ - used_);
      have_ -= used_;
      used_ = 0;
    }
    if (in_.size() < have_ + kReceiveBytes) in_.resize(have_ + 2 * kReceiveBytes);
    const ssize_t count = ::recv(socket_, in_.data() + have_, in_.size() - have_, 0);
    if (count == 0 || (count < 0 && errno != EAGAIN && errno != EINTR)) {
      return fail(ErrorCode::kUnavailable, "farside-smb has ended");
    }
    if (count > 0) have_ += static_cast<std::size_t>(count);
  }
  return true;
}

Result<std::optional<Numbered<Reply>>> SmbProcess::next() {
  FARSIDE_ASSIGN(const auto frame,
                 first_frame(std::string_view(in_.data() + used_, have_ - used_)));
  if (!frame) return std::nullopt;
  FARSIDE_ASSIGN(auto reply, decode_reply(*frame));
  used_ += kLengthBytes + frame->size();
  return reply;
}

}  // namespace farside::agent::smb
