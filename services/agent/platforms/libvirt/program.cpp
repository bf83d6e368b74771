#include "services/agent/platforms/libvirt/program.h"

#include <fcntl.h>
#include <fmt/core.h>
#include <poll.h>
#include <spawn.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <csignal>
#include <cstring>

#include "services/agent/platforms/deadline.h"

extern char** environ;

namespace farside::agent::libvirt {
namespace {

constexpr std::size_t kOutputBytesMax = 64U << 10U;

void read_some(int fd, std::string& output) {
  char buffer[4096];
  for (;;) {
    const ssize_t got = ::read(fd, buffer, sizeof(buffer));
    if (got <= 0) return;
    const std::size_t room = kOutputBytesMax - std::min(kOutputBytesMax, output.size());
    output.append(buffer, std::min(room, static_cast<std::size_t>(got)));
  }
}

}  // namespace

Result<Spawned> spawn_program(std::vector<std::string> words) {
  int ends[2];
  if (::pipe2(ends, O_CLOEXEC) != 0) return fail(ErrorCode::kIo, "no pipe");
  ::fcntl(ends[0], F_SETFL, O_NONBLOCK);

  std::vector<char*> arguments;
  for (std::string& word : words) arguments.push_back(word.data());
  arguments.push_back(nullptr);
  posix_spawn_file_actions_t actions;
  posix_spawn_file_actions_init(&actions);
  posix_spawn_file_actions_addopen(&actions, STDIN_FILENO, "/dev/null", O_RDONLY, 0);
  posix_spawn_file_actions_adddup2(&actions, ends[1], STDOUT_FILENO);
  posix_spawn_file_actions_adddup2(&actions, ends[1], STDERR_FILENO);
  Spawned spawned{.pid = 0, .output_fd = ends[0]};
  const int error =
      ::posix_spawnp(&spawned.pid, arguments[0], &actions, nullptr, arguments.data(), environ);
  posix_spawn_file_actions_destroy(&actions);
  ::close(ends[1]);
  if (error == 0) return spawned;
  ::close(ends[0]);
  return fail(ErrorCode::kNotFound, fmt::format("run {}: {}", words[0], std::strerror(error)),
              fmt::format("install the package that has {}", words[0]));
}

Result<Outcome> run_program(std::vector<std::string> words, std::chrono::milliseconds deadline) {
  const std::string name = words[0];
  FARSIDE_ASSIGN(const Spawned spawned, spawn_program(std::move(words)));
  Outcome outcome;
  const Deadline until(deadline);
  int status = 0;
  while (::waitpid(spawned.pid, &status, WNOHANG) == 0) {
    read_some(spawned.output_fd, outcome.output);
    if (until.pause()) continue;
    ::kill(spawned.pid, SIGKILL);
    ::waitpid(spawned.pid, &status, 0);
    ::close(spawned.output_fd);
    return fail(ErrorCode::kTimeout, fmt::format("{} did not finish in time", name));
  }
  read_some(spawned.output_fd, outcome.output);
  ::close(spawned.output_fd);
  if (WIFEXITED(status)) outcome.exit_code = WEXITSTATUS(status);
  return outcome;
}

}  // namespace farside::agent::libvirt
