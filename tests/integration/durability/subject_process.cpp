#include "tests/integration/durability/subject_process.h"

#include <fcntl.h>
#include <poll.h>
#include <spawn.h>
#include <sys/wait.h>
#include <unistd.h>

#include <array>
#include <csignal>
#include <utility>

namespace farside::durability {
namespace {

constexpr int kSilentMs = 60'000;

}  // namespace

Subject::Subject(const std::string& what, const std::string& folder, std::uint64_t seed) {
  std::array<int, 2> in{};
  std::array<int, 2> out{};
  if (::pipe2(in.data(), O_CLOEXEC) != 0 || ::pipe2(out.data(), O_CLOEXEC) != 0) return;
  in_ = in[1];
  out_ = out[0];
  posix_spawn_file_actions_t actions;
  posix_spawn_file_actions_init(&actions);
  posix_spawn_file_actions_adddup2(&actions, in[0], STDIN_FILENO);
  posix_spawn_file_actions_adddup2(&actions, out[1], STDOUT_FILENO);
  std::array<std::string, 4> words{FARSIDE_SUBJECT, what, folder, std::to_string(seed)};
  std::array<char*, 5> arguments{};
  for (std::size_t i = 0; i < words.size(); ++i) arguments[i] = words[i].data();
  if (::posix_spawn(&pid_, arguments[0], &actions, nullptr, arguments.data(), environ) != 0) {
    pid_ = -1;
  }
  posix_spawn_file_actions_destroy(&actions);
  ::close(in[0]);
  ::close(out[1]);
}

Subject::~Subject() {
  kill();
  if (in_ >= 0) ::close(in_);
  if (out_ >= 0) ::close(out_);
}

std::optional<std::string> Subject::next() {
  for (;;) {
    if (const auto end = read_.find('\n'); end != std::string::npos) {
      std::string line = read_.substr(0, end);
      read_.erase(0, end + 1);
      if (line.find_first_not_of(' ') == std::string::npos) continue;  // A cause of several lines.
      return line;
    }
    pollfd ready{.fd = out_, .events = POLLIN, .revents = 0};
    std::array<char, 4096> bytes{};
    if (::poll(&ready, 1, kSilentMs) != 1) return std::nullopt;
    const ssize_t got = ::read(out_, bytes.data(), bytes.size());
    if (got <= 0) return std::nullopt;
    read_.append(bytes.data(), static_cast<std::size_t>(got));
  }
}

void Subject::tell(const std::string& line) const {
  const std::string text = line + "\n";
  if (::write(in_, text.data(), text.size()) < 0) return;  // It has ended: next() tells.
}

void Subject::kill() {
  if (pid_ <= 0) return;
  ::kill(pid_, SIGKILL);
  ::waitpid(std::exchange(pid_, -1), nullptr, 0);
}

}  // namespace farside::durability
